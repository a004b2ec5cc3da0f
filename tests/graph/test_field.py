import numpy as np
import pytest
import scipy.sparse
import torch

from fgsam.graph.graph import Graph
from tests.twins.graphs import dense_normalised, dense_ring, nodes_within, random_graph

TARGETS = [7, 3, 39, 1]  # 39 is isolated


@pytest.fixture(params=[True, False], ids=["directed", "undirected"])
def graph(request):
    return random_graph(directed=request.param)


@pytest.mark.parametrize("num_hops", [0, 1, 2, 3])
def test_narrow_field_holds_the_nodes_that_are_read(graph, num_hops):
    field = graph.field(TARGETS, num_hops)
    assert field.node_ids[:4].tolist() == TARGETS
    assert set(field.node_ids.tolist()) == nodes_within(graph, TARGETS, num_hops)
    for node, distance in zip(field.node_ids.tolist(), field.distance.tolist(), strict=True):
        assert distance == min(hops for hops in range(num_hops + 1) if node in nodes_within(graph, TARGETS, hops))


def test_narrow_field_holds_all_in_edges_of_inner_nodes_and_no_others(graph):
    field = graph.field(TARGETS, 2)
    inside = nodes_within(graph, TARGETS, 1)
    expected = sorted(edge for edge in map(tuple, graph.edge_index.t().tolist()) if edge[1] in inside)
    assert sorted(map(tuple, field.node_ids[field.edge_index].t().tolist())) == expected


def test_closed_field_holds_every_edge_among_its_nodes(graph):
    field = graph.field(TARGETS, 1, boundary="closed")
    inside = set(field.node_ids.tolist())
    expected = sorted(edge for edge in map(tuple, graph.edge_index.t().tolist()) if set(edge) <= inside)
    assert sorted(map(tuple, field.node_ids[field.edge_index].t().tolist())) == expected
    neighbours = {node for edge in graph.edge_index.t().tolist() for node in edge if set(edge) & set(TARGETS)}
    assert neighbours <= inside


@pytest.mark.parametrize("edges", ["row", "sym"])
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("boundary", ["narrow", "closed"])
def test_two_layers_on_a_field_equal_two_layers_on_the_graph(graph, edges, kept, boundary):
    weight = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    matrix = dense_normalised(graph, edges)
    expected = matrix @ torch.tanh(matrix @ (graph.x @ weight))
    field = graph.field(TARGETS, 2, edges=edges, kept=kept, boundary=boundary)
    result = field.propagate(torch.tanh(field.first_product(weight, propagate=True)), 0)
    torch.testing.assert_close(result, expected[TARGETS], rtol=0, atol=1e-14)


@pytest.mark.parametrize("boundary", ["narrow", "closed"])
@pytest.mark.parametrize("distance", [1, 2])
def test_sums_over_a_ring_equal_those_on_the_graph(graph, boundary, distance):
    field = graph.field(TARGETS, 4, boundary=boundary)
    matrix = dense_ring(graph, distance)
    h = field.propagate_ring(torch.tanh(field.propagate_ring(field.x, 2, distance)), 0, distance)
    expected = matrix @ torch.tanh(matrix @ graph.x)
    torch.testing.assert_close(h, expected[TARGETS], rtol=0, atol=1e-14)
    head = field.head(2)
    h = head.propagate_ring(torch.tanh(head.propagate_ring(head.x, 2, distance)), 0, distance)
    torch.testing.assert_close(h, expected[TARGETS[:2]], rtol=0, atol=1e-14)


def test_a_ring_needs_a_field_that_reaches_it_and_the_peer_has_none(graph):
    field = graph.field(TARGETS, 2)
    with pytest.raises(ValueError, match=r"a field of 3 hops \(got 2\)"):
        field.propagate_ring(field.x, 1, 2)
    peer = graph.field(TARGETS, 0)
    assert peer.propagate_ring(peer.x, 0, 2).count_nonzero() == 0


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("is_read_before", [True, False])
def test_head_gives_the_first_targets_and_reads_less(graph, kept, is_read_before):
    weight = torch.ones(6, 2, dtype=torch.float64)
    field = graph.field(TARGETS, 2, edges="sym", kept=kept)
    whole = field.propagate(field.first_product(weight, propagate=True), 0) if is_read_before else None
    head = field.head(2)
    assert head.num_targets == 2
    assert head.num_nodes <= field.num_nodes
    part = head.propagate(head.first_product(weight, propagate=True), 0)
    expected = graph.field(TARGETS[:2], 2, edges="sym", kept=kept)
    torch.testing.assert_close(
        part, expected.propagate(expected.first_product(weight, propagate=True), 0), rtol=0, atol=1e-14
    )
    if whole is not None:
        torch.testing.assert_close(part, whole[:2], rtol=0, atol=1e-14)
    assert field.head(2) is head


def test_head_of_a_closed_field_keeps_every_edge(graph):
    field = graph.field(TARGETS, 2, boundary="closed")
    assert field.head(1).num_nodes == field.num_nodes
    assert field.head(1).num_targets == 1


def test_peer_field_is_rows_with_one_self_loop_of_weight_one(graph):
    for edges in ("raw", "row", "sym"):
        field = graph.field(TARGETS, 0, edges=edges)
        assert field.is_peer
        assert torch.equal(field.adjacency.dense(), torch.eye(4, dtype=torch.float64))
        assert torch.equal(field.dense_x(), graph.x[TARGETS])
        assert torch.equal(field.head(2).dense_x(), graph.x[TARGETS[:2]])


