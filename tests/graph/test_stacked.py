from __future__ import annotations

import pytest
import scipy.sparse
import torch

from fgsam.functional.inner import Stateless
from fgsam.graph.graph import Graph
from fgsam.graph.scaled import scaled
from fgsam.graph.stacked import StackedFields, stackable
from fgsam.nn.encoders import field_of
from fgsam.nn.gcn import GCN
from tests.helpers import assert_close
from tests.twins.graphs import random_graph

NODES = [[7, 3, 39], [0, 1, 2, 4, 5], [39], [8, 20]]  # 39 is isolated


@pytest.fixture
def graph():
    return random_graph(directed=True).to(dtype=torch.float64)


@pytest.fixture
def encoder(graph):
    torch.manual_seed(0)
    return GCN(graph.num_features, hidden=8, dim=4, num_layers=3, dropout=0.0).double()


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("peer", [False, True])
def test_fields_side_by_side_are_embedded_as_each_alone(graph, encoder, peer, kept):
    fields = [graph.field(nodes, 0 if peer else 3, edges="sym", kept=kept and not peer) for nodes in NODES]
    rows = encoder(StackedFields(fields))
    assert len(rows) == 4
    for found, field in zip(rows, fields, strict=True):
        assert_close(found[: field.num_targets], encoder(field))


def test_each_field_may_have_weights_of_its_own_and_factors_of_its_columns(graph, encoder):
    drawn = torch.Generator().manual_seed(0)
    columns = torch.rand(4, graph.num_features, generator=drawn, dtype=torch.float64)
    fields = [scaled(field_of(encoder, graph, nodes), c) for nodes, c in zip(NODES, columns, strict=True)]
    function = Stateless(encoder)
    weights = {name: torch.randn(4, *w.shape, generator=drawn).double() for name, w in function.weights.items()}
    rows = function({name: w.unsqueeze(1) if w.dim() == 2 else w for name, w in weights.items()}, StackedFields(fields))
    for i, field in enumerate(fields):
        assert_close(rows[i][: field.num_targets], function({name: w[i] for name, w in weights.items()}, field))


def test_sparse_rows_are_not_stacked(graph):
    words = scipy.sparse.random(40, 60, density=0.1, random_state=0, format="csr")
    other = Graph.from_arrays(words, graph.edge_index, graph.labels, directed=True)
    assert stackable([graph.field([0], 1)])
    assert not stackable([graph.field([0], 1), other.field([0], 1)])
