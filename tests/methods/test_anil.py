from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fgsam.methods.anil import ANIL
from fgsam.nn.encoders import field_of
from tests.helpers import assert_close
from tests.methods.tiny import make_gcn, tiny_episode, tiny_graph


def make_anil(**options) -> ANIL:
    torch.manual_seed(0)
    return ANIL(make_gcn, **{"num_steps": 4, "inner_lr": 0.5, **options}).double()


def slow_loss(method: ANIL, *, peer: bool) -> torch.Tensor:
    """Steps of the head by autograd."""
    episode = tiny_episode()
    rows = method.encoder(field_of(method.encoder, tiny_graph(), episode.nodes, peer=peer))
    support, query = rows[: episode.num_support], rows[episode.num_support :]
    start = method.head.start
    weight = torch.zeros(4, 3, dtype=torch.float64) if start is None else start.weight
    bias = torch.zeros(3, dtype=torch.float64) if start is None else start.bias
    weight, bias = weight + torch.zeros_like(weight).requires_grad_(), bias + torch.zeros_like(bias).requires_grad_()
    for _ in range(method.num_steps):
        loss = F.cross_entropy(support @ weight + bias, episode.support_labels)
        grads = torch.autograd.grad(loss, [weight, bias], create_graph=True)
        grads = [g.detach() for g in grads] if method.order == "first" else grads
        weight, bias = weight - method.inner_lr * grads[0], bias - method.inner_lr * grads[1]
    return F.cross_entropy(query @ weight + bias, episode.query_labels, reduction="none")


@pytest.mark.parametrize("peer", [False, True])
@pytest.mark.parametrize("num_outputs", [None, 3])
@pytest.mark.parametrize("order", ["first", "second"])
def test_loss_and_gradient_equal_steps_by_autograd(order, num_outputs, peer):
    method, episode = make_anil(order=order, num_outputs=num_outputs), tiny_episode()
    loss = method.loss(field_of(method.encoder, tiny_graph(), episode.nodes, peer=peer), episode)
    slow = slow_loss(method, peer=peer)
    assert_close(loss, slow)
    params = list(method.parameters())
    assert_close(torch.autograd.grad(loss.mean(), params), torch.autograd.grad(slow.mean(), params), rtol=1e-11)


def test_logits_of_an_episode_worked_by_hand():
    # One step from zero: the head is (targets - 1/2).T @ rows / 2, here half of ((1, 0), (0, 2)) minus its reverse.
    method = make_anil(num_steps=1, inner_lr=1.0)
    support = torch.tensor([[1.0, 0.0, 1.0], [0.0, 2.0, 1.0]], dtype=torch.float64)
    query = torch.tensor([[2.0, 1.0, 1.0]], dtype=torch.float64)
    method.head.dim = 2
    logits = method.logits((support,), torch.tensor([0, 1]), (query,), 2)
    torch.testing.assert_close(logits, torch.tensor([[0.0, 0.0]], dtype=torch.float64))
    query = torch.tensor([[2.0, 3.0, 1.0]], dtype=torch.float64)
    logits = method.logits((support,), torch.tensor([0, 1]), (query,), 2)
    torch.testing.assert_close(logits, torch.tensor([[-1.0, 1.0]], dtype=torch.float64))


def test_a_start_of_each_class_asks_for_as_many_classes():
    method, episode = make_anil(num_outputs=5), tiny_episode()
    with pytest.raises(ValueError, match=r"num_outputs=5 classes \(got n_way=3\)"):
        method.score(field_of(method.encoder, tiny_graph(), episode.nodes), episode)


@pytest.mark.parametrize("option", [{"num_steps": 0}, {"inner_lr": -1.0}, {"order": "third"}, {"num_outputs": 0}])
def test_options_out_of_range_are_refused(option):
    with pytest.raises(ValueError, match=f"Expected '{next(iter(option))}'"):
        make_anil(**option)
