import networkx
import numpy as np
import pytest
import scipy.sparse
import torch
from torch_geometric.data import Data, HeteroData

from fgsam.graph.graph import Graph
from fgsam.graph.sparse import SparseMatrix
from tests.twins.graphs import dense_adjacency, dense_normalised, dense_ring, random_graph

EDGES = [[0, 1, 2], [1, 2, 3]]
LABELS = [0, 0, 1, 1]


def graph_of(x=None, edges=EDGES, labels=LABELS, **options):
    return Graph.from_arrays(np.eye(4) if x is None else x, edges, labels, **{"directed": False, **options})


@pytest.mark.parametrize("directed", [True, False])
@pytest.mark.parametrize("edges", ["row", "sym"])
def test_normalised_weights_equal_the_dense_formula(directed, edges):
    graph = random_graph(directed=directed)
    if directed:  # parallel edges add up in the dense twin, but a self-loop is one loop in both
        assert torch.equal(graph.adjacency.dense(), dense_adjacency(graph))
    torch.testing.assert_close(graph.weights(edges).dense(), dense_normalised(graph, edges), rtol=0, atol=1e-15)


@pytest.mark.parametrize("directed", [True, False])
@pytest.mark.parametrize("distance", [1, 2])
def test_rings_equal_the_sets_of_nodes_at_that_distance(directed, distance):
    graph = random_graph(directed=directed)
    ring = graph.ring(distance)
    assert ring.num_entries > 0
    torch.testing.assert_close(ring.dense(), dense_ring(graph, distance), rtol=0, atol=1e-15)
    assert graph.ring(distance) is ring


def test_a_ring_looks_neither_at_edge_weights_nor_at_chunks_of_rows(monkeypatch):
    graph = random_graph()
    weights = np.random.default_rng(0).normal(size=graph.num_edges)
    weighted = Graph.from_arrays(graph.x, graph.edge_index, graph.labels, directed=True, edge_weight=weights)
    monkeypatch.setattr("fgsam.graph.normalise._ROWS_AT_ONCE", 7)
    assert torch.equal(weighted.ring(2).dense(), graph.ring(2).dense())


def test_rings_that_do_not_fit_are_refused_with_their_size():
    graph = graph_of(memory_mb=1e-5)
    with pytest.raises(
        ValueError, match=r"'own' to fit in memory_mb=1e-05 \(got about 8 pairs of nodes.*any but h2gcn"
    ):
        graph.ring(2)
    assert graph.ring(1).num_entries == 6


def test_there_are_rings_at_one_and_two_hops_only():
    with pytest.raises(ValueError, match=r"'distance' to be 1 or 2 \(got distance=3\)"):
        graph_of().ring(3)


def test_symmetrised_edges_come_once_in_each_direction():
    graph = graph_of(edges=[[0, 1, 0, 0], [1, 0, 1, 2]])
    assert graph.edge_index.t().tolist() == [[1, 0], [2, 0], [0, 1], [0, 2]]
    assert not graph.is_directed


def test_directed_edges_stay_as_given():
    graph = graph_of(edges=[[0, 0, 2], [1, 1, 2]], directed=True)
    assert graph.edge_index.t().tolist() == [[0, 1], [0, 1], [2, 2]]
    assert graph.is_directed


def test_degree_leaves_self_loops_out():
    assert graph_of(edges=[[0, 1, 2], [0, 0, 0]], directed=True).degree.tolist() == [2.0, 0.0, 0.0, 0.0]


def test_sparse_and_dense_storage_hold_the_same_graph():
    x = np.zeros((4, 50), dtype=np.float32)
    x[[0, 1, 3], [5, 7, 9]] = 2.0
    sparse, dense = graph_of(x), graph_of(scipy.sparse.csr_array(np.ones((4, 2), dtype=np.float32)))
    assert isinstance(sparse.x, SparseMatrix)
    assert isinstance(dense.x, torch.Tensor)
    assert sparse.digest == graph_of(scipy.sparse.csr_array(x)).digest
    assert dense.digest == graph_of(np.ones((4, 2))).digest


