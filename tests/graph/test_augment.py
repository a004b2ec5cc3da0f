from __future__ import annotations

import numpy as np
import pytest
import torch

from fgsam.graph.augment import random_views, without_edges
from fgsam.graph.graph import Graph
from fgsam.nn.appnp import APPNP
from fgsam.nn.encoders import field_of
from fgsam.nn.gat import GAT
from fgsam.nn.gcn import GCN
from fgsam.nn.gcnii import GCNII
from fgsam.nn.gin import GIN
from fgsam.nn.gprgnn import GPRGNN
from fgsam.nn.mlp import MLP
from fgsam.nn.module import ModuleEncoder
from fgsam.nn.sage import SAGE
from fgsam.nn.sgc import SGC
from tests.helpers import assert_close

NUM_NODES, NUM_FEATURES = 40, 6
NODES = [3, 17, 0, 25]


def graph_of(*, directed=False, weighted=False, loops=False, kept=None) -> Graph:
    """Forty nodes, about three edges each; with ``kept``, only those entries of the edge list."""
    rng = np.random.default_rng(0)
    edges = rng.integers(0, NUM_NODES, (2, 70))
    edges = edges[:, edges[0] != edges[1]]
    if loops:
        edges = np.concatenate([edges, np.array([[3, 9], [3, 9]])], axis=1)
    if not directed:
        edges = np.unique(np.concatenate([edges, edges[::-1]], axis=1), axis=1)
    weight = 0.5 + (edges.sum(0) % 5) if weighted else None
    x = rng.standard_normal((NUM_NODES, NUM_FEATURES))
    order = np.lexsort((edges[0], edges[1]))
    edges, weight = edges[:, order], None if weight is None else weight[order]
    if kept is not None:
        edges, weight = edges[:, kept], None if weight is None else weight[kept]
    graph = Graph.from_arrays(x, edges, [0] * NUM_NODES, directed=True, edge_weight=weight)
    return graph.to(dtype=torch.float64)


def thinned(options, seed=1, share=0.5):
    """A graph, the same without some edges, and which entries of its weights that takes away."""
    graph = graph_of(**options)
    source, target = graph.edge_index.numpy()
    lost = (np.random.default_rng(seed).random(graph.num_edges) < share) & (source != target)
    other = graph_of(**options, kept=~lost)
    gone = set(zip(source[lost].tolist(), target[lost].tolist(), strict=True))

    def dropped(edges):
        matrix = graph.weights(edges)
        rows = np.repeat(np.arange(NUM_NODES), np.diff(matrix.rowptr.numpy()))
        pairs = zip(matrix.col.tolist(), rows.tolist(), strict=True)
        return torch.tensor([pair in gone for pair in pairs])

    return graph, other, dropped


options = pytest.mark.parametrize(
    "options",
    [{}, {"directed": True}, {"weighted": True}, {"loops": True}, {"directed": True, "weighted": True, "loops": True}],
    ids=str,
)


@options
@pytest.mark.parametrize("normalise", ["row", "sym"])
def test_weights_are_those_of_the_graph_that_is_left(normalise, options):
    graph, other, dropped = thinned(options)
    field = without_edges(graph.field(NODES, 2, edges=normalise), dropped(normalise))
    block = field.adjacency.dense()[: field.sizes[1]]
    expected = other.weights(normalise).dense()[field.node_ids[: field.sizes[1]]]
    assert_close(block, expected[:, field.node_ids])
    outside = np.setdiff1d(np.arange(NUM_NODES), field.node_ids.numpy())
    assert not expected[:, outside].any()
    assert block.bool().sum() < graph.weights(normalise).dense()[field.node_ids[: field.sizes[1]]].bool().sum()


@pytest.mark.parametrize("make", [GCN, SGC, SAGE, GAT, GIN, APPNP, GCNII, GPRGNN], ids=lambda make: make.__name__)
def test_every_encoder_embeds_as_in_the_graph_that_is_left(make):
    graph, other, dropped = thinned({})
    torch.manual_seed(0)
    encoder = make(NUM_FEATURES).double().eval()
    field = field_of(encoder, graph, NODES, kept=False)
    found = encoder(without_edges(field, dropped(encoder.edges)))
    assert_close(found, encoder(field_of(encoder, other, NODES)))
    assert (found - encoder(field)).norm() > 1e-3


def test_a_module_that_counts_degrees_itself_sees_the_graph_that_is_left():
    geometric = pytest.importorskip("torch_geometric.nn")
    graph, other, dropped = thinned({})
    torch.manual_seed(0)
    encoder = ModuleEncoder(geometric.GCNConv(NUM_FEATURES, 3), NUM_FEATURES).double().eval()
    field = field_of(encoder, graph, NODES, kept=False)
    found = encoder(without_edges(field, dropped(encoder.edges)))
    assert_close(found, encoder(field_of(encoder, other, NODES)))
    assert (found - encoder(field)).norm() > 1e-3


