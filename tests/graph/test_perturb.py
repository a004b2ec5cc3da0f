import numpy as np
import pytest
import torch

from fgsam.episodes.streams import generator
from fgsam.graph.graph import Graph
from fgsam.graph.perturb import with_edge_noise

NUM_NODES = 30


def graph_of(*, directed=False, weighted=False, num_edges=60, loops=True):
    rng = np.random.default_rng(0)
    source, target = np.array([[s, t] for s in range(NUM_NODES) for t in range(s)]).T
    chosen = rng.permutation(len(source))[:num_edges]
    source, target = source[chosen], target[chosen]
    if loops:
        source, target = np.append(source, [3, 4]), np.append(target, [3, 4])
    weight = rng.random(len(source)) + 0.5 if weighted else None
    x = np.eye(NUM_NODES, 5) + 1
    labels = np.arange(NUM_NODES) % 3
    return Graph.from_arrays(x, [source, target], labels, directed=directed, edge_weight=weight, name="noisy")


def pairs_of(graph):
    """Directed pairs of different nodes."""
    return {(s, t) for s, t in graph.edge_index.T.tolist() if s != t}


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_exactly_the_share_of_pairs_is_replaced_by_others(directed, weighted, share):
    graph = graph_of(directed=directed, weighted=weighted)
    noisy = with_edge_noise(graph, share, generator("noise"))
    before, after = pairs_of(graph), pairs_of(noisy)
    directions = 1 if directed else 2
    assert len(before - after) == len(after - before) == directions * round(share * len(before) / directions)
    assert len(after) == len(before)
    loops = [edge for edge in graph.edge_index.T.tolist() if edge[0] == edge[1]]
    assert loops == [edge for edge in noisy.edge_index.T.tolist() if edge[0] == edge[1]]
    assert noisy.is_directed == graph.is_directed
    assert noisy.is_weighted == weighted
    assert (noisy.name, noisy.num_nodes) == ("noisy", NUM_NODES)
    assert torch.equal(noisy.labels, graph.labels)


@pytest.mark.parametrize("directed", [False, True])
def test_an_undirected_graph_stays_undirected(directed):
    noisy = with_edge_noise(graph_of(directed=directed), 0.5, generator("noise"))
    assert (pairs_of(noisy) == {(t, s) for s, t in pairs_of(noisy)}) == (not directed)


@pytest.mark.parametrize("directed", [False, True])
def test_weights_move_with_the_edges(directed):
    graph = graph_of(directed=directed, weighted=True)
    noisy = with_edge_noise(graph, 0.4, generator("noise"))
    assert sorted(noisy.edge_weight.tolist()) == sorted(graph.edge_weight.tolist())
    clean = dict(zip(map(tuple, graph.edge_index.T.tolist()), graph.edge_weight.tolist(), strict=True))
    found = dict(zip(map(tuple, noisy.edge_index.T.tolist()), noisy.edge_weight.tolist(), strict=True))
    assert all(found[pair] == clean[pair] for pair in found.keys() & clean.keys())
    if not directed:
        assert all(weight == found[target, source] for (source, target), weight in found.items())


def test_parallel_edges_go_together():
    edges = [[0, 0, 1, 2], [1, 1, 2, 3]]
    graph = Graph.from_arrays(np.ones((8, 1)), edges, [0] * 8, directed=True)
    noisy = with_edge_noise(graph, 1.0, generator("noise"))
    assert pairs_of(noisy).isdisjoint(pairs_of(graph))
    assert noisy.num_edges == 3


def test_the_same_generator_gives_the_same_noise_and_a_larger_share_removes_more():
    graph = graph_of()
    few, more = (with_edge_noise(graph, share, generator("noise")) for share in (0.2, 0.6))
    assert few.digest == with_edge_noise(graph, 0.2, generator("noise")).digest
    assert few.digest != with_edge_noise(graph, 0.2, generator("other")).digest
    assert pairs_of(graph) - pairs_of(few) < pairs_of(graph) - pairs_of(more)


def test_no_noise_is_the_same_graph():
    graph = graph_of()
    assert with_edge_noise(graph, 0.0, generator("noise")) is graph


def test_every_free_pair_can_be_filled():
    graph = Graph.from_arrays(np.ones((4, 1)), [[0, 1, 2], [1, 2, 3]], [0] * 4, directed=False)
    noisy = with_edge_noise(graph, 1.0, generator("noise"))
    assert pairs_of(noisy) == {(0, 2), (2, 0), (0, 3), (3, 0), (1, 3), (3, 1)}


@pytest.mark.parametrize(
    ("share", "message"),
    [
        (0.01, r"at least 1 edge, .* \(got edge_noise=0\.01, 0 of 5 edges, room for 1\)"),
        (0.5, r"as many as there is room for \(got edge_noise=0\.5, 2 of 5 edges, room for 1\)"),
        (1.5, r"'edge_noise' to be between 0 and 1"),
    ],
)
def test_a_share_that_cannot_be_met_is_refused(share, message):
    graph = Graph.from_arrays(np.ones((4, 1)), [[0, 1, 2, 3, 0], [1, 2, 3, 0, 2]], [0] * 4, directed=False)
    with pytest.raises(ValueError, match=message):
        with_edge_noise(graph, share, generator("noise"))
