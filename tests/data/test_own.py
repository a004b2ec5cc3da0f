import numpy as np
import pytest
import scipy.sparse as sp
import torch

from fgsam.data.load import load_graph
from fgsam.data.own import load, save
from fgsam.graph.graph import Graph
from tests.data.own_graphs import KINDS, graph_of

X = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
EDGES = np.array([[0, 1], [1, 2]])
BOTH = np.array([[0, 1, 1, 2], [1, 0, 2, 1]])
LABELS = np.array([0, 1, -1])
CSR = sp.csr_matrix(X)
SPARSE = {"x_data": CSR.data, "x_indices": CSR.indices, "x_indptr": CSR.indptr, "x_shape": CSR.shape}


def saved(tmp_path, **changes):
    """Save a small whole graph, with some keys replaced, or left out where None."""
    arrays = {"edge_index": BOTH, "labels": LABELS, "x": X} | changes
    path = tmp_path / "mine.npz"
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def test_dense_and_sparse_features_give_the_same_graph(tmp_path):
    dense = load(saved(tmp_path))
    assert (dense.num_nodes, dense.num_edges, dense.num_features, dense.num_classes) == (3, 4, 2, 2)
    assert dense.labels.tolist() == [0, 1, -1]
    assert load(saved(tmp_path, x=None, **SPARSE)).digest == dense.digest


def test_edges_may_stand_in_rows(tmp_path):
    digest = load(saved(tmp_path)).digest
    assert load(saved(tmp_path, edge_index=None, edges=BOTH.T)).digest == digest


def test_direction_is_an_explicit_choice(tmp_path):
    path = saved(tmp_path, edge_index=EDGES)
    with pytest.raises(ValueError, match=r"edges without their reverse.*symmetrise=true; .*symmetrise=false"):
        load(path)
    assert load(path, symmetrise=True).num_edges == 4
    assert load(path, symmetrise=False).num_edges == 2
    assert load(saved(tmp_path, edge_index=EDGES, directed=True)).is_directed
    assert not load(saved(tmp_path, edge_index=EDGES, directed=False)).is_directed


