from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch

from fgsam.graph.graph import Graph
from fgsam.graph.sparse import SparseMatrix
from fgsam.methods import smoothing
from fgsam.methods.smoothing import Chain, smoothed_features
from tests.methods.tiny import tiny_graph


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch):
    monkeypatch.setattr(smoothing, "_cache", type(smoothing._cache)())


def wide_graph(density: float = 0.02) -> Graph:
    """Six groups with words of their own, 400 words in all, so that features go through the SVD."""
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 6
    x = (rng.random((90, 400)) < density + 0.1 * (np.arange(400) % 6 == labels[:, None])).astype(np.float32)
    x[0] = 0.0
    edges = rng.integers(0, 90, (2, 300))
    return Graph.from_arrays(x, edges[:, edges[0] != edges[1]], labels, directed=False)


def slow_features(graph: Graph, edges: str, num_hops: int, dim: int | None) -> torch.Tensor:
    x = graph.x.dense() if isinstance(graph.x, SparseMatrix) else graph.x
    rows = torch.nn.functional.normalize(x.double(), dim=1)
    for _ in range(num_hops):
        rows = graph.weights(edges).dense().double() @ rows
    if dim is not None:
        left, values, _ = torch.linalg.svd(rows, full_matrices=False)
        rows = left[:, :dim] * values[:dim]
    return torch.nn.functional.normalize(rows, dim=1)


@pytest.mark.parametrize(("edges", "num_hops"), [("raw", 0), ("row", 1), ("row", 3), ("sym", 2)])
def test_few_features_are_smoothed_without_svd(edges, num_hops):
    graph = tiny_graph()
    slow = slow_features(graph, edges, num_hops, None)
    torch.testing.assert_close(smoothed_features(graph, edges, num_hops, 5), slow.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("density", [0.02, 0.3], ids=["sparse", "dense"])
@pytest.mark.parametrize(("edges", "num_hops"), [("raw", 0), ("row", 2), ("sym", 4)])
def test_many_features_keep_the_inner_products_of_the_exact_svd(edges, num_hops, density):
    graph = wide_graph(density)
    fast = smoothed_features(graph, edges, num_hops, 80)
    assert fast.shape == (90, 80)
    slow = slow_features(graph, edges, num_hops, 80).float()
    # Signs and rotations of the directions are free; the geometry of the rows is not.
    torch.testing.assert_close(fast @ fast.T, slow @ slow.T, rtol=0, atol=1e-3)


def test_few_directions_are_close_to_the_best_ones():
    graph = wide_graph()
    fast, slow = smoothed_features(graph, "row", 2, 8), slow_features(graph, "row", 2, 8).float()
    assert (fast @ fast.T - slow @ slow.T).norm() < 0.1 * (slow @ slow.T).norm()


def test_a_node_without_features_has_a_row_of_zeros():
    assert (smoothed_features(wide_graph(), "raw", 0, 16)[0] == 0).all()


def test_rows_are_float32_of_length_one():
    rows = smoothed_features(tiny_graph(), "row", 2, 8)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(len(rows)))
    assert rows.dtype == torch.float32


def test_a_second_asker_gets_the_same_rows_without_work():
    graph, same = wide_graph(), wide_graph()
    assert smoothed_features(graph, "row", 1, 16) is smoothed_features(same, "row", 1, 16)


def test_other_weights_hops_and_graphs_give_other_rows():
    graph = wide_graph()
    asked = [(graph, "row", 1), (graph, "sym", 1), (graph, "row", 2), (wide_graph(0.1), "row", 1)]
    rows = [smoothed_features(which, edges, num_hops, 16) for which, edges, num_hops in asked]
    assert all(not torch.equal(rows[i], rows[j]) for i in range(4) for j in range(i))


def test_what_was_asked_before_changes_nothing():
    alone = smoothed_features(wide_graph(), "sym", 2, 16)
    smoothing._cache.clear()
    smoothed_features(wide_graph(), "row", 1, 16)
    torch.testing.assert_close(smoothed_features(wide_graph(), "sym", 2, 16), alone, rtol=0, atol=0)


def test_the_oldest_features_are_dropped_when_memory_is_short(monkeypatch):
    monkeypatch.setattr(smoothing, "CACHE_BYTES", 2 * 90 * 16 * 4)
    graph = wide_graph()
    for num_hops in (1, 2, 3):
        smoothed_features(graph, "row", num_hops, 16)
    assert [key[2] for key in smoothing._cache] == [2, 3]


def test_a_chain_is_the_product_of_its_factors():
    rng = np.random.default_rng(0)
    parts = [scipy.sparse.random_array(shape, density=0.4, rng=rng) for shape in [(4, 5), (5, 5), (5, 3)]]
    chain = Chain(tuple(SparseMatrix.from_scipy(part) for part in parts))
    whole = torch.from_numpy((parts[0] @ parts[1] @ parts[2]).toarray())
    assert chain.shape == (4, 3)
    torch.testing.assert_close(chain.product(torch.eye(3, dtype=torch.float64)), whole)
    torch.testing.assert_close(chain.transpose.product(torch.eye(4, dtype=torch.float64)), whole.T)


def test_a_graph_of_another_type_does_not_get_the_cached_features():
    graph = tiny_graph().to(dtype=torch.float64)
    wide = smoothed_features(graph, "sym", 2, 4)
    narrow = smoothed_features(graph.to(dtype=torch.float32), "sym", 2, 4)
    assert narrow is not wide
    torch.testing.assert_close(narrow, wide)
