from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch

from fgsam.graph.graph import Graph
from fgsam.graph.sparse import SparseMatrix
from fgsam.methods import smoothing
from fgsam.methods.smoothing import Chain, PageRank, smoothed_features, with_smoothed_features
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
    assert [key[4] for key in smoothing._cache] == [2, 3]


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


@pytest.mark.parametrize("edges", ["row", "sym"])
def test_pagerank_is_the_end_of_a_walk_that_may_stop_after_every_step(edges):
    graph, num_hops = tiny_graph(), 3
    step = graph.weights(edges).dense()
    stop = 1 / (num_hops + 1)
    eye = torch.eye(graph.num_nodes, dtype=torch.float64)
    walk = stop * torch.linalg.inv(eye - (1 - stop) * step)
    cut = PageRank(graph.weights(edges), num_hops)
    torch.testing.assert_close(cut.product(eye), walk, rtol=0, atol=0.04)
    torch.testing.assert_close(cut.transpose.product(eye), cut.product(eye).mT)
    rows = torch.nn.functional.normalize(cut.product(torch.nn.functional.normalize(graph.x)))
    found = smoothed_features(graph, edges, num_hops, 5, smoothing="pagerank")
    torch.testing.assert_close(found, rows.float(), rtol=1e-5, atol=1e-5)


def test_mean_length_of_walks_is_the_number_of_hops():
    line = Graph.from_arrays(np.eye(60), [np.arange(59), np.arange(1, 60)], np.zeros(60, int), directed=True)
    ends = PageRank(line.adjacency.transpose, 3).product(torch.eye(60, dtype=line.dtype))[0]
    assert (ends * torch.arange(60)).sum() == pytest.approx(3.0, abs=0.15)


@pytest.mark.parametrize(("num_hops", "scales"), [(1, [0, 1]), (5, [0, 1, 2, 4, 5]), (8, [0, 1, 2, 4, 8])])
def test_scales_stand_side_by_side_with_equal_weight(num_hops, scales):
    graph = wide_graph()
    found = smoothed_features(graph, "sym", num_hops, 16, smoothing="scales")
    parts = torch.cat([smoothed_features(graph, "sym", hops, 16) for hops in scales], dim=1)
    torch.testing.assert_close(found, torch.nn.functional.normalize(parts), rtol=0, atol=0)
    assert found.shape == (90, 16 * len(scales))


@pytest.mark.parametrize("kind", ["hops", "pagerank", "scales"])
def test_rows_of_two_graphs_can_be_compared_in_the_directions_of_one(kind):
    graph = wide_graph()
    part = graph.without(np.arange(60, 90))
    whole = smoothed_features(graph, "row", 1, 40, smoothing=kind, basis=part)
    own = smoothed_features(part, "row", 1, 40, smoothing=kind)
    source, target = graph.edge_index
    far = torch.ones(90, dtype=torch.bool)
    for _ in range(4):  # nodes that no hidden one is within reach of
        far[60:] = False
        far[target[~far[source]]] = False
    same = smoothed_features(part, "row", 1, 40, smoothing=kind, basis=part)
    assert torch.equal(same, own)
    assert not torch.allclose(whole, smoothed_features(graph, "row", 1, 40, smoothing=kind), atol=1e-2)
    torch.testing.assert_close(whole[far], own[far])


def test_a_graph_with_smoothed_features_is_named_by_what_they_are_made_of():
    graph = wide_graph()
    made = with_smoothed_features(graph, "smoothed")
    assert torch.equal(made.x, smoothed_features(graph, "sym", 2, 128))
    assert torch.equal(made.edge_index, graph.edge_index)
    assert torch.equal(made.labels, graph.labels)
    digests = [with_smoothed_features(graph, kind).digest for kind in ("hops_sym_2", "hops_row_2", "pagerank_sym_2")]
    part = graph.without([3])
    digests += [graph.digest, with_smoothed_features(graph, "smoothed", basis=part).digest]
    assert len(set(digests)) == 5
    assert made.digest == digests[0]
    assert with_smoothed_features(graph, "smoothed", basis=graph).digest == made.digest


@pytest.mark.parametrize("kind", ["smooth", "hops_sym", "hops_raw_2", "hops_sym_0", "hops_sym_two", "scales"])
def test_an_unknown_kind_of_smoothing_is_refused(kind):
    with pytest.raises(ValueError, match="Expected '"):
        with_smoothed_features(tiny_graph(), kind)
