from __future__ import annotations

import pytest
import torch

from fgsam.functional.trees import add, dot, norm
from fgsam.optim.gsam import GSAM
from fgsam.optim.schedules import OptionSchedule, follow_lr
from tests.twins.optimizers import LinearNet, adam_update, relative_error, run_optimizer, run_twin, sgd_update
from tests.twins.variants import gsam_directions


@pytest.mark.parametrize("base", ["SGD", "Adam"])
def test_ten_steps_equal_the_equations(base):
    net = LinearNet(seed=5)
    update = sgd_update(0.3, 0.9) if base == "SGD" else adam_update(0.05, 5e-4)
    options = {"lr": 0.3, "momentum": 0.9} if base == "SGD" else {"lr": 0.05, "weight_decay": 5e-4}
    expected = run_twin(net, gsam_directions(net, 0.3, 0.4), update, num_steps=10)
    found = run_optimizer(net, "gsam", 10, base=getattr(torch.optim, base), rho=0.3, alpha=0.4, **options)
    assert max(relative_error(f, e) for f, e in zip(found, expected, strict=True)) < 1e-12


def test_without_weight_and_schedule_it_is_sam():
    options = {"lr": 0.05, "rho": 0.2}
    sam = run_optimizer(LinearNet(), "sam", 6, **options)
    assert relative_error(run_optimizer(LinearNet(), "gsam", 6, alpha=0.0, **options)[-1], sam[-1]) == 0


def test_what_is_taken_off_is_across_the_perturbed_gradient_over_all_tensors_together():
    def used(alpha):
        net = LinearNet(seed=6)
        params = net.tensors()
        GSAM(params, torch.optim.SGD, lr=0.1, rho=0.5, alpha=alpha).step(net.closures(params)[0])
        return [p.grad for p in params]

    g_p, with_gap = used(0.0), used(1.0)
    gap = add(g_p, with_gap, alpha=-1.0)
    assert norm(gap) > 1e-3
    assert abs(dot(gap, g_p)) < 1e-13 * norm(gap)
    assert abs(dot(gap[:1], g_p[:1])) > 1e-6


def test_step_on_a_quadratic_is_the_closed_form():
    a = torch.diag(torch.tensor([3.0, 1.0], dtype=torch.float64))
    w0 = torch.tensor([1.0, 2.0], dtype=torch.float64)
    w = w0.clone().requires_grad_()
    GSAM([w], torch.optim.SGD, rho=0.5, alpha=0.3, lr=0.1).step(lambda: 0.5 * w @ a @ w)
    g = a @ w0
    g_p = a @ (w0 + 0.5 * g / g.norm())
    torch.testing.assert_close(w.detach(), w0 - 0.1 * (g_p - 0.3 * (g - (g @ g_p) / (g_p @ g_p) * g_p)))


def test_radius_follows_the_learning_rate_as_printed():
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    optimizer = GSAM([w], torch.optim.SGD, lr=0.4)
    rates = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1.0, end_factor=0.25, total_iters=4)
    schedule = OptionSchedule(optimizer, "rho", follow_lr(0.2, 0.05, lr_high=0.4, lr_low=0.1))
    found = []
    for _ in range(5):
        found.append(optimizer.param_groups[0]["rho"])
        optimizer.step(lambda: (w**2).sum())
        rates.step()
        schedule.step()
    assert found == pytest.approx([0.2, 0.1625, 0.125, 0.0875, 0.05])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -0.1}, "Expected 'alpha' to be at least 0"),
        ({"rho": -1.0}, "Expected 'rho' to be at least 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GSAM([torch.ones(1, requires_grad=True)], **options)