def test_self_loops_stay_and_a_node_without_edges_keeps_itself():
    graph = graph_of()
    field = without_edges(graph.field(NODES, 1, edges="sym"), torch.ones(graph.weights("sym").num_entries).bool())
    assert_close(field.adjacency.dense()[:4], torch.eye(field.num_nodes, dtype=torch.float64)[:4])


def test_dropping_nothing_changes_nothing():
    graph = graph_of(weighted=True)
    whole = graph.field(NODES, 2, edges="sym")
    same = without_edges(whole, torch.zeros(graph.weights("sym").num_entries).bool())
    assert_close(same.adjacency.dense(), whole.adjacency.dense())


def test_a_field_can_lose_edges_after_its_head_was_taken():
    graph, _, dropped = thinned({})
    field = graph.field(NODES, 2, edges="sym")
    head = without_edges(field.head(2), dropped("sym"))
    rows = head.num_nodes
    expected = without_edges(field, dropped("sym")).adjacency.dense()[: head.sizes[1], :rows]
    assert_close(head.adjacency.dense()[: head.sizes[1]], expected)


def test_views_share_the_feature_rows():
    graph, _, dropped = thinned({})
    field = graph.field(NODES, 2, edges="sym")
    assert without_edges(field, dropped("sym")).x is field.x


def test_the_peer_has_no_edges_to_lose():
    graph, _, dropped = thinned({})
    field = graph.field(NODES, 0, edges="sym")
    assert without_edges(field, dropped("sym")) is field
    torch.manual_seed(0)
    encoder = MLP(NUM_FEATURES).double()
    encoder(without_edges(field, dropped("sym")))


def test_a_field_of_kept_rows_is_refused():
    graph, _, dropped = thinned({})
    field = graph.field(NODES, 2, edges="sym", kept=True)
    with pytest.raises(ValueError, match=r"every edge it needs .*kept=False"):
        without_edges(field, dropped("sym"))


@pytest.mark.parametrize("edge_drop", [0.0, 0.5])
@pytest.mark.parametrize("kept", [False, True])
def test_views_are_fields_of_a_graph_without_what_they_lost(kept, edge_drop):
    graph, nodes = graph_of(), list(range(NUM_NODES))
    torch.manual_seed(0)
    encoder = GCN(NUM_FEATURES).double().eval()
    field = graph.field(nodes, 2, edges="sym", kept=kept and not edge_drop)
    views = random_views(field, feature_drop=0.5, edge_drop=edge_drop)
    for view in views:
        source, target = view.edge_index
        edges = torch.stack([view.node_ids[source], view.node_ids[target]])
        edges = edges[:, edges[0] != edges[1]] if edge_drop else graph.edge_index
        other = Graph.from_arrays(view.x[view.node_ids.argsort()], edges, [0] * NUM_NODES, directed=True)
        expected = encoder(field_of(encoder, other.to(dtype=torch.float64), nodes))
        assert_close(encoder(view), expected)
        assert (encoder(field) - expected).norm() > 1e-3


def test_views_lose_about_the_shares_asked_for_and_not_the_same():
    graph = graph_of()
    field = graph.field(range(NUM_NODES), 2, edges="sym")
    torch.manual_seed(0)
    pairs = [random_views(field, feature_drop=0.25, edge_drop=0.4) for _ in range(100)]
    lost = [(view.x == 0).all(0) for pair in pairs for view in pair]
    assert float(torch.stack(lost).double().mean()) == pytest.approx(0.25, abs=0.04)
    num_whole, loops = field.adjacency.num_entries, NUM_NODES
    left = [(view.adjacency.num_entries - loops) / (num_whole - loops) for pair in pairs for view in pair]
    assert sum(left) / len(left) == pytest.approx(0.6, abs=0.02)
    first, second = pairs[0]
    assert not torch.equal(first.adjacency.dense(), second.adjacency.dense())
    assert any(not torch.equal(*found) for found in zip(lost[::2], lost[1::2], strict=True))


def test_both_directions_of_an_edge_are_lost_by_themselves():
    field = graph_of().field(range(NUM_NODES), 1, edges="raw")
    torch.manual_seed(0)
    dense = random_views(field, feature_drop=0.0, edge_drop=0.5)[0].adjacency.dense()
    assert not torch.equal(dense, dense.mT)


def test_the_peer_loses_the_same_columns():
    graph = graph_of()
    seen = []
    for num_hops in (2, 0):
        torch.manual_seed(0)
        views = random_views(graph.field(NODES, num_hops, edges="sym"), feature_drop=0.5, edge_drop=0.5)
        seen.append([view.x[:4] for view in views])
    assert_close(seen[1], seen[0], rtol=0)


@pytest.mark.parametrize("shares", [(1.5, 0.0), (0.0, -0.1)])
def test_shares_out_of_range_are_refused(shares):
    field = graph_of().field(NODES, 2, edges="sym")
    with pytest.raises(ValueError, match="between 0 and 1"):
        random_views(field, feature_drop=shares[0], edge_drop=shares[1])