def test_edge_weights_are_kept(tmp_path):
    graph = load(saved(tmp_path, edge_weight=np.array([0.5, 0.5, 2.0, 2.0])))
    assert sorted(graph.edge_weight.tolist()) == [0.5, 0.5, 2.0, 2.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": None}, r"key 'labels' in '.*mine\.npz' \(got keys \['edge_index', 'x'\]\)\. Write it with"),
        ({"edge_index": None}, r"key 'edge_index' in .*mine\.npz"),
        ({"x": None, **SPARSE, "x_indptr": None}, r"key 'x_indptr' in .*mine\.npz"),
        ({"edge_index": np.array([[0, 1], [1, 3]])}, r"mine\.npz' to hold a whole graph: .*0\.\.2 .*1 -> 3"),
        ({"edge_index": np.array([[0, -1], [1, 0]])}, r"mine\.npz' .*-1 -> 0"),
        ({"edge_index": np.array([[0.0], [1.0]])}, r"mine\.npz' .*'edge_index' .*float64"),
        ({"edge_index": None, "edges": EDGES.T.reshape(-1)}, r"'edges' in '.*mine\.npz' of shape .*got \[4\]"),
        ({"labels": np.array([0, 10**9, 1])}, r"class numbers below 10,000 in '.*mine\.npz' \(got 1000000000\)"),
        ({"labels": LABELS[:2]}, r"mine\.npz' .*'labels' .*\[2\] for 3 nodes"),
        ({"labels": np.array([0.5, 1, 2])}, r"mine\.npz' .*'labels' .*whole numbers"),
        ({"x": np.array([[1, 2], [3, np.nan], [4, 5]])}, r"'x' of '.*mine\.npz' \(got nan at \[1, 1\]\)"),
        ({"x": np.array([[1, 2], [3, 0], [-np.inf, 5]])}, r"'x' of '.*mine\.npz' \(got -inf at \[2, 0\]\)"),
        ({"x": X[0]}, r"mine\.npz' .*'x' .*of shape \[2\]"),
        ({"x": None, **SPARSE, "x_data": CSR.data * np.nan}, r"'x_data' of '.*mine\.npz' \(got nan at \[0\]\)"),
        (
            {"x": None, **SPARSE, "x_indices": CSR.indices + 5},
            r"x_indices and x_indptr of '.*mine\.npz' to fit",
        ),
        ({"x": None, **SPARSE, "x_indptr": CSR.indptr[::-1]}, r"x_indptr of '.*mine\.npz' to fit"),
        ({"x": None, **SPARSE, "x_shape": np.array([3.0, 2.0])}, r"two sizes in 'x_shape' of '.*mine\.npz'"),
        ({"edge_weight": np.array(["a", "b", "c", "d"])}, r"mine\.npz' to hold a whole graph"),
        ({"edges": BOTH.T}, r"either 'edge_index' or 'edges' in '.*mine\.npz' \(got both\)"),
        (SPARSE, r"either 'x' or 'x_data' in '.*mine\.npz' \(got both\)"),
        ({"label": LABELS}, r"known keys in '.*mine\.npz' \(got 'label'\)\. Did you mean 'labels'"),
        ({"train_mask": LABELS}, r"\(got 'train_mask'\)\. Choices: .*digest.*Leave out what is no part of it"),
        ({"digest": np.array(3)}, r"'digest' in '.*mine\.npz' to be one text"),
        ({"digest": np.array("3")}, r"mine\.npz' to have the digest 3 \(got \w{64}\)\. It was damaged or changed"),
        ({"directed": np.array([1, 0])}, r"'directed' in '.*mine\.npz' to be one truth value"),
        ({"x": np.array([[{}]], dtype=object)}, r"key 'x' of '.*mine\.npz'.*never unpickled"),
    ],
)
def test_every_fault_names_file_key_and_value(tmp_path, changes, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        load(saved(tmp_path, **changes))


def test_damaged_file_is_named(tmp_path):
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"mine\.npz' to be readable.*Write it with numpy\.savez"):
        load(path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_graph_is_read_back_the_same(tmp_path, kind):
    graph = graph_of(**KINDS[kind])
    save(graph, tmp_path / "mine.npz")
    again = load(tmp_path / "mine.npz")
    assert again.digest == graph.digest
    assert (again.is_directed, again.is_weighted, again.dtype) == (graph.is_directed, graph.is_weighted, graph.dtype)
    if graph.edge_order is not None and again.edge_order is not None:
        assert np.array_equal(again.edge_order, graph.edge_order)


def test_weights_that_differ_by_direction_stay_undirected(tmp_path):
    graph = Graph.from_arrays(X, BOTH, LABELS, directed=False, edge_weight=[1.0, 2.0, 3.0, 4.0])
    save(graph, tmp_path / "mine.npz")
    again = load(tmp_path / "mine.npz")
    assert (again.digest, again.is_directed) == (graph.digest, False)


def test_the_digest_is_that_of_the_graph_before_reverse_edges_are_asked_for(tmp_path):
    save(Graph.from_arrays(X, EDGES, LABELS, directed=True), tmp_path / "mine.npz")
    assert load(tmp_path / "mine.npz").num_edges == 2
    assert load(tmp_path / "mine.npz", symmetrise=True).num_edges == 4


def test_a_file_without_features_gives_a_graph_without(tmp_path):
    graph = load(saved(tmp_path, x=None))
    assert (graph.num_nodes, graph.num_features) == (3, 0)
    assert graph.digest != load(saved(tmp_path)).digest


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.npz', no such file\)\. Check dataset\.path"):
        load(tmp_path / "absent.npz")


def test_load_graph_takes_paths_and_names(tmp_path):
    path = saved(tmp_path)
    assert load_graph(path).digest == load_graph(str(path), symmetrise=True).digest
    assert torch.equal(load_graph("fgsam.data.own:load", path).labels, load_graph(path).labels)
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_graph("nowhere.npz")
    with pytest.raises(ValueError, match=r"got 'synthetik'\)\. Did you mean 'synthetic'"):
        load_graph("synthetik")
