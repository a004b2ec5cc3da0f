import torch

from fgsam.nn.encoders import field_of
from fgsam.nn.mlp import MLP
from tests.twins.graphs import random_graph


def test_edges_make_no_difference_and_it_is_its_own_peer():
    encoder, graph = MLP(6, num_layers=3).double().eval(), random_graph()
    rows = encoder(field_of(encoder, graph, [7, 3]))
    assert torch.equal(encoder(field_of(encoder, random_graph(num_edges=30, seed=1).replaced(x=graph.x), [7, 3])), rows)
    assert torch.equal(encoder(field_of(encoder, graph, [7, 3], peer=True)), rows)


def test_a_field_of_more_hops_gives_the_rows_of_its_targets():
    encoder, graph = MLP(6).double().eval(), random_graph()
    rows = encoder(graph.field([7, 3], num_hops=2))
    torch.testing.assert_close(rows, encoder(graph.field([7, 3], num_hops=0)), rtol=0, atol=1e-14)


def test_one_layer_is_an_affine_map():
    encoder, graph = MLP(6, dim=4, num_layers=1).double().train(), random_graph()
    (layer,) = encoder.layers
    assert torch.equal(encoder(graph.field([5], 0)), graph.x[[5]] @ layer.weight + layer.bias)
