import pytest
import torch
from torch_geometric.nn import GCN2Conv

from fgsam.nn.encoders import field_of
from fgsam.nn.gcnii import GCNII
from tests.twins.graphs import random_graph

TARGETS = [7, 3, 39, 1]  # 39 is isolated


def stock_layers(encoder: GCNII, h: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
    first_rows = h
    for depth, weight in enumerate(encoder.weights, start=1):
        layer = GCN2Conv(weight.size(0), encoder.alpha, encoder.theta, depth).double()
        layer.weight1 = weight
        h = layer(h, first_rows, edge_index).relu()
    return h


def test_layers_equal_those_of_pytorch_geometric():
    graph = random_graph(directed=False)
    encoder = GCNII(6, num_layers=5, alpha=0.3, theta=1.5).double().eval()
    wanted = encoder.last(stock_layers(encoder, encoder.first(graph.x).relu(), graph.edge_index))
    rows = encoder(field_of(encoder, graph, TARGETS))
    torch.testing.assert_close(rows, wanted[TARGETS], rtol=0, atol=1e-14)


def test_with_nothing_but_the_first_rows_a_node_sees_only_itself():
    encoder, graph = GCNII(6, alpha=1.0).double().eval(), random_graph()
    rows = encoder(field_of(encoder, graph, TARGETS))
    torch.testing.assert_close(rows, encoder(field_of(encoder, graph, TARGETS, peer=True)), rtol=0, atol=1e-14)


@pytest.mark.parametrize("options", [{"num_layers": 0}, {"alpha": 1.5}, {"theta": 0.0}, {"hidden": 0}, {"dim": -1}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=f"Expected '{next(iter(options))}' to be"):
        GCNII(6, **options)
