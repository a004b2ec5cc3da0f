"""Named graphs read from the real files: what they hold, and what PyTorch Geometric makes of the same files."""

import shutil

import numpy as np
import pytest
import torch
from torch_geometric import datasets

from fgsam.data.load import load_graph
from fgsam.graph.sparse import SparseMatrix

pytestmark = pytest.mark.dataset

READ_BY_PYG = {
    "coauthor_cs": ("coauthor/CS", datasets.Coauthor, "CS"),
    "coauthor_physics": ("coauthor/Physics", datasets.Coauthor, "Physics"),
    "amazon_computers": ("amazon/Computers", datasets.Amazon, "Computers"),
    "cora_ml": ("citation_full/cora_ml", datasets.CitationFull, "Cora_ML"),
    "citation_citeseer": ("citation_full/citeseer", datasets.CitationFull, "CiteSeer"),
    "citation_dblp": ("citation_full/dblp", datasets.CitationFull, "DBLP"),
    "cora": ("planetoid/Cora", datasets.Planetoid, "Cora"),
    "citeseer": ("planetoid/CiteSeer", datasets.Planetoid, "CiteSeer"),
    "chameleon": ("wikipedia_network/chameleon", datasets.WikipediaNetwork, "chameleon"),
    "squirrel": ("wikipedia_network/squirrel", datasets.WikipediaNetwork, "squirrel"),
    "actor": ("actor", datasets.Actor, None),
    "cornell": ("webkb_corrected/cornell", datasets.WebKB, "Cornell"),
    "texas": ("webkb/texas", datasets.WebKB, "Texas"),
    "wisconsin": ("webkb/wisconsin", datasets.WebKB, "Wisconsin"),
    "minesweeper": ("heterophilous/minesweeper", datasets.HeterophilousGraphDataset, "Minesweeper"),
    "tolokers": ("heterophilous/tolokers", datasets.HeterophilousGraphDataset, "Tolokers"),
}


def read_by_pyg(data_root, folder, kind, name, copy):
    """Read a copy of a folder, because PyTorch Geometric writes next to the raw files."""
    place = copy / folder.rsplit("/", 1)[-1]
    shutil.copytree(data_root / folder, place)
    return kind(str(place))[0] if name is None else kind(str(copy), name)[0]


def rows_of(graph, rows):
    return graph.x.scipy()[rows].toarray() if isinstance(graph.x, SparseMatrix) else graph.x[rows].numpy()


def assert_same_content(graph, data):
    assert torch.equal(graph.labels, data.y.long())
    theirs, ours = (edges[0] * graph.num_nodes + edges[1] for edges in (data.edge_index, graph.edge_index))
    assert np.array_equal(np.sort(theirs.numpy()), np.sort(ours.numpy()))
    rows = np.arange(0, graph.num_nodes, 1 + graph.num_nodes // 500)
    assert np.array_equal(rows_of(graph, rows), data.x[rows].numpy())
    assert graph.x.shape == data.x.shape


@pytest.mark.parametrize("name", READ_BY_PYG)
def test_graph_is_what_pytorch_geometric_reads(name, data_root, tmp_path):
    assert_same_content(load_graph(name), read_by_pyg(data_root, *READ_BY_PYG[name], tmp_path))


def test_cornell_as_distributed_has_features_and_labels_of_texas(data_root, tmp_path):
    graph = load_graph("cornell", as_distributed=True)
    assert_same_content(graph, read_by_pyg(data_root, "webkb/cornell", datasets.WebKB, "Cornell", tmp_path))
    texas = load_graph("texas")
    assert torch.equal(graph.labels, texas.labels)
    assert np.array_equal(rows_of(graph, slice(None)), rows_of(texas, slice(None)))
    assert not torch.equal(graph.labels, load_graph("cornell").labels)


@pytest.mark.parametrize("name", ["coauthor_physics", "amazon_computers", "cora_ml"])
def test_words_are_zero_or_one(name, data_root):
    graph = load_graph(name)
    assert set(np.unique(rows_of(graph, np.arange(0, graph.num_nodes, 7)))) == {0.0, 1.0}


def test_features_of_tolokers_are_real_numbers(data_root):
    assert len(load_graph("tolokers").x.unique()) > 100


@pytest.mark.parametrize("name", ["chameleon", "squirrel", "actor", "cornell", "texas", "wisconsin"])
def test_directed_graphs_can_be_symmetrised(name, data_root):
    stored, both = load_graph(name), load_graph(name, symmetrise=True)
    assert stored.is_directed
    assert not both.is_directed
    source, target = stored.edge_index
    pairs = torch.cat([source * stored.num_nodes + target, target * stored.num_nodes + source]).unique()
    assert both.num_edges == len(pairs)


@pytest.mark.parametrize(("name", "num_edges"), [("corafull_derived", 65_311), ("nell", 125_775), ("cora_ml", 8_416)])
def test_undirected_graphs_can_stay_as_stored(name, num_edges, data_root):
    graph = load_graph(name, symmetrise=False)
    assert graph.is_directed
    assert graph.num_edges <= num_edges


def test_root_may_be_the_one_of_pytorch_geometric(data_root):
    graph = load_graph("coauthor_cs", root=data_root / "coauthor", symmetrise=True)
    assert graph.digest == load_graph("coauthor_cs").digest


def test_relations_of_nell_have_neither_features_nor_class(data_root):
    graph = load_graph("nell")
    entities = np.load(data_root / "nell" / "nell_partial.npz")["entity_nodes"]
    is_relation = np.ones(graph.num_nodes, dtype=bool)
    is_relation[entities] = False
    assert is_relation.sum() == 55_864
    assert (graph.labels[is_relation] == -1).all()
    assert np.diff(graph.x.scipy().indptr)[is_relation].sum() == 0
    assert int((graph.labels >= 0).sum()) == 3_577


def test_nodes_of_email_come_in_the_order_of_their_ids(data_root):
    graph = load_graph("email")
    lines = (data_root / "email" / "graph.node").read_text().splitlines()[1:]
    for line in lines[::50]:
        node, class_id, *values = line.split("\t")
        assert graph.labels[int(node)] == int(class_id)
        assert np.array_equal(graph.x[int(node)].numpy(), np.array(values, dtype=np.float64).astype(np.float32))


def test_whole_clothing_keeps_products_without_label(data_root):
    part, whole = load_graph("clothing20"), load_graph("clothing20", whole=True)
    assert (whole.num_nodes, whole.num_edges, whole.num_classes) == (24_919, 183_360, 20)
    known = whole.labels >= 0
    assert torch.equal(whole.labels[known], part.labels)
    assert (whole.degree > 0).all()
    words = whole.x.scipy()
    assert np.diff(words.indptr)[~known.numpy()].sum() == 0
    assert (words[known.numpy()] != part.x.scipy()).nnz == 0


@pytest.mark.parametrize("name", ["chameleon", "squirrel"])
def test_filtered_graphs_are_parts_of_the_whole_ones(name, data_root):
    whole, part = load_graph(name), load_graph(f"{name}_filtered")
    rows = {row.tobytes() for row in rows_of(whole, slice(None)).astype(np.float32)}
    assert all(row.tobytes() in rows for row in rows_of(part, slice(None)).astype(np.float32))
    assert part.num_nodes < whole.num_nodes / 2
