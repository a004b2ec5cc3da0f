"""Promises of every named graph."""

import hashlib
import json
import os
import subprocess
import sys
from functools import cache

import pytest
import torch
import yaml

from fgsam.assets import asset_folder
from fgsam.data.card import load_card
from fgsam.data.load import load_graph
from fgsam.episodes.sampler import EpisodeSampler
from fgsam.episodes.split import ClassSplit
from fgsam.episodes.streams import generator
from fgsam.registry import DATASETS
from tests.twins.episodes import check_episode

NAMES = sorted(DATASETS)
GENERATED = {"synthetic"}


@cache
def loaded(name):
    return load_graph(name)


@pytest.fixture(params=[pytest.param(name, marks=[] if name in GENERATED else pytest.mark.dataset) for name in NAMES])
def graph(request):
    """Each named graph as it is loaded by default."""
    if request.param not in GENERATED:
        request.getfixturevalue("data_root")
    return loaded(request.param)


def test_graph_is_the_one_of_its_card(graph):
    card = load_card(graph.name)
    sizes = graph.labels[graph.labels >= 0].bincount().double()
    source, target = graph.edge_index
    assert graph.digest == card.digests["default"]
    counts = (graph.num_nodes, graph.num_edges, graph.num_features, graph.num_classes)
    assert counts == (card.num_nodes, card.num_edges, card.num_features, card.num_classes)
    shape = {"min": sizes.min().item(), "median": sizes.quantile(0.5).item(), "max": sizes.max().item()}
    assert shape == card.class_sizes
    assert int((graph.degree == 0).sum()) == card.isolated_nodes
    same = (graph.labels[source] == graph.labels[target])[source != target]
    assert same.double().mean() == pytest.approx(card.edge_homophily, abs=5e-4)


def test_graph_is_undirected_and_without_loops(graph):
    source, target = graph.edge_index
    assert not graph.is_directed
    assert (source != target).all()


def test_first_split_gives_episodes(graph):
    split = ClassSplit.load(graph.name, 0)
    for classes in (split.meta_train, split.meta_val, split.meta_test):
        sampler = EpisodeSampler(graph.labels, classes, n_way=5, k_shot=3, num_query=10)
        check_episode(sampler.draw(generator("test")), graph.labels.numpy(), set(classes), 5, 3, 10)


@pytest.mark.dataset
@pytest.mark.parametrize("name", NAMES)
def test_raw_files_are_the_known_ones(name, data_root):
    for file, digest in load_card(name).raw_files.items():
        assert hashlib.sha256((data_root / file).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("name", NAMES)
def test_card_says_everything(name):
    content = yaml.safe_load((asset_folder("datasets") / name / "card.yaml").read_text())
    assert content["name"] == name
    assert set(content) == set(load_card(name).__dict__)
    assert all(content[key] for key in ("title", "source", "licence", "citation", "known_faults"))


@pytest.mark.parametrize("name", NAMES)
def test_drawn_splits_cover_the_classes_with_the_counts_of_the_file(name):
    content = json.loads((asset_folder("datasets") / name / "splits.json").read_text())
    counts = content["counts"]
    assert sum(counts.values()) == content["num_classes"] == load_card(name).num_classes
    assert ClassSplit.names(name)[:20] == [str(i) for i in range(20)]
    drawn = [ClassSplit.load(name, i) for i in range(20)]
    for split in drawn:
        parts = {part: getattr(split, part) for part in counts}
        assert {part: len(classes) for part, classes in parts.items()} == counts
        assert sorted(sum(parts.values(), ())) == list(range(content["num_classes"]))
    assert len({split.digest for split in drawn}) == 20


def test_published_corafull_split_has_its_counts():
    split = ClassSplit.load("corafull_derived", "published")
    assert [len(part) for part in (split.meta_train, split.meta_val, split.meta_test)] == [25, 20, 25]


def test_split_files_are_what_their_script_writes(tmp_path):
    script = asset_folder("datasets") / "make_splits.py"
    (tmp_path / "make_splits.py").write_text(script.read_text())
    kept = asset_folder("datasets") / "corafull_derived" / "splits.json"
    (tmp_path / "corafull_derived").mkdir()
    (tmp_path / "corafull_derived" / "splits.json").write_bytes(kept.read_bytes())
    environment = os.environ | {"PYTHONPATH": str(script.parent.parent)}
    subprocess.run([sys.executable, str(tmp_path / "make_splits.py")], check=True, env=environment)
    for name in NAMES:
        written = (tmp_path / name / "splits.json").read_bytes()
        assert written == (asset_folder("datasets") / name / "splits.json").read_bytes()


@pytest.mark.parametrize("name", sorted(set(NAMES) - GENERATED))
def test_missing_raw_files_are_named_with_the_way_out(name, tmp_path, monkeypatch):
    monkeypatch.setenv("FGSAM_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=rf"graph '{name}' in '{tmp_path}' \(missing: .*Set dataset\.root"):
        load_graph(name)


def test_labels_are_integers_from_zero(graph):
    assert graph.labels.dtype == torch.int64
    assert graph.labels.unique().tolist() == list(range(graph.num_classes))