@pytest.mark.parametrize("change", ["edge", "label", "feature"])
def test_digest_notices_every_change(change):
    x, labels = np.eye(4), list(LABELS)
    edges = [list(row) for row in EDGES]
    if change == "edge":
        edges[0][0] = 3
    elif change == "label":
        labels[0] = 1
    else:
        x[0, 1] = 1.0
    assert graph_of(x, edges, labels).digest != graph_of().digest


def test_digest_ignores_the_order_of_edges():
    assert graph_of(edges=[[2, 1, 0], [3, 2, 1]]).digest == graph_of().digest


@pytest.mark.parametrize("edges", ["row", "sym"])
def test_kept_product_equals_weights_times_features(edges):
    x = scipy.sparse.random(40, 300, density=0.02, random_state=0, format="csr", dtype=np.float64)
    graph = random_graph()
    sparse = Graph.from_arrays(x, graph.edge_index, graph.labels, directed=True)
    expected = dense_normalised(sparse, edges) @ torch.from_numpy(x.toarray())
    torch.testing.assert_close(sparse.product(edges).dense(), expected, rtol=0, atol=1e-15)
    torch.testing.assert_close(graph.product(edges), dense_normalised(graph, edges) @ graph.x, rtol=0, atol=1e-14)


def test_pyg_data_gives_the_same_graph_as_its_arrays():
    edges = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    data = Data(x=torch.eye(3), edge_index=edges, y=torch.tensor([[0], [1], [0]]))
    assert Graph.from_pyg(data).digest == Graph.from_arrays(np.eye(3), edges, [0, 1, 0], directed=False).digest


def test_pyg_edges_without_reverse_need_a_choice():
    data = Data(x=torch.eye(3), edge_index=torch.tensor([[0, 1], [1, 2]]), y=torch.tensor([0, 1, 0]))
    with pytest.raises(ValueError, match="Pass directed=True to keep them as given"):
        Graph.from_pyg(data)
    assert Graph.from_pyg(data, directed=True).num_edges == 2
    assert Graph.from_pyg(data, directed=False).num_edges == 4


def test_heterogeneous_data_is_refused_with_the_way_out():
    data = HeteroData()
    data["paper"].x = torch.eye(2)
    with pytest.raises(TypeError, match=r"node types paper.*node_type=.*to_homogeneous"):
        Graph.from_pyg(data)


def heterogeneous():
    data = HeteroData()
    data["paper"].x, data["paper"].y = torch.eye(3), torch.tensor([0, 1, 0])
    data["author"].x, data["author"].y = torch.eye(2), torch.tensor([0, 1])
    data["paper", "cites", "paper"].edge_index = torch.tensor([[0, 1], [1, 0]])
    data["paper", "follows", "paper"].edge_index = torch.tensor([[1, 2], [2, 1]])
    data["author", "writes", "paper"].edge_index = torch.tensor([[1], [2]])
    return data


def test_one_kind_of_nodes_with_the_edges_among_them_is_a_graph():
    data = heterogeneous()
    whole = Graph.from_pyg(data, node_type="paper")
    assert whole.edge_index.tolist() == [[1, 0, 2, 1], [0, 1, 1, 2]]
    assert torch.equal(whole.x, torch.eye(3))
    assert whole.labels.tolist() == [0, 1, 0]
    assert Graph.from_pyg(data, node_type="paper", edge_type="follows").edge_index.tolist() == [[2, 1], [1, 2]]


def test_weights_of_several_edge_types_come_together_or_not_at_all():
    data = heterogeneous()
    data["paper", "cites", "paper"].edge_weight = torch.tensor([2.0, 2.0])
    with pytest.raises(ValueError, match=r"edge_weight for all of the 2 edge types or for none \(got 1\)"):
        Graph.from_pyg(data, node_type="paper")
    data["paper", "follows", "paper"].edge_weight = torch.tensor([3.0, 3.0])
    assert Graph.from_pyg(data, node_type="paper").edge_weight.tolist() == [2.0, 2.0, 3.0, 3.0]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"node_type": "book"}, r"'node_type' to be one of paper, author \(got 'book'\)"),
        (
            {"node_type": "author"},
            r"edges from 'author' to 'author' \(got edge types: paper cites paper, .*author writes",
        ),
        ({"node_type": "paper", "edge_type": "likes"}, r"edges of type 'likes' from 'paper' to 'paper'"),
    ],
)
def test_a_kind_that_is_not_there_is_named(choice, message):
    with pytest.raises(ValueError, match=message):
        Graph.from_pyg(heterogeneous(), **choice)


