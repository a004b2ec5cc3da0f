from __future__ import annotations

import numpy as np
import pytest
import torch

from fgsam.graph.graph import Graph
from tests.twins.graphs import dense_adjacency, dense_normalised, nodes_within, random_graph

TARGETS = [7, 3, 39, 1]  # 39 is isolated


@pytest.fixture(params=[True, False], ids=["directed", "undirected"])
def graph(request):
    return random_graph(directed=request.param)


def slow_sets(graph, field, groups, num_hops, weights):
    """Rows of each set, and the weights among them, walked node by node."""
    place = {node: row for row, node in enumerate(field.node_ids.tolist())}
    for group in groups:
        nodes = sorted(nodes_within(graph, group, num_hops), key=place.__getitem__)
        yield [place[node] for node in nodes], torch.tensor([[weights[i, j] for j in nodes] for i in nodes])


def assert_same_sets(sets, expected):
    expected = list(expected)
    assert [part.tolist() for part in sets.rows.split(sets.sizes.tolist())] == [rows for rows, _ in expected]
    block = torch.block_diag(*(block for _, block in expected))
    torch.testing.assert_close(sets.adjacency.dense(), block.to(torch.float64), rtol=0, atol=1e-15)


@pytest.mark.parametrize("num_hops", [0, 1, 2])
@pytest.mark.parametrize("boundary", ["narrow", "closed"])
def test_each_target_has_its_neighbourhood_and_the_edges_within(graph, boundary, num_hops):
    field = graph.field(TARGETS, 2, boundary=boundary)
    slow = slow_sets(graph, field, [[node] for node in TARGETS], num_hops, dense_adjacency(graph))
    assert_same_sets(field.ego_sets(num_hops), slow)


@pytest.mark.parametrize("edges", ["row", "sym"])
def test_weights_may_be_those_of_the_full_graph(graph, edges):
    field = graph.field(TARGETS, 2)
    slow = slow_sets(graph, field, [[node] for node in TARGETS], 2, dense_normalised(graph, edges))
    assert_same_sets(field.ego_sets(2, edges=edges), slow)


def test_seeds_of_one_number_share_a_set(graph):
    field = graph.field(TARGETS, 2)
    sets = field.ego_sets(1, seeds=torch.tensor([3, 0, 1]), sets=torch.tensor([1, 0, 1]))
    assert_same_sets(sets, slow_sets(graph, field, [[7], [1, 3]], 1, dense_adjacency(graph)))


def test_a_number_left_out_is_an_empty_set_and_no_seeds_are_no_sets(graph):
    field = graph.field(TARGETS, 1)
    sets = field.ego_sets(1, seeds=torch.tensor([2]), sets=torch.tensor([2]))
    assert (sets.sizes.tolist(), sets.rows.tolist(), sets.num_members) == ([0, 0, 1], [2], 1)
    empty = field.ego_sets(1, seeds=torch.tensor([], dtype=torch.int64))
    assert (empty.pointer.tolist(), empty.num_members, empty.adjacency.shape) == ([0], 0, (0, 0))


def test_an_isolated_node_is_alone_without_an_edge(graph):
    sets = graph.field([39], 2).ego_sets(2)
    assert (sets.rows.tolist(), sets.adjacency.num_entries) == ([0], 0)


@pytest.mark.parametrize("edges", ["raw", "row", "sym"])
def test_in_the_view_of_the_peer_each_row_sees_itself(graph, edges):
    field = graph.field([7, *graph.edge_index[0][graph.edge_index[1] == 7].unique().tolist()], 0)
    sets = field.ego_sets(2, edges=edges)
    assert sets.rows.tolist() == list(range(field.num_targets))
    assert torch.equal(sets.adjacency.dense(), torch.eye(field.num_targets, dtype=torch.float64))


def test_edges_are_followed_from_target_to_source():
    graph = Graph.from_arrays(np.eye(4), [[0, 1, 2], [1, 2, 3]], [0, 0, 1, 1], directed=True)
    sets = graph.field([2], 2).ego_sets(1)
    assert sets.rows.tolist() == [0, 1]  # nodes 2 and 1; 3 is only where an edge of 2 leads
    assert sets.adjacency.dense().tolist() == [[0.0, 1.0], [0.0, 0.0]]


def test_the_numbers_of_the_nodes_do_not_matter(graph):
    order = np.random.default_rng(0).permutation(graph.num_nodes)
    place = np.argsort(order)
    other = Graph.from_arrays(graph.x[order], place[graph.edge_index], graph.labels[order], directed=True)

    def members(graph, targets, number):
        field = graph.field(targets, 2)
        sets = field.ego_sets(2)
        return [
            {number[node] for node in part.tolist()} for part in field.node_ids[sets.rows].split(sets.sizes.tolist())
        ]

    assert members(graph, TARGETS, range(40)) == members(other, place[TARGETS], order)


@pytest.mark.parametrize(("num_hops", "kept"), [(1, False), (2, True)])
def test_a_set_that_reaches_out_of_the_field_is_refused(graph, num_hops, kept):
    graph = Graph.from_arrays(graph.x, graph.edge_index, graph.labels, directed=True)
    graph._derived["keeps", "sym"] = kept  # a field that leaves its last hop to kept rows ends one hop before
    field = graph.field(TARGETS, num_hops, edges="sym", kept=kept)
    with pytest.raises(ValueError, match=r"every node within 2 hops of 'seeds'.*larger num_hops"):
        field.ego_sets(2)


def test_targets_that_hold_the_neighbourhood_suffice(graph):
    nodes = graph.field(TARGETS, 2).node_ids
    field = graph.field(nodes, 1)
    found = field.ego_sets(2, seeds=torch.arange(4))
    slow = slow_sets(graph, field, [[node] for node in TARGETS], 2, dense_adjacency(graph))
    assert_same_sets(found, slow)


@pytest.mark.parametrize(("seeds", "sets"), [([40], [0]), ([-1], [0]), ([0], [-1]), ([0, 1], [0])])
def test_seeds_and_numbers_out_of_range_are_refused(graph, seeds, sets):
    field = graph.field(TARGETS, 1)
    with pytest.raises(ValueError, match=r"'seeds' in 0..\d+ and for each of them the number of a set"):
        field.ego_sets(1, seeds=torch.tensor(seeds), sets=torch.tensor(sets))
    with pytest.raises(ValueError, match="'num_hops' to be at least 0"):
        field.ego_sets(-1)
