from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fgsam.methods.maml import MAML
from fgsam.methods.meta_sgd import MetaSGD
from fgsam.nn.encoders import field_of
from tests.helpers import assert_close
from tests.methods.tiny import make_gcn, tiny_episode, tiny_graph
from tests.twins.adapting import adjacency_of, dense_gcn


def make(cls=MetaSGD, **options):
    torch.manual_seed(0)
    return cls(make_gcn, **{"num_steps": 3, "inner_lr": 0.4, **options}).double()


def loss_of(method, *, peer=False):
    episode = tiny_episode()
    return method.loss(field_of(method.encoder, tiny_graph(), episode.nodes, peer=peer), episode)


@pytest.mark.parametrize("order", ["first", "second"])
@pytest.mark.parametrize("num_outputs", [None, 3])
def test_it_begins_as_maml(num_outputs, order):
    method, maml = (make(cls, order=order, num_outputs=num_outputs) for cls in (MetaSGD, MAML))
    losses = [loss_of(m) for m in (method, maml)]
    assert_close(losses[0], losses[1], rtol=1e-6)  # step sizes are stored in single precision before they become double
    wanted = torch.autograd.grad(losses[1].mean(), list(maml.parameters()))
    found = torch.autograd.grad(losses[0].mean(), list(method.parameters())[: len(wanted)])
    assert_close(found, wanted, rtol=1e-5)


def slow_loss(method, params: list[torch.Tensor], sizes: list[torch.Tensor], *, peer: bool) -> torch.Tensor:
    graph, episode = tiny_graph(), tiny_episode()
    adjacency = adjacency_of(graph, peer=peer)
    weights = [*params, torch.zeros(4, 3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)]
    for weight in weights[-2:]:
        weight.requires_grad_()

    def logits(nodes):
        return dense_gcn(weights[:-2], graph.x, adjacency)[nodes] @ weights[-2] + weights[-1]

    for _ in range(method.num_steps):
        loss = F.cross_entropy(logits(episode.support), episode.support_labels)
        grads = torch.autograd.grad(loss, weights, create_graph=method.order == "second")
        weights = [w - s * g for w, s, g in zip(weights, sizes, grads, strict=True)]
    return F.cross_entropy(logits(episode.query), episode.query_labels, reduction="none")


@pytest.mark.parametrize("peer", [False, True])
@pytest.mark.parametrize("order", ["first", "second"])
def test_loss_and_gradient_equal_an_unrolled_loop(order, peer):
    method = make(order=order)
    params, sizes = list(method.encoder.parameters()), list(method.step_sizes)
    drawn = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for size in sizes:
            size.copy_(torch.rand(size.shape, generator=drawn, dtype=torch.float64) - 0.2)
    loss, slow = loss_of(method, peer=peer), slow_loss(method, params, sizes, peer=peer)
    assert_close(loss, slow)
    found = torch.autograd.grad(loss.mean(), params + sizes)
    assert_close(found, torch.autograd.grad(slow.mean(), params + sizes), rtol=1e-11)
    assert all((gradient != 0).any() for gradient in found)


def test_step_sizes_of_the_head_are_shared_by_classes_while_it_starts_at_zero():
    shapes = [tuple(size.shape) for size in make().step_sizes]
    assert shapes == [(12, 8), (8,), (8, 4), (4,), (4, 1), (1,)]
    assert [tuple(size.shape) for size in make(num_outputs=3).step_sizes][-2:] == [(4, 3), (3,)]


def test_one_step_leaves_step_sizes_of_the_encoder_without_gradient_unless_classes_have_starts():
    for num_outputs in (None, 3):
        method = make(num_steps=1, num_outputs=num_outputs)
        gradients = torch.autograd.grad(loss_of(method).mean(), list(method.step_sizes))
        assert (gradients[0] != 0).any() == (num_outputs is not None)
        assert (gradients[-2] != 0).any()