def test_a_kind_of_a_homogeneous_graph_is_refused():
    data = Data(edge_index=torch.tensor([[0, 1], [1, 0]]), y=torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"no 'node_type' .* \(got 'paper' and None\)"):
        Graph.from_pyg(data, node_type="paper")


def test_a_graph_may_come_without_features():
    edges = [[0, 1], [1, 0]]
    g = networkx.Graph([(0, 1)])
    nx_labels = {0: 0, 1: 1}
    networkx.set_node_attributes(g, nx_labels, "y")
    graphs = [
        Graph.from_arrays(None, edges, [0, 1], directed=False),
        Graph.from_pyg(Data(edge_index=torch.tensor(edges), y=torch.tensor([0, 1]))),
        Graph.from_networkx(g, feature=None),
    ]
    assert [graph.num_features for graph in graphs] == [0, 0, 0]
    assert len({graph.digest for graph in graphs}) == 1


def test_networkx_attributes_become_features_labels_and_weights():
    g = networkx.DiGraph()
    g.add_node("a", x=[1.0, 0.0], y=1)
    g.add_node("b", x=[0.0, 1.0])
    g.add_edge("a", "b", w=0.5)
    graph = Graph.from_networkx(g, weight="w")
    assert graph.edge_index.tolist() == [[0], [1]]
    assert graph.edge_weight.tolist() == [0.5]
    assert graph.labels.tolist() == [1, -1]


@pytest.mark.parametrize("kind", [networkx.Graph, networkx.MultiGraph])
def test_an_undirected_networkx_graph_has_both_directions_either_way(kind):
    g = kind([(0, 1, {"w": 2.0}), (1, 1, {"w": 5.0})])
    for node in g:
        g.nodes[node]["x"] = [1.0]
    for directed in (None, True, False):
        graph = Graph.from_networkx(g, weight="w", directed=directed)
        assert graph.edge_index.tolist() == [[1, 0, 1], [0, 1, 1]]
        assert graph.edge_weight.tolist() == [2.0, 2.0, 5.0]
        assert not graph.is_directed


def test_parallel_networkx_edges_stay_only_where_edges_are_kept_as_given():
    g = networkx.MultiGraph([(0, 1, {"w": 2.0}), (1, 0, {"w": 3.0})])
    for node in g:
        g.nodes[node]["x"] = [1.0]
    assert Graph.from_networkx(g, weight="w", directed=True).edge_weight.tolist() == [2.0, 3.0, 2.0, 3.0]
    assert Graph.from_networkx(g, weight="w").edge_weight.tolist() == [2.0, 2.0]


def test_networkx_node_without_features_is_named():
    with pytest.raises(ValueError, match=r"every node to have the attribute 'x' .*first: 0"):
        Graph.from_networkx(networkx.path_graph(3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"edges": [[0, 9], [1, 2]]}, r"name nodes 0\.\.3 \(got edge 1: 9 -> 2\)"),
        ({"edges": [[0, -1], [1, 2]]}, r"got edge 1: -1 -> 2"),
        ({"edges": [0, 1, 2]}, r"shape \[2, num_edges\]"),
        ({"edges": [[0.5], [1.0]]}, "whole numbers of shape"),
        ({"x": np.array([[np.nan]] * 4)}, "finite features in 'x' .got 4 NaN or infinite"),
        ({"x": np.array([[np.inf]] * 4)}, "finite features"),
        ({"x": np.ones(4)}, r"numbers of shape \[num_nodes, num_features\]"),
        ({"labels": [0, 1]}, r"one class a node \(got shape \[2\] for 4 nodes\)"),
        ({"labels": [0, 1, 0.5, 1]}, "whole numbers from 0 on"),
        ({"labels": [0, 1, -2, 1]}, "-1 where unknown"),
        ({"labels": [0, 1, np.inf, 1]}, "whole numbers from 0 on"),
        ({"labels": ["a", "b", "a", "b"]}, "whole numbers from 0 on"),
        ({"edge_weight": [1.0, np.nan, 1.0]}, "one finite number an edge"),
    ],
)
def test_a_fault_is_named_with_its_value(change, message):
    with pytest.raises(ValueError, match=message):
        graph_of(**change)


