"""Promises of every named graph."""

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
from functools import cache
from itertools import chain

import pytest
import torch
import yaml

from fgsam.assets import asset_folder
from fgsam.data import card as cards
from fgsam.data.card import load_card
from fgsam.data.load import load_graph
from fgsam.engine.config import load_config
from fgsam.engine.data import build_data, build_graph
from fgsam.episodes.split import PARTS, ClassSplit
from fgsam.graph.sparse import SparseMatrix
from fgsam.registry import DATASETS
from tests.data import miniature

NAMES = sorted(DATASETS)
GENERATED = {"synthetic"}
NOT_AT_HAND = {name for name in NAMES if not load_card(name).digests}
DIRECTED = {"chameleon", "squirrel", "actor", "cornell", "texas", "wisconsin"}
SPLIT = [name for name in NAMES if load_card(name).split_counts]
CONFIGS = sorted(str(path.relative_to(asset_folder("configs"))) for path in asset_folder("configs").glob("*/*.yaml"))


@cache
def loaded(name):
    return load_graph(name)


def needs_data(name):
    return pytest.param(name, marks=[] if name in GENERATED else pytest.mark.dataset)


def all_files(card):
    return [*card.files, *chain.from_iterable(card.option_files.values())]


@pytest.fixture(params=[needs_data(name) for name in NAMES if name not in NOT_AT_HAND])
def graph(request):
    """Each named graph as it is loaded by default."""
    if request.param not in GENERATED:
        request.getfixturevalue("data_root")
    return loaded(request.param)


def test_graphs_not_at_hand_are_the_known_ones():
    assert {
        "amazon_clothing", "amazon_electronics", "corafull", "fsnc_dblp", "ogbn_arxiv", "pubmed", "reddit",
        "roman_empire", "wikics",
    } == NOT_AT_HAND  # fmt: skip


def test_graph_is_the_one_of_its_card(graph):
    card = load_card(graph.name)
    labels = graph.labels.tolist()
    source, target = graph.edge_index
    counts = [labels.count(class_id) for class_id in range(card.num_classes)]
    other = source != target
    row_sizes = graph.x.rowptr.diff() if isinstance(graph.x, SparseMatrix) else graph.x.count_nonzero(dim=1)
    ends = set(source[other].tolist()) | set(target[other].tolist())
    assert graph.digest == card.digests["default"]
    assert (graph.num_nodes, graph.num_edges) == (card.num_nodes, card.num_edges)
    assert (graph.num_features, graph.num_classes) == (card.num_features, card.num_classes)
    assert counts == card.class_counts
    assert labels.count(-1) == card.unlabelled_nodes == graph.num_nodes - sum(counts)
    assert int((~other).sum()) == card.self_loops
    assert graph.num_nodes - len(ends) == card.isolated_nodes
    assert int((row_sizes == 0).sum()) == card.empty_rows


def test_summaries_of_the_card_are_those_of_the_graph(graph):
    card = load_card(graph.name)
    counts, degree = torch.tensor(card.class_counts).double(), graph.degree.double()
    sizes = {"min": counts.min().item(), "median": counts.quantile(0.5).item(), "max": counts.max().item()}
    assert card.class_sizes == sizes
    shape = {"min": degree.min().item(), "median": degree.quantile(0.5).item(), "max": degree.max().item()}
    assert {key: card.degree[key] for key in shape} == shape
    assert card.degree["mean"] == pytest.approx(degree.mean().item(), abs=5e-3)
    source, target = graph.edge_index
    known = (source != target) & (graph.labels[source] >= 0) & (graph.labels[target] >= 0)
    same = (graph.labels[source] == graph.labels[target])[known].double().mean().item()
    assert card.edge_homophily == (None if math.isnan(same) else pytest.approx(same, abs=5e-4))


def test_graph_is_undirected_and_without_loops_unless_distributed_otherwise(graph):
    source, target = graph.edge_index
    assert graph.is_directed == (graph.name in DIRECTED)
    assert bool((source == target).any()) == (graph.name in DIRECTED)


def test_labels_are_integers_from_zero(graph):
    known = graph.labels[graph.labels >= 0]
    assert graph.labels.dtype == torch.int64
    assert known.unique().tolist() == list(range(graph.num_classes))


