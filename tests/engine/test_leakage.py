"""What belongs to new classes leaves no trace in training."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from fgsam.engine import banks, data
from fgsam.engine.arguments import config_of_call
from fgsam.engine.checkpoint import load_checkpoint, weights_digest
from fgsam.engine.data import build_split
from fgsam.episodes.streams import generator
from fgsam.graph.graph import Graph
from fgsam.registry import METHODS
from tests.engine.tiny import OPTIONS, tiny_graph, tiny_run

FLOORS = sorted(name for name in METHODS if not METHODS.load(name).is_trained)
TRAINED = sorted(name for name in set(METHODS) - set(FLOORS) if METHODS.load(name).learns_from != "all_nodes")
"""All but the ceiling, which is taught the classes of the test on purpose."""


@pytest.fixture(autouse=True)
def same_draws(monkeypatch):
    """Splits and banks are drawn from the digest of the whole graph; here each draw is one, whatever the graph."""
    for module in (data, banks):
        monkeypatch.setattr(module, "generator", lambda purpose, *keys: generator(purpose))


def split_of(graph):
    config, _ = config_of_call(graph, options={key: value for key, value in OPTIONS.items() if key != "progress"})
    return build_split(config, graph)


@cache
def nodes_of(*parts):
    graph = tiny_graph()
    classes = [class_id for part in parts for class_id in getattr(split_of(graph), part)]
    return np.flatnonzero(np.isin(graph.labels.numpy(), classes))


def changed_graph(what, *parts):
    """The tiny graph with other labels, features or edges at the nodes of the classes of some parts."""
    graph, nodes, rng = tiny_graph(), nodes_of(*parts), np.random.default_rng(1)
    x, labels, edges = graph.x.dense().numpy().copy(), graph.labels.numpy().copy(), graph.edge_index.numpy()
    if what == "labels":
        labels[nodes] = rng.permutation(labels[nodes])
    elif what == "features":
        x[nodes] = rng.random((len(nodes), x.shape[1]))
    else:
        inside = np.isin(edges, nodes).any(0)
        new = np.stack([rng.choice(nodes, 300), rng.integers(0, graph.num_nodes, 300)])
        edges = np.concatenate([edges[:, ~inside], new], axis=1)
    changed = Graph.from_arrays(x, edges, labels, directed=False, name="tiny")
    assert changed.digest != graph.digest
    return changed


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Folder of all runs, so that the one on the tiny graph is computed once for all changes of it."""
    return tmp_path_factory.mktemp("runs")


FEW = {"num_episodes": 10, "train": {"val_episodes": 8}, "evaluate": {"num_episodes": 5}}


def trained(root, graph, method, **options):
    found = tiny_run(root, graph=graph, method=method, optimizer="fgsam_plus", **FEW, **options)
    state = load_checkpoint(found.directory / "checkpoint.fgsam")["trainer"]
    losses = [line["loss"] for line in found.history if "loss" in line]
    validations = [line["val_accuracy"] for line in found.history if "val_accuracy" in line]
    return found, weights_digest(state["method"]), losses, validations


def assert_same_training(one, other, *, with_validation):
    assert one[0].directory != other[0].directory
    assert len(one[2]) == 10
    assert one[1:3] == other[1:3]
    if with_validation:
        assert one[3] == other[3]
        assert one[0].results["val_correct"] == other[0].results["val_correct"]
        assert one[0].results["weights_digest"] == other[0].results["weights_digest"]


CHANGES = [
    ("transductive", "labels"),
    ("inductive", "labels"),
    ("inductive", "features"),
    ("inductive", "edges"),
]

each_change = pytest.mark.parametrize(("setting", "what"), CHANGES)


@each_change
@pytest.mark.parametrize("method", TRAINED)
def test_test_classes_leave_no_trace_in_training_and_validation(method, setting, what, root):
    one = trained(root, tiny_graph(), method, setting=setting)
    other = trained(root, changed_graph(what, "meta_test"), method, setting=setting)
    assert_same_training(one, other, with_validation=True)
    assert one[0].results["digests"]["data"] != other[0].results["digests"]["data"]


@each_change
@pytest.mark.parametrize("method", TRAINED)
def test_validation_classes_leave_no_trace_in_training(method, setting, what, root):
    one = trained(root, tiny_graph(), method, setting=setting)
    other = trained(root, changed_graph(what, "meta_val", "meta_test"), method, setting=setting)
    assert_same_training(one, other, with_validation=False)


@each_change
@pytest.mark.parametrize("method", FLOORS)
def test_test_classes_leave_no_trace_in_what_a_floor_chooses(method, setting, what, root):
    one, other = (
        tiny_run(root, graph=graph, method=method, setting=setting).results
        for graph in (tiny_graph(), changed_graph(what, "meta_test"))
    )
    assert one["digests"]["data"] != other["digests"]["data"]
    assert one["chosen"] == other["chosen"]
    assert one["val_correct"] == other["val_correct"]


@pytest.mark.parametrize("what", ["features", "edges"])
def test_the_changes_do_show_where_training_may_see_them(what, root):
    one = trained(root, tiny_graph(), "protonet")
    other = trained(root, changed_graph(what, "meta_test"), "protonet")
    assert one[1] != other[1]


@pytest.mark.parametrize("what", ["labels", "features", "edges"])
@pytest.mark.parametrize("method", ["protonet", "sgc_prototype"])
def test_the_test_itself_sees_the_whole_graph(method, what, root):
    one, other = (
        tiny_run(root, graph=graph, method=method, optimizer="adam", setting="inductive").results
        for graph in (tiny_graph(), changed_graph(what, "meta_test"))
    )
    assert one["test_correct"] != other["test_correct"]


@pytest.mark.parametrize("change", [{"edge_noise": 0.2}, {"support_noise": 0.5}, {"num_query": "all"}], ids=str)
def test_labels_of_test_classes_leave_no_trace_in_noise_and_other_episodes(change, root):
    one = trained(root, tiny_graph(), "protonet", **change)
    other = trained(root, changed_graph("labels", "meta_test"), "protonet", **change)
    assert_same_training(one, other, with_validation=True)


def test_predictions_see_the_whole_graph(root):
    found = tiny_run(root, method="protonet", optimizer="adam", setting="inductive")
    graph, nodes = tiny_graph(), torch.from_numpy(nodes_of("meta_test"))
    labels = graph.labels[nodes]
    predicted = found.predict(nodes[::4], labels[::4], nodes[1::4])
    assert len(set(labels.tolist())) == 3
    assert float((predicted == labels[1::4]).double().mean()) > 0.5