@pytest.mark.parametrize("nodes", [[0, 4], [-1], [[0, 1]]])
def test_nodes_out_of_range_are_refused(nodes):
    with pytest.raises(ValueError, match=r"numbers in 0\.\.3"):
        graph_of().field(nodes, 1)


@pytest.mark.parametrize("nodes", [[0.7], np.array([True, False, True, False]), torch.tensor([True, False])])
def test_masks_and_fractions_are_no_nodes(nodes):
    with pytest.raises(ValueError, match=r"'nodes' to be whole numbers .* Turn a mask into numbers"):
        graph_of().field(nodes, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_hops": -1}, "'num_hops' to be at least 0"),
        ({"num_hops": 1, "edges": "rows"}, "'edges' to be one of raw, row, sym"),
        ({"num_hops": 1, "boundary": "wide"}, "'boundary' to be one of narrow, closed"),
    ],
)
def test_unknown_kinds_of_field_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        graph_of().field([0], **options)


def test_the_callers_sparse_features_stay_as_they_are():
    x = scipy.sparse.csr_array((np.float32([1, 0, 2]), np.array([3, 1, 0]), np.array([0, 2, 2, 2, 3])), shape=(4, 60))
    parts = [part.copy() for part in (x.data, x.indices, x.indptr)]
    graph = graph_of(x)
    assert all(map(np.array_equal, (x.data, x.indices, x.indptr), parts))
    assert graph.x.num_entries == 2


def test_an_edge_whose_weight_is_that_of_its_reverse_only_by_cancelling_is_directed():
    assert graph_of(edges=[[0, 0], [1, 1]], edge_weight=[1.0, -1.0], directed=True).is_directed
    assert graph_of(edges=[[0, 1], [1, 0]], edge_weight=[1.0, 2.0], directed=True).is_directed
    assert not graph_of(edges=[[0, 1], [1, 0]], edge_weight=[2.0, 2.0], directed=True).is_directed


def test_symmetrised_edges_keep_their_own_weight_before_that_of_the_reverse():
    graph = graph_of(edges=[[0, 1, 0, 1], [1, 0, 1, 2]], edge_weight=[1.0, 2.0, 7.0, 4.0])
    assert graph.edge_index.t().tolist() == [[1, 0], [0, 1], [2, 1], [1, 2]]
    assert graph.edge_weight.tolist() == [2.0, 1.0, 4.0, 4.0]


@pytest.mark.parametrize("edges", ["row", "sym"])
def test_rows_whose_weights_sum_to_zero_or_less_are_read_with_weight_zero(edges):
    graph = graph_of(np.eye(2), [[0, 1], [1, 0]], [0, 1], edge_weight=[-3.0, 2.0], directed=True)
    weights = graph.weights(edges).dense()
    assert weights.isfinite().all()
    assert torch.equal(weights[1], torch.zeros(2, dtype=torch.float64))


def test_another_type_keeps_the_digest_and_the_weights():
    graph = random_graph()
    narrow = graph.to(dtype=torch.float32)
    assert graph.to() is graph.to(dtype=torch.float64) is graph
    assert narrow.x.dtype == narrow.adjacency.dtype == narrow.degree.dtype == torch.float32
    assert narrow.weights("sym").dtype == narrow.field([0], 0).adjacency.dtype == torch.float32
    assert narrow.digest == graph.digest


def test_a_node_named_twice_is_refused():
    for hops in (0, 1):
        with pytest.raises(ValueError, match="node 2 more than once"):
            graph_of().field([1, 2, 2], hops)
    assert graph_of().field([1, 2], 1).num_targets == 2