@pytest.mark.dataset
@pytest.mark.parametrize("name", NAMES)
def test_raw_files_are_the_known_ones(name, data_root):
    card = load_card(name)
    for file, digests in card.raw_files.items():
        assert hashlib.sha256((data_root / file).read_bytes()).hexdigest() in digests
    assert sorted(card.raw_files) == sorted([] if name in NOT_AT_HAND else all_files(card))


@pytest.mark.parametrize("name", NAMES)
def test_card_says_everything(name):
    content = yaml.safe_load((asset_folder("datasets") / name / "card.yaml").read_text())
    card = load_card(name)
    assert content["name"] == name
    assert all(content[key] for key in ("title", "source", "licence", "citation", "known_faults"))
    assert (card.split_counts is None) == bool(card.no_splits)
    assert bool(card.files) == (name not in GENERATED)


@pytest.mark.parametrize("name", NAMES)
def test_every_file_can_be_fetched_or_the_card_says_why_not(name):
    card = load_card(name)
    fetched = [place for download in card.downloads for place in download.places]
    wanted = all_files(card)
    assert len(fetched) == len(set(fetched))
    assert set(fetched) <= set(wanted)
    assert (set(fetched) == set(wanted)) == (card.no_download is None)
    assert all(download.url.startswith(("https://", "http://")) for download in card.downloads)
    assert all((download.file is None) == bool(download.members) for download in card.downloads)


@pytest.mark.parametrize("name", SPLIT)
def test_drawn_splits_divide_large_classes_by_the_counts_of_the_card(name):
    content = json.loads((asset_folder("datasets") / name / "splits.json").read_text())
    card = load_card(name)
    assert content["counts"] == card.split_counts
    assert content["num_classes"] == card.num_classes
    drawn = [ClassSplit.load(name, number) for number in ClassSplit.names(name) if number.isdigit()]
    sizes = card.class_counts or [card.min_class_size] * card.num_classes
    for split in drawn:
        assert {part: len(getattr(split, part)) for part in PARTS} == card.split_counts
        assert all(sizes[class_id] >= card.min_class_size for part in PARTS for class_id in getattr(split, part))
    usable = sum(size >= card.min_class_size for size in sizes)
    train, val, test = card.split_counts.values()
    ways = math.comb(usable, train) * math.comb(usable - train, val) * math.comb(usable - train - val, test)
    assert len({split.digest for split in drawn}) == len(drawn) == min(20, ways)


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(SPLIT)))
def test_graph_without_splits_says_why(name):
    with pytest.raises(ValueError, match=rf"class splits \(got '{name}'\)\. It has [23] classes, too few"):
        ClassSplit.load(name)


@pytest.mark.parametrize(
    ("name", "published", "counts"),
    [
        ("corafull", ["published"], [25, 20, 25]),
        ("corafull_derived", ["published"], [25, 20, 25]),
        ("fsnc_dblp", ["published"], [80, 27, 30]),
        ("amazon_electronics", ["published"], [91, 36, 40]),
        ("ogbn_arxiv", ["published"], [15, 5, 20]),
        ("email", [f"published_{i}" for i in range(10)], [15, 6, 7]),
    ],
)
def test_published_splits_have_their_counts(name, published, counts):
    assert ClassSplit.names(name)[20:] == published
    for number in published:
        split = ClassSplit.load(name, number)
        assert [len(getattr(split, part)) for part in PARTS] == counts
        assert sorted(sum((getattr(split, part) for part in PARTS), ())) == list(range(load_card(name).num_classes))


def test_splits_of_amazon_clothing_keep_the_published_test_classes():
    (test,) = {ClassSplit.load("amazon_clothing", i).meta_test for i in range(20)}
    assert test == (2, 9, 11, 14, 20, 22, 25, 28, 30, 31, 38, 41, 46, 48, 51, 54, 55, 61, 62, 65)


@pytest.mark.dataset
def test_split_files_are_what_their_script_writes(tmp_path, data_root):
    datasets = asset_folder("datasets")
    (tmp_path / "make_splits.py").write_text((datasets / "make_splits.py").read_text())
    environment = os.environ | {"PYTHONPATH": str(datasets.parent)}
    command = [sys.executable, str(tmp_path / "make_splits.py"), str(data_root / "class_splits")]
    subprocess.run(command, check=True, env=environment)
    for name in NAMES:
        written = (tmp_path / name / "splits.json").read_bytes()
        assert written == (datasets / name / "splits.json").read_bytes()


