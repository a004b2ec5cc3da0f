from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fgsam.methods.classifier import NodeClassifier
from fgsam.nn.encoders import field_of
from tests.methods.tiny import NUM_CLASSES, make_gcn, tiny_graph


def made(**options):
    torch.manual_seed(0)
    return NodeClassifier(make_gcn, NUM_CLASSES, **options).double().eval()


@pytest.mark.parametrize("peer", [False, True])
def test_the_loss_is_the_cross_entropy_of_each_target(peer):
    graph, method = tiny_graph(), made()
    nodes = torch.tensor([3, 0, 7])
    field = field_of(method.encoder, graph, nodes, peer=peer)
    logits = method.encoder(field) @ method.head.weight.T + method.head.bias
    loss = method.loss(field, graph.labels[nodes])
    assert loss.shape == (3,)
    torch.testing.assert_close(loss, F.cross_entropy(logits, graph.labels[nodes], reduction="none"))


def test_every_weight_gets_a_gradient_with_edges_and_without():
    graph = tiny_graph()
    for peer in (False, True):
        method = made()
        nodes = torch.arange(8)
        method.loss(field_of(method.encoder, graph, nodes, peer=peer), graph.labels[nodes]).mean().backward()
        assert all(param.grad is not None and param.grad.isfinite().all() for param in method.parameters())


@pytest.mark.parametrize(
    ("message_passing", "train", "test"), [("always", True, True), ("test", False, True), ("never", False, False)]
)
def test_message_passing_says_where_edges_are_used(message_passing, train, test):
    method = made(message_passing=message_passing)
    assert (method.trains_on_edges, method.tests_on_edges) == (train, test)


def test_an_unknown_way_is_refused():
    with pytest.raises(ValueError, match="'message_passing' to be one of always, test, never"):
        made(message_passing="sometimes")
