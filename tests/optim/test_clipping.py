from __future__ import annotations

import pytest
import torch
from torch import nn

from fgsam.functional.ascent import clipped
from fgsam.optim.fgsam_plus import FGSAMPlus
from fgsam.optim.sam import SAM
from tests.twins.optimizers import LinearNet


def sam_step_by_hand(params, loss, base, rho, max_norm):
    """SAM with PyTorch's own clipping between its second gradient and the step."""
    gradients = torch.autograd.grad(loss(), params)
    length = torch.stack([g.norm() for g in gradients]).norm()
    start = [p.detach().clone() for p in params]
    with torch.no_grad():
        for p, g in zip(params, gradients, strict=True):
            p.add_(rho * g / length)
    base.zero_grad()
    loss().backward()
    with torch.no_grad():
        for p, value in zip(params, start, strict=True):
            p.copy_(value)
    found = nn.utils.clip_grad_norm_(params, max_norm)
    base.step()
    return found


@pytest.mark.parametrize("max_norm", [0.05, 1e3])
def test_the_second_gradient_is_clipped_as_pytorch_does(max_norm):
    net = LinearNet()
    ours, theirs = net.tensors(), net.tensors()
    optimizer = SAM(ours, torch.optim.SGD, rho=0.3, lr=0.3, momentum=0.9, max_norm=max_norm)
    base = torch.optim.SGD(theirs, lr=0.3, momentum=0.9)
    for _ in range(5):
        optimizer.step(net.closures(ours)[0])
        length = sam_step_by_hand(theirs, net.closures(theirs)[0], base, 0.3, max_norm)
        assert (length > max_norm) == (max_norm < 1)
    for p, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, expected, rtol=1e-12, atol=0)


def test_what_a_rule_keeps_is_not_clipped():
    found = []
    for max_norm in (None, 1e-3):
        net = LinearNet()
        params = net.tensors()
        optimizer = FGSAMPlus(params, torch.optim.SGD, lr=0.0, max_norm=max_norm)
        for _ in range(2):
            optimizer.step(*net.closures(params))
        found.append(optimizer.state_dict()["own"])
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


def test_a_short_vector_keeps_its_bits():
    vector = [torch.tensor([0.3, 0.4]), None]
    assert torch.equal(clipped(vector, 1.0)[0], vector[0])
    assert clipped(vector, 1.0)[0] is not vector[0]


@pytest.mark.parametrize("max_norm", [0.0, -1.0, float("nan")])
def test_a_norm_that_is_not_positive_is_refused(max_norm):
    with pytest.raises(ValueError, match="Expected 'max_norm' to be positive"):
        SAM([torch.ones(1, requires_grad=True)], max_norm=max_norm, lr=0.1)
