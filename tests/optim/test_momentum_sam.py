from __future__ import annotations

import pytest
import torch
from torch import nn

from fgsam.optim.momentum_sam import MomentumSAM
from tests.twins.optimizers import LinearNet, adam_update, relative_error, run_optimizer, run_twin
from tests.twins.variants import momentum_sam_directions, run_momentum_sam_as_printed


def test_ten_steps_equal_the_printed_iteration_moved_back():
    net = LinearNet(seed=4)
    expected = run_momentum_sam_as_printed(net, rho=0.3, lr=0.3, mu=0.9, num_steps=10)
    found = run_optimizer(net, "momentum_sam", 10, base=torch.optim.SGD, rho=0.3, lr=0.3, momentum=0.9)
    assert max(relative_error(f, e) for f, e in zip(found, expected, strict=True)) < 1e-12


@pytest.mark.parametrize("base", [torch.optim.Adam, torch.optim.AdamW])
def test_ten_steps_with_adam_equal_the_equations(base):
    net = LinearNet(seed=4)
    expected = run_twin(net, momentum_sam_directions(net, 0.3, 0.9), adam_update(0.05), num_steps=10)
    found = run_optimizer(net, "momentum_sam", 10, base=base, rho=0.3, lr=0.05, weight_decay=0.0)
    assert max(relative_error(f, e) for f, e in zip(found, expected, strict=True)) < 1e-12


def test_without_radius_it_is_descent_with_momentum():
    options = {"lr": 0.3, "momentum": 0.9}
    plain = run_optimizer(LinearNet(), "sgd", 6, **options)
    found = run_optimizer(LinearNet(), "momentum_sam", 6, base=torch.optim.SGD, rho=0.0, **options)
    assert relative_error(found[-1], plain[-1]) == 0


def places(optimizer, w, num_steps=3):
    seen = []

    def loss():
        seen.append(w.detach().clone())
        return (w**2).sum()

    for _ in range(num_steps):
        seen.append(w.detach().clone())
        optimizer.step(loss)
    return list(zip(seen[::2], seen[1::2], strict=True))


def test_weights_move_by_the_radius_against_the_momentum_in_one_pass():
    w = torch.tensor([3.0, 4.0], dtype=torch.float64, requires_grad=True)
    optimizer = MomentumSAM([w], torch.optim.SGD, rho=0.5, lr=0.1, momentum=0.9)
    (first, at_first), *later = places(optimizer, w)
    assert torch.equal(first, at_first)
    for before, moved in later:
        # Down the hill, as the momentum of a bowl points up.
        torch.testing.assert_close(moved, before - 0.5 * before / before.norm())


def test_groups_move_by_their_own_radius_under_one_norm():
    a, b = (torch.tensor([value], dtype=torch.float64, requires_grad=True) for value in (3.0, 4.0))
    optimizer = MomentumSAM([{"params": [a], "rho": 1.0}, {"params": [b]}], torch.optim.SGD, rho=0.5, momentum=0.9)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    seen = []

    def loss():
        seen.append((a.item(), b.item()))
        return 0.5 * (a**2 + b**2).sum()

    for _ in range(2):
        optimizer.step(loss)
    assert seen[1] == pytest.approx((3.0 - 0.6, 4.0 - 0.5 * 0.8))


def test_base_whose_momentum_is_zero_has_nothing_to_move_along():
    options = {"lr": 0.3}
    found = run_optimizer(LinearNet(), "momentum_sam", 4, base=torch.optim.SGD, rho=0.5, **options)
    assert relative_error(found[-1], run_optimizer(LinearNet(), "sgd", 4, **options)[-1]) == 0


def test_statistics_are_those_of_the_moved_weights_and_evaluation_sees_the_unmoved_ones():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).double()
    x = torch.arange(8, dtype=torch.float64).view(4, 2)
    optimizer = MomentumSAM(net, torch.optim.SGD, rho=0.5, lr=0.1, momentum=0.9)
    seen = []

    def loss():
        seen.append(net[0](x).mean(0).detach())
        return net(x).pow(3).sum()

    for _ in range(2):
        before = net[1].running_mean.clone()
        optimizer.step(loss)
        torch.testing.assert_close(net[1].running_mean, 0.9 * before + 0.1 * seen[-1])
    buffer = optimizer.state[net[0].weight]["momentum_buffer"]
    unmoved = net[0].weight.detach().clone()
    optimizer.step(loss)
    torch.testing.assert_close(net[0].weight.detach(), unmoved - 0.1 * buffer)


def test_reading_the_momentum_makes_no_state_for_parameters_without():
    w, unused = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    optimizer = MomentumSAM([w, unused])
    for _ in range(2):
        optimizer.step(lambda: (w**2).sum())
    assert unused not in optimizer.state


@pytest.mark.parametrize("base", [torch.optim.Adagrad, torch.optim.Rprop])
def test_base_that_knows_no_momentum_is_refused(base):
    with pytest.raises(ValueError, match=f"Expected 'base' to hold a momentum \\(got base={base.__name__}\\)"):
        MomentumSAM([torch.ones(1, requires_grad=True)], base)


def test_negative_radius_is_refused():
    with pytest.raises(ValueError, match="Expected 'rho' to be at least 0"):
        MomentumSAM([torch.ones(1, requires_grad=True)], rho=-1.0)
