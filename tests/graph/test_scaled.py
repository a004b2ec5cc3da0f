from __future__ import annotations

import pytest
import scipy.sparse
import torch
from torch_geometric.nn import GCN as PyGGCN

from fgsam.graph.graph import Graph
from fgsam.graph.scaled import scaled
from fgsam.nn.encoders import field_of
from fgsam.nn.gcn import GCN
from fgsam.nn.gin import GIN
from fgsam.nn.module import ModuleEncoder
from tests.helpers import assert_close
from tests.twins.graphs import random_graph

NODES = [7, 3, 39, 1]


def graph_of(kind: str) -> Graph:
    graph = random_graph(directed=False).to(dtype=torch.float64)
    if kind == "sparse":
        words = scipy.sparse.random(40, 60, density=0.1, random_state=0, format="csr")
        graph = Graph.from_arrays(words, graph.edge_index, graph.labels, directed=True).to(dtype=torch.float64)
    return graph


def rescaled(graph: Graph, columns: torch.Tensor) -> Graph:
    x = graph.x if isinstance(graph.x, torch.Tensor) else graph.x.dense()
    twin = Graph.from_arrays(x * columns, graph.edge_index, graph.labels, directed=True)
    return twin.to(dtype=torch.float64)


def encoder_of(name: str, num_features: int):
    torch.manual_seed(0)
    if name == "module":
        return ModuleEncoder(PyGGCN(num_features, 8, num_layers=2, out_channels=4), num_features).double()
    return {"gcn": GCN, "gin": GIN}[name](num_features, hidden=8, dim=4, dropout=0.0).double()


@pytest.mark.parametrize("peer", [False, True])
@pytest.mark.parametrize("name", ["gcn", "gin", "module"])
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_an_encoder_reads_a_scaled_field_as_that_of_scaled_features(kind, name, peer):
    graph = graph_of(kind)
    columns = torch.rand(graph.num_features, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.5
    encoder = encoder_of(name, graph.num_features)
    view = scaled(field_of(encoder, graph, NODES, peer=peer), columns)
    twin = field_of(encoder, rescaled(graph, columns), NODES, peer=peer)
    assert_close(encoder(view), encoder(twin))
    assert_close(encoder(view.head(2).reread()), encoder(twin)[:2])
    assert_close(view.dense_x(), twin.dense_x())
    assert (view.num_targets, view.head(2).num_targets, view.is_peer) == (4, 2, peer)


@pytest.mark.parametrize("name", ["gcn", "module"])
def test_gradients_reach_the_factors_also_a_second_time(name):
    graph = graph_of("sparse")
    encoder = encoder_of(name, graph.num_features)
    field = field_of(encoder, graph, NODES)
    columns = torch.rand(graph.num_features, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    columns.requires_grad_()

    def outputs(factors):
        return encoder(scaled(field, factors)).tanh().sum()

    assert torch.autograd.gradcheck(outputs, columns)
    assert torch.autograd.gradgradcheck(outputs, columns)


def test_a_scaled_field_of_a_scaled_field_has_both_factors_and_leaves_the_field():
    graph = graph_of("dense")
    field = graph.field(NODES, 1)
    before = field.x.clone()
    columns = torch.full((graph.num_features,), 3.0, dtype=torch.float64)
    assert_close(scaled(scaled(field, columns), columns).x, 9 * before)
    assert torch.equal(field.x, before)


def test_a_factor_for_each_column_is_asked_for():
    graph = graph_of("dense")
    with pytest.raises(ValueError, match=rf"'columns' of shape \[{graph.num_features}\] \(got \[2\]\)"):
        scaled(graph.field(NODES, 1), torch.ones(2))