def test_degree_is_that_of_the_full_graph(graph):
    field = graph.field(TARGETS, 1)
    assert torch.equal(field.degree, graph.degree[field.node_ids])


def test_unweighted_raw_edges_have_no_weights(graph):
    assert graph.field(TARGETS, 1).edge_weight is None
    assert graph.field(TARGETS, 1, edges="sym").edge_weight is not None


def test_field_slices_node_and_edge_tensors():
    edges = torch.tensor([[3, 0, 1, 2, 0], [0, 1, 2, 3, 0]])
    graph = Graph.from_arrays(np.eye(4), edges, [0, 0, 1, 1], directed=True)
    field = graph.field([2], 2)
    assert torch.equal(field.of_nodes(torch.arange(4) * 10), field.node_ids * 10)
    sliced = field.of_edges(edges.t())
    assert torch.equal(sliced.t(), field.node_ids[field.edge_index])
    with pytest.raises(ValueError, match="a field of the edges as given"):
        graph.field([2], 2, edges="sym").of_edges(edges.t())


def test_rows_outside_the_field_are_never_read():
    plain = random_graph()
    x = plain.x.clone()
    nodes = graph_nodes = plain.field(TARGETS, 2).node_ids
    outside = torch.ones(plain.num_nodes, dtype=torch.bool)
    outside[graph_nodes] = False
    poisoned = Graph.from_arrays(x, plain.edge_index, plain.labels, directed=True)
    poisoned.x[outside] = torch.nan
    field = poisoned.field(TARGETS, 2, edges="sym")
    weight = torch.ones(6, 2, dtype=torch.float64)
    assert outside.any()
    assert field.node_ids.tolist() == nodes.tolist()
    assert field.propagate(field.first_product(weight, propagate=True), 0).isfinite().all()


def test_scratch_memory_is_clean_after_an_error(graph):
    with pytest.raises(ValueError, match="more than once"):
        graph.field([1, 1], 2)
    assert (graph._local == -1).all()


def test_product_is_kept_for_sparse_words_but_not_where_it_would_fill_up():
    rng = np.random.default_rng(0)
    labels = np.zeros(2000, dtype=int)
    words = scipy.sparse.random(2000, 200, density=0.1, random_state=1, format="csr")
    sparse_graph = Graph.from_arrays(words, rng.integers(0, 2000, (2, 4000)), labels, directed=False)
    crowded = Graph.from_arrays(words[:200], rng.integers(0, 200, (2, 4000)), labels[:200], directed=False)
    assert sparse_graph.keeps_product("sym")
    assert not crowded.keeps_product("sym")


@pytest.mark.parametrize("num_targets", [0, -1, 5, 41])
@pytest.mark.parametrize("num_hops", [0, 2])
def test_head_of_more_or_fewer_targets_than_there_are_is_refused(graph, num_targets, num_hops):
    with pytest.raises(ValueError, match=rf"'num_targets' to be in 1\.\.4 \(got num_targets={num_targets}\)"):
        graph.field(TARGETS, num_hops).head(num_targets)


@pytest.mark.parametrize("boundary", ["narrow", "closed"])
@pytest.mark.parametrize("num_hops", [0, 1, 2])
def test_no_targets_make_an_empty_field(graph, boundary, num_hops):
    field = graph.field([], num_hops, boundary=boundary)
    assert field.num_nodes == 0
    assert field.edge_index.shape == (2, 0)


@pytest.mark.parametrize("edges", ["raw", "row", "sym"])
@pytest.mark.parametrize("boundary", ["narrow", "closed"])
def test_a_graph_without_edges_has_fields_of_targets_alone(edges, boundary):
    graph = Graph.from_arrays(np.eye(4), np.zeros((2, 0)), [0, 0, 1, 1], directed=False)
    field = graph.field([2, 1], 2, edges=edges, boundary=boundary)
    assert field.node_ids.tolist() == [2, 1]
    rows = field.first_product(torch.eye(4, dtype=torch.float64), propagate=True)
    assert torch.equal(rows, torch.zeros_like(rows) if edges == "raw" else field.dense_x())
    assert field.head(1).num_nodes == (1 if boundary == "narrow" else 2)


@pytest.mark.parametrize("weight", [[0.0, 0.0], [0.0, 1.0]])
def test_closed_field_follows_edges_of_weight_zero_both_ways(weight):
    graph = Graph.from_arrays(np.eye(3), [[0, 1], [1, 2]], [0, 0, 1], directed=True, edge_weight=weight)
    assert graph.is_directed
    assert graph.field([0], 1, boundary="closed").node_ids.tolist() == [0, 1, 2]


@pytest.mark.parametrize("boundary", ["narrow", "closed"])
def test_no_node_is_nearer_to_the_targets_of_a_head_than_it_says(graph, boundary):
    head = graph.field(TARGETS, 2, boundary=boundary).head(1)
    for hops in range(3):
        inside = nodes_within(graph, TARGETS[:1], hops)
        assert inside <= set(head.node_ids[head.distance <= hops].tolist())
        assert inside <= set(head.node_ids[: head.sizes[hops]].tolist())
