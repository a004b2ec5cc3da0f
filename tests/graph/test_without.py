import numpy as np
import pytest
import scipy.sparse
import torch

from fgsam.graph.graph import Graph

HIDDEN = [1, 4, 7]


def graph_of(*, sparse=False, directed=False, weighted=False, change=0.0):
    """Ten nodes; ``change`` alters what belongs to the hidden ones."""
    rng = np.random.default_rng(0)
    edges = rng.integers(0, 10, (2, 40))
    x = np.where(rng.random((10, 30)) < (0.1 if sparse else 0.9), 1.0, 0.0)
    labels = np.arange(10) % 4
    if change:
        at_hidden = np.isin(edges, HIDDEN).any(0)
        edges = edges[:, ~at_hidden | (rng.random(40) < 0.5)]
        x[HIDDEN] = change
        labels[HIDDEN] = 3
    weight = edges[0] + 10.0 * edges[1] if weighted else None
    x = scipy.sparse.csr_array(x) if sparse else x
    return Graph.from_arrays(x, edges, labels, directed=directed, edge_weight=weight, name="g", memory_mb=7)


options = pytest.mark.parametrize(
    "options",
    [{}, {"sparse": True}, {"directed": True}, {"weighted": True}, {"directed": True, "weighted": True}],
    ids=str,
)


@options
def test_hidden_nodes_lose_edges_features_and_labels_and_others_nothing(options):
    graph = graph_of(**options)
    seen = graph.without(torch.tensor(HIDDEN))
    inside = ~np.isin(graph.edge_index.numpy(), HIDDEN).any(0)
    assert torch.equal(seen.edge_index, graph.edge_index[:, inside])
    if options.get("weighted"):
        assert torch.equal(seen.edge_weight, graph.edge_weight[inside])
    kept = [node for node in range(10) if node not in HIDDEN]
    whole, left = (g.x if isinstance(g.x, torch.Tensor) else g.x.dense() for g in (graph, seen))
    assert torch.equal(left[kept], whole[kept])
    assert not left[HIDDEN].any()
    assert seen.labels.tolist() == [-1 if node in HIDDEN else int(graph.labels[node]) for node in range(10)]
    assert (seen.name, seen.num_nodes, seen.memory_mb, seen.is_weighted) == ("g", 10, 7, graph.is_weighted)
    assert graph.digest == graph_of(**options).digest


@options
def test_nothing_that_belongs_to_hidden_nodes_leaves_a_trace(options):
    seen, other = graph_of(**options).without(HIDDEN), graph_of(**options, change=5.0).without(HIDDEN)
    assert graph_of(**options).digest != graph_of(**options, change=5.0).digest
    assert seen.digest == other.digest
    assert type(seen.x) is type(other.x)
    for edges in ("raw", "row", "sym"):
        assert torch.equal(seen.weights(edges).values, other.weights(edges).values)
        assert seen.keeps_product(edges) == other.keeps_product(edges)


def test_edges_keep_their_place_among_those_given():
    graph = graph_of(directed=True)
    seen = graph.without(HIDDEN)
    given = np.random.default_rng(0).integers(0, 10, (2, 40))
    assert given[:, seen.edge_order].tolist() == seen.edge_index.tolist()


def test_a_directed_graph_stays_directed():
    graph = Graph.from_arrays(np.eye(3), [[0, 1, 1], [1, 0, 2]], [0, 0, 0], directed=True)
    assert graph.without([2]).is_directed
    assert not graph_of().without([2]).is_directed


def test_nodes_that_are_not_there_cannot_be_hidden():
    with pytest.raises(ValueError, match=r"numbers in 0\.\.9 \(got 3, 10\)"):
        graph_of().without([3, 10])
