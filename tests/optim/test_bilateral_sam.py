from __future__ import annotations

import pytest
import torch

from fgsam.optim.bilateral_sam import BilateralSAM
from tests.twins.optimizers import LinearNet, adam_update, relative_error, run_optimizer, run_twin, sgd_update
from tests.twins.variants import bilateral_sam_directions


@pytest.mark.parametrize("base", ["SGD", "Adam"])
def test_ten_steps_equal_the_equations(base):
    net = LinearNet(seed=5)
    update = sgd_update(0.3, 0.9) if base == "SGD" else adam_update(0.05, 5e-4)
    options = {"lr": 0.3, "momentum": 0.9} if base == "SGD" else {"lr": 0.05, "weight_decay": 5e-4}
    expected = run_twin(net, bilateral_sam_directions(net, 0.3, 0.1), update, num_steps=10)
    found = run_optimizer(
        net, "bilateral_sam", 10, base=getattr(torch.optim, base), rho_max=0.3, rho_min=0.1, **options
    )
    assert max(relative_error(f, e) for f, e in zip(found, expected, strict=True)) < 1e-12


def gradients(rho_max, rho_min):
    """Gradients of the three passes on a quadratic, and what the base used."""
    a = torch.tensor([[3.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    w = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    seen = []

    def loss():
        seen.append(a @ w.detach())
        return 0.5 * w @ a @ w

    BilateralSAM([w], torch.optim.SGD, lr=0.1, rho_max=rho_max, rho_min=rho_min).step(loss)
    return a, seen, w.grad


def test_gap_of_the_two_ends_on_a_quadratic_is_the_closed_form():
    a, (g, g_max, g_min), _ = gradients(0.3, 0.2)
    torch.testing.assert_close(g_max - g_min, 0.5 * a @ g / g.norm(), rtol=1e-12, atol=0)


def test_without_descent_the_middle_takes_the_place_of_the_bottom():
    _, (g, g_max, g_min), used = gradients(0.3, 0.0)
    assert torch.equal(g_min, g)
    torch.testing.assert_close(used, g_max + (1 - g_max.norm() / g.norm()) * g, rtol=1e-12, atol=0)


def test_without_radii_the_direction_is_the_gradient_itself():
    _, (g, _, _), used = gradients(0.0, 0.0)
    assert torch.equal(used, g)


def test_last_term_has_the_length_of_the_gradient_at_the_top():
    _, (g, g_max, g_min), used = gradients(0.3, 0.2)
    last = g_max + g - used
    torch.testing.assert_close(last, g_max.norm() * g_min / g_min.norm(), rtol=1e-12, atol=0)


def test_weights_stay_where_the_released_code_leaves_them_below():
    w = torch.tensor([3.0, 4.0], requires_grad=True)
    BilateralSAM([w], torch.optim.SGD, lr=0.0, rho_min=0.05).step(lambda: (w**2).sum())
    assert torch.equal(w.detach(), torch.tensor([3.0, 4.0]))


def test_a_bottom_without_slope_is_left_out():
    w = torch.tensor([1.0], requires_grad=True)
    BilateralSAM([w], torch.optim.SGD, lr=0.25, rho_max=1.0, rho_min=1.0).step(lambda: 0.5 * (w**2).sum())
    assert w.item() == 1 - 0.25 * (2.0 + 1.0)


def test_groups_move_by_their_own_radii():
    a, b = torch.tensor([3.0], requires_grad=True), torch.tensor([4.0], requires_grad=True)
    seen = []

    def loss():
        seen.append((a.item(), b.item()))
        return 0.5 * (a**2 + b**2).sum()

    groups = [{"params": [a], "rho_max": 1.0}, {"params": [b], "rho_min": 0.0}]
    BilateralSAM(groups, torch.optim.SGD, rho_max=0.5, rho_min=0.2, lr=0.0).step(loss)
    assert seen[1] == pytest.approx((3.0 + 0.6, 4.0 + 0.5 * 0.8))
    assert seen[2] == pytest.approx((3.0 - 0.2 * 0.6, 4.0))


@pytest.mark.parametrize("name", ["rho_max", "rho_min"])
def test_negative_radii_are_refused(name):
    with pytest.raises(ValueError, match=f"Expected '{name}' to be at least 0"):
        BilateralSAM([torch.ones(1, requires_grad=True)], **{name: -1.0})
