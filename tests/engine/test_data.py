from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from fgsam.data import own
from fgsam.data.features import with_features
from fgsam.engine.arguments import config_of_call
from fgsam.engine.config import load_config
from fgsam.engine.data import build_data, build_graph
from fgsam.episodes.split import ClassSplit
from fgsam.graph.graph import Graph
from fgsam.methods import smoothing
from fgsam.methods.smoothing import smoothed_features
from tests.engine.tiny import OPTIONS, tiny_graph

DEFAULT_BANKS = {
    "val_bank": "5e41822388ed25916d1dae7d968946449b9b2a3ae0587fcef83fee7e1f37f507",
    "test_bank": "844bbf060456284490fe879a032d8b95f5ac615def6bd2033113c4ec09668cae",
}


def data_of(graph=None, *, folder=None, **options):
    given = {key: value for key, value in OPTIONS.items() if key != "progress"}
    graph = tiny_graph() if graph is None else graph
    config, _ = config_of_call(graph, options={**given, **options})
    return build_data(config, graph, bank_folder=folder)


def graph_with_sizes(*sizes):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    nodes = np.arange(len(labels))
    return Graph.from_arrays(np.eye(len(labels)), [nodes, np.roll(nodes, 1)], labels, directed=False, name="sizes")


def test_banks_of_the_default_settings_are_what_they_always_were():
    digests = data_of().digests
    assert {part: digests[part] for part in DEFAULT_BANKS} == DEFAULT_BANKS


@pytest.mark.parametrize("change", [{"setting": "inductive"}, {"edge_noise": 0.2}, {"features": "smoothed"}], ids=str)
def test_banks_are_those_of_the_clean_whole_graph(change):
    data = data_of(**change)
    assert {part: data.digests[part] for part in DEFAULT_BANKS} == DEFAULT_BANKS
    assert data.split.digest == data_of().split.digest


def test_support_noise_changes_supports_and_nothing_else():
    clean, noisy = data_of(), data_of(support_noise=0.5)
    for part in ("val_bank", "test_bank"):
        one, other = getattr(clean, part), getattr(noisy, part)
        assert torch.equal(one.query, other.query)
        assert torch.equal(one.classes, other.classes)
        labels = tiny_graph().labels
        wrong = labels[other.support] != other.classes[:, other.support_labels]
        assert wrong.sum(-1).tolist() == [3] * len(other)
    assert clean.digests["data"] == noisy.digests["data"]
    assert noisy.digests == data_of(support_noise=0.5).digests


def test_stored_banks_are_clean_and_serve_every_noise(tmp_path):
    drawn = data_of(folder=tmp_path, support_noise=0.5).digests
    files = sorted(path.name for path in tmp_path.iterdir())
    assert data_of(folder=tmp_path).digests == data_of().digests
    assert data_of(folder=tmp_path, support_noise=0.5).digests == drawn
    assert sorted(path.name for path in tmp_path.iterdir()) == files


@pytest.mark.parametrize(
    "change",
    [{"num_query": "all"}, {"query_imbalance": 1.0}, {"without_replacement": True}, {"num_query": 5}],
    ids=str,
)
def test_banks_of_every_kind_are_stored_and_found_again(change, tmp_path):
    assert data_of(folder=tmp_path).digests
    first = data_of(folder=tmp_path, **change).digests
    files = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(files) == 4
    assert data_of(folder=tmp_path, **change).digests == data_of(**change).digests == first
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files


def test_edge_noise_is_the_same_for_every_seed_method_and_optimizer_and_for_other_labels():
    one = data_of(edge_noise=0.2).graph
    assert one.digest == data_of(edge_noise=0.2, seed=5, split=3).graph.digest
    assert one.digest != tiny_graph().digest
    graph = tiny_graph()
    relabelled = Graph(graph.x, graph.labels.roll(1), graph.adjacency, is_weighted=False, is_directed=False)
    assert torch.equal(data_of(relabelled, edge_noise=0.2).graph.edge_index, one.edge_index)


def test_inductive_training_sees_training_classes_and_validation_adds_its_own():
    data, labels = data_of(setting="inductive"), tiny_graph().labels
    seen = {
        name: set(getattr(data, name).labels.unique().tolist()) - {-1} for name in ("train_graph", "val_graph", "graph")
    }
    split = data.split
    assert seen["train_graph"] == set(split.meta_train)
    assert seen["val_graph"] == {*split.meta_train, *split.meta_val}
    assert seen["graph"] == set(range(12))
    for graph, classes in ((data.train_graph, split.meta_train), (data.val_graph, split.meta_train + split.meta_val)):
        inside = torch.isin(labels, torch.tensor(classes))
        assert bool(inside[graph.edge_index].all())
        assert not graph.x.dense()[~inside].any()
        assert torch.equal(graph.x.dense()[inside], tiny_graph().x.dense()[inside])
    assert data.digests == data_of().digests


def degrees(graph):
    return torch.bincount(graph.edge_index[1], minlength=graph.num_nodes)


@pytest.mark.parametrize("features", ["degree", None])
def test_degrees_are_those_of_the_edges_that_are_seen(features):
    bare = with_features(tiny_graph(), "degree")
    data = data_of(bare, features=features, setting="inductive", edge_noise=0.2)
    for graph in (data.train_graph, data.val_graph, data.graph):
        assert torch.allclose(graph.x[:, 1], degrees(graph).float().log1p())
    assert not torch.equal(data.train_graph.x, data.graph.x)


