from __future__ import annotations

import weakref

import pytest
import torch
from torch import nn

from fgsam.optim.esam import ESAM
from fgsam.optim.fgsam import FGSAM
from fgsam.optim.fgsam_plus import FGSAMPlus
from fgsam.optim.sam import SAM
from fgsam.optim.sassha import Sassha
from tests.twins.optimizers import LinearNet


def episodes_of(net, params, seeds, place):
    """Losses of one micro-episode after the other; place 0 is the GNN's, 1 the peer's."""
    return lambda: (LinearNet(seed).closures(params)[place]() for seed in seeds)


def mean_of(params, seeds, place):
    return lambda: torch.stack([LinearNet(seed).closures(params)[place]() for seed in seeds]).mean()


@pytest.mark.parametrize("rule", [SAM, FGSAM, FGSAMPlus, Sassha])
def test_micro_episodes_are_minimised_together(rule):
    net, found, losses = LinearNet(), [], []
    for build in (lambda p, i: episodes_of(net, p, (1, 2, 3), i), lambda p, i: mean_of(p, (1, 2, 3), i)):
        params = net.tensors()
        optimizer = rule(params, lr=0.05)
        closures = [build(params, i) for i in range(2 if rule.peer == "required" else 1)]
        losses.append([optimizer.step(*closures) for _ in range(4)])
        found.append([p.detach() for p in params])
    torch.testing.assert_close(found[0], found[1], rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-12, atol=0)


def test_each_micro_episode_counts_alike_whatever_its_size():
    w = torch.tensor([1.0], requires_grad=True)
    loss = SAM([w], torch.optim.SGD, rho=0.0, lr=1.0).step(lambda: iter([torch.cat([w, w, 4 * w]), 6 * w]))
    assert loss.item() == 4.0
    assert w.item() == -3.0


def test_rules_that_weigh_queries_see_all_of_them():
    found = []
    for in_parts in (True, False):
        w = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
        optimizer = ESAM([w], torch.optim.SGD, rho=0.5, beta=1.0, gamma=0.25, lr=0.25)
        parts = [lambda w=w: torch.cat([w**2, 3 * w]), lambda w=w: torch.cat([w**3, w])]
        optimizer.step(
            (lambda p=parts: (part() for part in p)) if in_parts else lambda p=parts: torch.cat([p[0](), p[1]()])
        )
        found.append(w.item())
    assert found[0] == found[1]
    assert found[0] == pytest.approx(1 - 0.25 * 3 * 1.5**2)  # the cube has risen most


def test_a_graph_is_gone_before_the_next_one_is_built():
    layer, x = nn.Linear(3, 3), torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    alive = []

    def closure():
        for _ in range(3):
            hidden = torch.tanh(layer(x))
            loss, seen = hidden.square().mean(), weakref.ref(hidden)
            del hidden
            yield loss
            alive.append(seen() is not None)

    SAM(layer, lr=0.1).step(closure)
    assert alive == [False] * 6


def test_passes_share_the_random_numbers_of_every_micro_episode():
    w, drawn = torch.ones(4, requires_grad=True), []

    def closure():
        for _ in range(2):
            drawn.append(torch.rand(4))
            yield (w * drawn[-1]).square().sum()

    optimizer = SAM([w], lr=0.1)
    for _ in range(2):
        optimizer.step(closure)
    assert torch.equal(drawn[0], drawn[2])
    assert torch.equal(drawn[1], drawn[3])
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[4])


def test_a_generator_may_call_backward_itself():
    net, found = LinearNet(), []
    for calls_backward in (True, False):
        params = net.tensors()

        def closure(params=params, calls_backward=calls_backward):
            for seed in (1, 2):
                loss = LinearNet(seed).closures(params)[0]()
                if calls_backward:
                    loss.backward()
                yield loss

        SAM(params, lr=0.1).step(closure)
        found.append(torch.cat([p.detach().flatten() for p in params]))
    assert torch.equal(found[0], found[1])


def test_a_parameter_that_one_micro_episode_reaches_has_its_share_of_the_gradient():
    a, b = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    SAM([a, b], torch.optim.SGD, rho=0.0, lr=1.0).step(lambda: iter([a.sum(), (a + 4 * b).sum()]))
    assert (a.item(), b.item()) == (0.0, -1.0)


def test_an_iterator_without_losses_is_refused_and_leaves_no_trace():
    w = torch.ones(1, requires_grad=True)
    with pytest.raises(ValueError, match="Expected the closure to yield a loss for each micro-episode"):
        SAM([w], lr=0.1).step(lambda: iter([]))
    assert w.item() == 1.0


def test_a_closure_that_forgets_its_loss_is_told():
    with pytest.raises(TypeError, match="return its loss"):
        SAM([torch.ones(1, requires_grad=True)], lr=0.1).step(lambda: None)
