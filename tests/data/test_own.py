import numpy as np
import pytest
import scipy.sparse as sp
import torch

from fgsam.data.load import load_graph
from fgsam.data.own import load

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
    with pytest.raises(ValueError, match=r"edges without their reverse.*dataset\.symmetrise=true to add them, false"):
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
        ({"x": None}, r"key 'x' in .*mine\.npz"),
        ({"x": None, **SPARSE, "x_indptr": None}, r"key 'x_indptr' in .*mine\.npz"),
        ({"edge_index": np.array([[0, 1], [1, 3]])}, r"mine\.npz' to hold a whole graph: .*0\.\.2 .*1 -> 3"),
        ({"edge_index": np.array([[0, -1], [1, 0]])}, r"mine\.npz' .*-1 -> 0"),
        ({"edge_index": np.array([[0.0], [1.0]])}, r"mine\.npz' .*'edge_index' .*float64"),
        ({"edge_index": None, "edges": EDGES.T.reshape(-1)}, r"'edges' in '.*mine\.npz' of shape .*got \[4\]"),
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