def test_chosen_features_take_the_place_of_those_of_a_graph():
    data = data_of(features="one_hot")
    assert data.graph.num_features == 240
    assert data.digests["val_bank"] != DEFAULT_BANKS["val_bank"]
    named, _ = config_of_call(
        {"num_nodes": 600, "num_classes": 12, "num_features": 100, "words_per_node": 20},
        options={"features": "random_walk"},
    )
    assert build_graph(named).num_features == 16


def test_smoothed_features_take_the_place_of_those_of_a_graph():
    data = data_of(features="pagerank_row_4", dtype="float64")
    expected = smoothed_features(tiny_graph(), "row", 4, 128, smoothing="pagerank")
    assert torch.equal(data.graph.x, expected.double())
    assert torch.equal(data.graph.edge_index, tiny_graph().edge_index)
    assert data.digests["data"] != data_of().digests["data"]


def test_smoothed_features_are_those_of_the_edges_that_are_seen_in_the_directions_of_training(monkeypatch):
    monkeypatch.setattr(smoothing, "PLAIN_BELOW", 20)  # features go through the SVD
    data = data_of(features="hops_sym_1", setting="inductive", edge_noise=0.2)
    plain = data_of(setting="inductive", edge_noise=0.2)
    for part in ("train_graph", "val_graph", "graph"):
        graph = getattr(plain, part)
        expected = smoothed_features(graph, "sym", 1, 128, basis=plain.train_graph)
        torch.testing.assert_close(getattr(data, part).x, expected, rtol=1e-4, atol=1e-5)
    hidden = plain.train_graph.labels < 0
    assert not data.train_graph.x[hidden].any()
    assert not torch.equal(data.val_graph.x, data.graph.x)


@pytest.mark.parametrize("features", [None, "smoothed"])
def test_transductive_graphs_are_one(features):
    data = data_of(features=features)
    assert data.graph is data.train_graph is data.val_graph


def test_unlabelled_nodes_stay_in_the_inductive_training_graph():
    graph = tiny_graph()
    labels = graph.labels.clone()
    labels[::20] = -1
    partly = Graph.from_arrays(graph.x.dense(), graph.edge_index, labels, directed=False)
    data = data_of(partly, setting="inductive")
    assert torch.equal(data.train_graph.x.dense()[::20], graph.x.dense()[::20])


def test_classes_that_are_too_small_are_left_out_by_name(monkeypatch, caplog):
    split = ClassSplit("given", (0, 1, 2), (3, 4), (5, 6, 7))
    monkeypatch.setattr("fgsam.engine.data.build_split", lambda config, graph: split)
    graph = graph_with_sizes(9, 5, 9, 9, 9, 9, 9, 4)
    with caplog.at_level(logging.WARNING):
        data = data_of(graph, n_way=2)
    assert data.sampler.classes == (0, 2)
    assert set(data.test_bank.classes.flatten().tolist()) == {5, 6}
    assert "fewer than 6 labelled nodes are left out: class 1 has 5" in caplog.text
    assert "class 7 has 4" in caplog.text
    with pytest.raises(ValueError, match=r"at least n_way=3 classes .* \(got 2; class 1 has 5\)"):
        data_of(graph, n_way=3)


def test_a_graph_with_few_classes_is_validated_on_training_classes(caplog):
    graph = graph_with_sizes(9, 9, 9, 9, 9)
    with caplog.at_level(logging.WARNING):
        data = data_of(graph, n_way=2, setting="inductive")
    assert (len(data.split.meta_train), data.split.meta_val, len(data.split.meta_test)) == (3, (), 2)
    assert set(data.val_bank.classes.flatten().tolist()) == set(data.split.meta_train)
    assert "has no validation classes: training classes choose the weights" in caplog.text
    assert data.val_graph.digest == data.train_graph.digest != data.graph.digest
    training = {tuple(data.sampler.draw(np.random.default_rng(i)).nodes.tolist()) for i in range(20)}
    assert training.isdisjoint(tuple(episode.nodes.tolist()) for episode in data.val_bank)


def test_too_few_classes_for_training_and_test_are_refused():
    with pytest.raises(ValueError, match=r"at least 2 \* n_way = 4 classes with .* = 6 nodes.* \(got 3 of 4 classes\)"):
        data_of(graph_with_sizes(9, 9, 9, 5), n_way=2)


def test_a_bank_without_replacement_needs_two_episodes():
    with pytest.raises(ValueError, match=r"2 episodes of 'val_bank' that share no node \(got 1\)\. Lower episode"):
        data_of(without_replacement=True, num_query="all")


def test_a_bank_under_the_name_of_another_is_refused(tmp_path):
    data_of(folder=tmp_path, without_replacement=True)
    (path,) = tmp_path.glob("val_bank-*.npz")
    data_of(folder=tmp_path, num_query=3, without_replacement=True)
    (other,) = set(tmp_path.glob("val_bank-*.npz")) - {path}
    path.write_bytes(other.read_bytes())
    with pytest.raises(ValueError, match=r"episodes of this run \(got \d+ of 3-way 2-shot with 3 queries"):
        data_of(folder=tmp_path, without_replacement=True)


def test_an_own_file_is_read_again_only_when_it_changes(tmp_path):
    path = tmp_path / "graph.npz"
    config = load_config(None, [f"dataset.path={path}"])
    own.save(graph_with_sizes(5, 5), path)
    first = build_graph(config)
    assert build_graph(config) is first
    own.save(graph_with_sizes(5, 5, 5), path)
    assert build_graph(config).num_classes == 3
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"graph\.npz"):
        build_graph(config)


def own_loader(root=None):
    return graph_with_sizes(5, 5)


def test_a_loader_of_the_users_own_is_called_every_time():
    config = load_config(None, [f"dataset.name={__name__}:own_loader"])
    assert build_graph(config) is not build_graph(config)
