from __future__ import annotations

import math

import pytest
import torch

from fgsam.optim.bilateral_sam import BilateralSAM
from fgsam.optim.sam import SAM
from fgsam.optim.schedules import OptionSchedule, constant, cosine, follow_lr, linear


def values(schedule, num_steps=6):
    return [schedule(step, {}) for step in range(num_steps)]


def test_constant_stays():
    assert values(constant(0.3)) == [0.3] * 6


def test_linear_is_even_and_ends_exactly():
    assert values(linear(0.2, 1.0, 4)) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert values(linear(0.1, 0.7, 3))[3:] == [0.7] * 3
    assert values(linear(1.0, 0.5, 2)) == [1.0, 0.75, 0.5, 0.5, 0.5, 0.5]  # as the power of Sassha's Hessian


def test_cosine_is_half_a_wave():
    expected = [0.5 * (1 + math.cos(math.pi * step / 4)) for step in range(5)]
    assert values(cosine(1.0, 0.0, 4), 5) == pytest.approx(expected)
    assert values(cosine(0.1, 0.7, 3))[3:] == [0.7] * 3


def test_follow_lr_is_proportional_and_clipped():
    schedule = follow_lr(1.0, 0.5, lr_high=0.3, lr_low=0.1)
    assert [schedule(0, {"lr": lr}) for lr in (0.5, 0.3, 0.1, 0.01)] == [1.0, 1.0, 0.5, 0.5]
    assert schedule(0, {"lr": 0.2}) == pytest.approx(0.75)
    assert schedule(0, {"lr": torch.tensor(0.2)}) == pytest.approx(0.75)


def optimizer_of_two_groups(**options):
    groups = [{"params": [torch.ones(1, requires_grad=True)]} for _ in range(2)]
    return SAM(groups, torch.optim.SGD, lr=0.1, **options)


def test_schedule_reaches_every_group_from_the_start():
    optimizer = optimizer_of_two_groups(rho=0.7)
    schedule = OptionSchedule(optimizer, "rho", linear(0.4, 0.0, 4))
    assert [group["rho"] for group in optimizer.param_groups] == [0.4, 0.4]
    schedule.step()
    assert [group["rho"] for group in optimizer.param_groups] == pytest.approx([0.3, 0.3])


def test_each_group_may_have_its_own():
    optimizer = optimizer_of_two_groups()
    schedule = OptionSchedule(optimizer, "rho", [constant(0.2), linear(1.0, 0.0, 2)])
    schedule.step()
    assert [group["rho"] for group in optimizer.param_groups] == [0.2, 0.5]


def test_the_step_uses_the_scheduled_value():
    w = torch.tensor([1.0], requires_grad=True)
    optimizer = SAM([w], torch.optim.SGD, rho=0.5, lr=0.25)
    OptionSchedule(optimizer, "rho", constant(0.0))
    optimizer.step(lambda: (w**2).sum())
    assert w.item() == 0.5


def test_a_run_taken_up_again_goes_on_as_if_never_stopped():
    def start():
        optimizer = optimizer_of_two_groups()
        return optimizer, OptionSchedule(optimizer, "rho", cosine(0.4, 0.0, 10))

    optimizer, schedule = start()
    for _ in range(3):
        schedule.step()
    states = optimizer.state_dict(), schedule.state_dict()
    other_optimizer, other = start()
    other_optimizer.load_state_dict(states[0])
    other.load_state_dict(states[1])
    assert other_optimizer.param_groups[0]["rho"] == optimizer.param_groups[0]["rho"]
    schedule.step()
    other.step()
    assert other_optimizer.param_groups[0]["rho"] == optimizer.param_groups[0]["rho"] == cosine(0.4, 0.0, 10)(4, {})
    assert states[1] == {"num_steps": 3}


def test_any_group_option_may_be_scheduled():
    optimizer = BilateralSAM([torch.ones(1, requires_grad=True)], torch.optim.SGD, lr=0.1)
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 4)
    schedule = OptionSchedule(optimizer, "rho_min", follow_lr(0.05, 0.0, lr_high=0.1))
    for _ in range(2):
        optimizer.step(lambda: optimizer.param_groups[0]["params"][0].pow(2).sum())
        rates.step()
        schedule.step()
    assert optimizer.param_groups[0]["rho_min"] == pytest.approx(0.025)


def test_bad_arguments_are_refused():
    optimizer = optimizer_of_two_groups()
    with pytest.raises(ValueError, match=r"Expected 'option' to be one of .*rho.* \(got 'radius'\)"):
        OptionSchedule(optimizer, "radius", constant(0.1))
    with pytest.raises(ValueError, match=r"one for each of the 2 groups \(got 3\)"):
        OptionSchedule(optimizer, "rho", [constant(0.1)] * 3)
    with pytest.raises(ValueError, match="Expected 'rho' to be at least 0"):
        OptionSchedule(optimizer, "rho", constant(-0.1))
    with pytest.raises(ValueError, match="Expected 'num_steps' to be a whole number, at least 1"):
        linear(0.0, 1.0, 0)
    with pytest.raises(ValueError, match="Expected 'num_steps' to be a whole number, at least 1"):
        cosine(0.0, 1.0, 2.5)
    with pytest.raises(ValueError, match="Expected 'lr_high' to be above 'lr_low'"):
        follow_lr(1.0, 0.0, lr_high=0.1, lr_low=0.1)
    with pytest.raises(ValueError, match="Expected 'lr_low' to be at least 0"):
        follow_lr(1.0, 0.0, lr_high=0.1, lr_low=-0.1)


def test_a_refused_value_leaves_the_groups_as_they_were():
    optimizer = optimizer_of_two_groups(rho=0.3)
    schedule = OptionSchedule(optimizer, "rho", [constant(0.2), linear(0.1, -0.1, 1)])
    with pytest.raises(ValueError, match="Expected 'rho' to be at least 0"):
        schedule.step()
    assert [group["rho"] for group in optimizer.param_groups] == [0.2, 0.1]
    assert schedule.num_steps == 0
