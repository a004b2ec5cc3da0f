"""Every raw format, with small files that are written here: what is read, and what happens when they are damaged."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch_geometric import datasets

from fgsam.assets import asset_folder
from fgsam.data import card as cards
from fgsam.data import named
from fgsam.data.load import load_graph
from fgsam.graph.sparse import SparseMatrix
from fgsam.registry import DATASETS
from tests.data import miniature
from tests.data.miniature import FORMATS, Content, both

DIRECTED = {"texas", "cornell", "actor", "ogbn_arxiv"}
NUM_DAMAGES = 50


@pytest.fixture
def own_cards(tmp_path, monkeypatch):
    """Cards that may be rewritten, and no cache."""
    folder = tmp_path / "cards"
    shutil.copytree(asset_folder("datasets"), folder)
    monkeypatch.setattr(cards, "asset_folder", lambda kind: folder)
    monkeypatch.setattr(named, "cached", lambda name, paths, options, parse: parse())
    return folder


def rewrite(folder: Path, name: str, **changes: object) -> None:
    path = folder / name / "card.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))


def counts_of(graph) -> dict[str, int]:
    return {count: getattr(graph, count) for count in ("num_nodes", "num_edges", "num_features", "num_classes")}


def content_for(name: str) -> Content:
    return miniature.content(left_out=miniature.LEFT_OUT if name == "pubmed" else None)


def expected_from(name: str, graph: Content) -> Content:
    """What has to be read from the files that hold some content."""
    x, edges, labels = graph.x, graph.edges, graph.labels.copy()
    if name in ("fsnc_dblp", "amazon_clothing", "amazon_electronics"):
        x, labels[5] = np.where(np.arange(len(x))[:, None] == 5, 0, x), -1
    if name == "clothing20":
        kept = np.flatnonzero(labels >= 2)
        inside = np.isin(edges, kept).all(axis=0)
        x, labels, edges = x[kept], labels[kept] - 2, np.searchsorted(kept, edges[:, inside])
    return Content(x, edges if name in DIRECTED else both(edges), labels)


def written(name: str, root: Path, folder: Path) -> list[Path]:
    """Write the files and a card without a digest, whose counts fit."""
    expected = expected_from(name, content_for(name))
    counts = {"num_nodes": len(expected.x), "num_edges": expected.edges.shape[1], "num_features": expected.x.shape[1]}
    rewrite(folder, name, **counts, num_classes=int(expected.labels.max()) + 1, digests={}, raw_files={})
    return miniature.write(name, root, content_for(name))


def dense(x) -> np.ndarray:
    return x.scipy().toarray() if isinstance(x, SparseMatrix) else x.numpy()


@pytest.mark.parametrize("name", FORMATS)
def test_files_are_read_as_they_were_written(name, tmp_path, own_cards):
    written(name, tmp_path, own_cards)
    graph, expected = load_graph(name, root=tmp_path), expected_from(name, content_for(name))
    assert np.array_equal(dense(graph.x), expected.x)
    assert np.array_equal(graph.labels.numpy(), expected.labels)
    assert graph.num_edges == expected.edges.shape[1]
    pairs = {tuple(pair) for pair in graph.edge_index.T.tolist()}
    assert pairs == {tuple(pair) for pair in expected.edges.T.tolist()}
    assert graph.name == name


PYG = {
    "corafull": ("citation_full", lambda root: datasets.CitationFull(root, "Cora")),
    "roman_empire": ("heterophilous", lambda root: datasets.HeterophilousGraphDataset(root, "Roman-empire")),
    "reddit": ("reddit", datasets.Reddit),
    "wikics": ("wikics", lambda root: datasets.WikiCS(root, is_undirected=True)),
}


@pytest.mark.parametrize("name", PYG)
def test_pytorch_geometric_reads_the_same_from_these_files(name, tmp_path, own_cards):
    written(name, tmp_path, own_cards)
    folder, read = PYG[name]
    graph, data = load_graph(name, root=tmp_path), read(str(tmp_path / folder))[0]
    assert np.array_equal(dense(graph.x), data.x.numpy())
    assert torch.equal(graph.labels, data.y)
    theirs, ours = (edges[0] * graph.num_nodes + edges[1] for edges in (data.edge_index, graph.edge_index))
    assert torch.equal(theirs.sort().values, ours.sort().values)


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"clothing20", "ogbn_arxiv"}))
def test_direction_can_be_chosen(name, tmp_path, own_cards):
    written(name, tmp_path, own_cards)
    undirected = load_graph(name, root=tmp_path, symmetrise=True)
    assert not undirected.is_directed
    assert load_graph(name, root=tmp_path, symmetrise=False).num_edges <= undirected.num_edges


def test_node_in_no_table_has_no_class(tmp_path, own_cards):
    written("fsnc_dblp", tmp_path, own_cards)
    graph = load_graph("fsnc_dblp", root=tmp_path)
    assert graph.labels[5] == -1
    assert dense(graph.x)[5].sum() == 0
    assert graph.labels[0] == 0


def test_whole_clothing_keeps_the_other_nodes(tmp_path, own_cards):
    written("clothing20", tmp_path, own_cards)
    rewrite(own_cards, "clothing20", num_nodes=24)
    graph = load_graph("clothing20", root=tmp_path, whole=True)
    labels = miniature.content().labels
    assert np.array_equal(graph.labels.numpy(), np.where(labels >= 2, labels - 2, -1))


def test_an_option_may_name_other_files(tmp_path, own_cards):
    written("cornell", tmp_path, own_cards)
    rewrite(own_cards, "cornell", num_nodes=30)
    shutil.move(tmp_path / "webkb_corrected", tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="missing: webkb_corrected/cornell"):
        load_graph("cornell", root=tmp_path)
    miniature.geom_dense(
        [tmp_path / "out1_node_feature_label.txt", tmp_path / "out1_graph_edges.txt"], miniature.content(30)
    )
    assert load_graph("cornell", root=tmp_path, as_distributed=True).num_nodes == 30


def test_tables_with_common_nodes_are_refused(tmp_path, own_cards):
    paths = written("fsnc_dblp", tmp_path, own_cards)
    paths[2].write_bytes(paths[1].read_bytes())
    with pytest.raises(ValueError, match=r"dblp_train.mat' and '.*dblp_test.mat' to hold different nodes"):
        load_graph("fsnc_dblp", root=tmp_path)


@pytest.mark.parametrize(
    ("count", "message"),
    [("num_nodes", "num_nodes 25"), ("num_edges", "num_edges"), ("num_features", "num_features 8")],
)
def test_files_with_other_counts_than_published_are_refused(count, message, tmp_path, own_cards):
    written("wikics", tmp_path, own_cards)
    card = yaml.safe_load((own_cards / "wikics" / "card.yaml").read_text())
    rewrite(own_cards, "wikics", **{count: card[count] + 1})
    with pytest.raises(ValueError, match=rf"data.json' to hold the known .* 'wikics', {message}.*data get"):
        load_graph("wikics", root=tmp_path)


def test_only_the_unknown_file_is_named(tmp_path, own_cards):
    paths = written("email", tmp_path, own_cards)
    graph = load_graph("email", root=tmp_path)
    known = {"email/graph.node": cards.file_digest(paths[0])}
    rewrite(own_cards, "email", digests={"default": graph.digest}, raw_files=known)
    assert load_graph("email", root=tmp_path).digest == graph.digest
    paths[1].write_text(paths[1].read_text() + "0\t1\n0\t2\n0\t3\n0\t4\n0\t5\n")
    with pytest.raises(ValueError, match=r"Expected '[^']*graph.edge' to hold the known content of graph 'email'"):
        load_graph("email", root=tmp_path)


def test_an_option_must_be_a_truth_value(tmp_path):
    with pytest.raises(ValueError, match=r"Expected 'whole' of graph 'clothing20' to be true or false \(got 'yes'\)"):
        load_graph("clothing20", root=tmp_path, whole="yes")
    with pytest.raises(TypeError, match=r"option of graph 'clothing20' \(got 'wole'\)\. Did you mean 'whole'"):
        load_graph("clothing20", root=tmp_path, wole=True)
    with pytest.raises(TypeError, match=r"option of graph 'cora' \(got 'whole'\)"):
        load_graph("cora", root=tmp_path, whole=True)
    with pytest.raises(FileNotFoundError, match=r"missing: webkb/cornell/raw"):
        load_graph("cornell", root=tmp_path, as_distributed=True)


def damaged(content: bytes, i: int, rng: np.random.Generator) -> bytes:
    """Cut the content, or change one bit of one byte."""
    if i < NUM_DAMAGES:
        return content[: int(rng.integers(0, len(content)))]
    place, bit = int(rng.integers(0, len(content))), 1 << int(rng.integers(0, 8))
    return content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]


def outcome(name: str, root: Path) -> tuple[str | None, str]:
    """The digest of what is read, or the message of its refusal."""
    try:
        return load_graph(name, root=root).digest, ""
    except ValueError as error:
        return None, str(error)


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"amazon_clothing", "amazon_electronics"}))
def test_damaged_files_are_refused_by_name_or_have_the_same_content(name, tmp_path, own_cards):
    paths = written(name, tmp_path, own_cards)
    digest = load_graph(name, root=tmp_path).digest
    rewrite(own_cards, name, digests={"default": digest}, raw_files={})
    rng = np.random.default_rng(5)
    num_refused = 0
    for path in paths:
        whole = path.read_bytes()
        for i in range(2 * NUM_DAMAGES):
            path.write_bytes(damaged(whole, i, rng))
            found, message = outcome(name, tmp_path)
            num_refused += found is None
            assert found in (digest, None)
            assert found or (str(path) in message and f"fgsam data get {name}" in message), message
        path.write_bytes(whole)
    assert num_refused > 1.2 * NUM_DAMAGES * len(paths)


def test_every_reader_is_tested():
    readers = {DATASETS.load(name).read for name in set(DATASETS) - {"synthetic"}}
    assert readers == {DATASETS.load(name).read for name in FORMATS}