@pytest.mark.dataset
def test_cards_and_table_are_what_their_script_writes(tmp_path, data_root):
    datasets, names = asset_folder("datasets"), ["clothing20", "cora", "cornell", "nell"]
    shutil.copytree(datasets, tmp_path / "datasets")
    for name in names:
        path = tmp_path / "datasets" / name / "card.yaml"
        path.write_text(path.read_text().replace("num_nodes: ", "num_nodes: 1"))
    environment = os.environ | {"PYTHONPATH": str(datasets.parent)}
    script = tmp_path / "datasets" / "make_cards.py"
    subprocess.run([sys.executable, str(script), *names], check=True, env=environment, capture_output=True)
    for file in [*(f"{name}/card.yaml" for name in names), "README.md"]:
        assert (tmp_path / "datasets" / file).read_text() == (datasets / file).read_text()


@pytest.mark.parametrize("name", sorted(set(NAMES) - GENERATED))
def test_missing_raw_files_are_named_with_the_way_out(name, tmp_path, monkeypatch):
    monkeypatch.setenv("FGSAM_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=rf"graph '{name}' \(missing: .*fgsam data get {name}'"):
        load_graph(name)


def settings_of(config):
    """Every split of a config's graph, with banks of two episodes."""
    name = load_config(config.removesuffix(".yaml")).dataset.name
    small = ["train.val_episodes=2", "evaluate.num_episodes=2"]
    for split in ClassSplit.names(name):
        yield split, load_config(config.removesuffix(".yaml"), [*small, f"dataset.split={split}"])


def assert_whole(data, split, config):
    """The parts of a split are there with their episodes, and no class was left out."""
    assert data.split == ClassSplit.load(config.dataset.name, split)
    assert data.sampler.classes == data.split.meta_train
    val_classes = data.split.meta_val or data.split.meta_train
    for bank, classes in ((data.val_bank, val_classes), (data.test_bank, data.split.meta_test)):
        assert len(bank) == 2
        assert set(bank.classes.flatten().tolist()) <= set(classes)
        assert bank.n_way <= len(classes)
    sizes = data.graph.labels[data.graph.labels >= 0].bincount()
    needed = config.episode.k_shot + config.episode.num_query
    assert all(sizes[list(getattr(data.split, part))].min() >= needed for part in PARTS if getattr(data.split, part))


def test_every_graph_with_splits_has_a_config():
    graphs = {config.split("/")[0] for config in CONFIGS}
    assert graphs - {"compare", "node_classification"} == set(SPLIT)


@pytest.mark.parametrize("config", [c for c in CONFIGS if c.split("/")[0] in set(SPLIT) - NOT_AT_HAND - GENERATED])
@pytest.mark.dataset
def test_every_setting_and_split_can_be_built(config, data_root):
    graph = None
    for split, settings in settings_of(config):
        graph = graph or build_graph(settings)  # one for all splits
        assert graph.digest == load_card(graph.name).digests["default"]
        assert_whole(build_data(settings, graph), split, settings)


@pytest.mark.parametrize("config", [c for c in CONFIGS if c.split("/")[0] in GENERATED])
def test_every_generated_setting_and_split_can_be_built(config):
    for split, settings in settings_of(config):
        assert_whole(build_data(settings, loaded(settings.dataset.name)), split, settings)


@pytest.mark.parametrize("config", [c for c in CONFIGS if c.split("/")[0] in NOT_AT_HAND])
def test_every_setting_and_split_can_be_built_from_small_files(config, tmp_path, monkeypatch):
    name = config.split("/")[0]
    card = load_card(name)
    content = miniature.content(16 * card.num_classes, 5, card.num_classes)
    miniature.write(name, tmp_path, content)
    folder = tmp_path / "cards"
    (folder / name).mkdir(parents=True)
    text = yaml.safe_load((asset_folder("datasets") / name / "card.yaml").read_text())
    text |= {"num_nodes": 16 * card.num_classes, "num_edges": None, "num_features": 5}
    (folder / name / "card.yaml").write_text(yaml.safe_dump(text))
    monkeypatch.setattr(cards, "asset_folder", lambda kind: folder)
    graph = load_graph(name, root=tmp_path)
    for split, settings in settings_of(config):
        assert_whole(build_data(settings, graph), split, settings)
