"""Schedules for options of update rules: the radius, or the power of Sassha's Hessian.

A schedule is a function from the number of steps taken and a parameter group to the value of an option in that group.
``OptionSchedule`` applies it, next to PyTorch's schedulers of the learning rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fgsam.checks import check_choice, check_non_negative
from fgsam.optim.base import SharpnessAware

Schedule = Callable[[int, Mapping[str, Any]], float]
"""From the number of steps taken, and the parameter group, to the value of an option."""


def constant(value: float) -> Schedule:
    """Hold one value.

    Example:
        >>> constant(0.05)(100, {})
        0.05
    """
    return lambda step, group: value


def linear(start: float, end: float, num_steps: int) -> Schedule:
    """Go evenly from one value to another, and stay there.

    Args:
        start: Value before the first step.
        end: Value after ``num_steps`` steps and later.
        num_steps: Steps from one to the other, at least 1.

    Example:
        >>> linear(0.0, 0.1, num_steps=10)(5, {})
        0.05
    """
    _check_num_steps(num_steps)
    return lambda step, group: _between(start, end, min(step / num_steps, 1.0))


def cosine(start: float, end: float, num_steps: int) -> Schedule:
    """Go from one value to another along half a wave of the cosine, and stay there.

    Args:
        start: Value before the first step.
        end: Value after ``num_steps`` steps and later.
        num_steps: Steps from one to the other, at least 1.

    Example:
        >>> cosine(0.2, 0.0, num_steps=10)(5, {})
        0.1
    """
    _check_num_steps(num_steps)
    return lambda step, group: _between(start, end, (1 - math.cos(math.pi * min(step / num_steps, 1.0))) / 2)


def follow_lr(at_high: float, at_low: float, *, lr_high: float, lr_low: float = 0.0) -> Schedule:
    r"""Follow the learning rate of the group in proportion.

    .. math:: \rho_t = \rho_{low} + (\rho_{high} - \rho_{low}) \frac{\eta_t - \eta_{low}}{\eta_{high} - \eta_{low}}

    A learning rate outside its range, as in a warm-up, counts as the nearer end.

    Args:
        at_high: Value at the highest learning rate.
        at_low: Value at the lowest.
        lr_high: Highest learning rate, above ``lr_low``.
        lr_low: Lowest learning rate, at least 0.

    Example:
        >>> follow_lr(0.2, 0.1, lr_high=0.5)(0, {"lr": 0.25})
        0.15000000000000002

    Source:
        Zhuang et al., Surrogate Gap Minimization Improves Sharpness-Aware Training, 2022, Algorithm 1, for the radius;
        Shin et al., Sassha: Sharpness-aware Adaptive Second-order Optimization with Stable Hessian Approximation, 2025,
        for the power of the Hessian.
    """
    check_non_negative(lr_low=lr_low)
    if not lr_high > lr_low:
        raise ValueError(f"Expected 'lr_high' to be above 'lr_low' (got lr_high={lr_high}, lr_low={lr_low})")

    def value(step: int, group: Mapping[str, Any]) -> float:
        share = (float(group["lr"]) - lr_low) / (lr_high - lr_low)
        return _between(at_low, at_high, min(max(share, 0.0), 1.0))

    return value


class OptionSchedule:
    """Sets an option of an optimizer's parameter groups by a schedule.

    Call ``step`` after each step of the optimizer, and after that of a scheduler of the learning rate, if there is one.
    The optimizer's own ``state_dict`` holds the present values; this object's holds the number of steps.

    Args:
        optimizer: Whose groups to write to.
        option: Name of the option: ``"rho"``.
        schedule: One schedule for all groups, or one for each.

    Raises:
        ValueError: If a group has no such option, the number of schedules is wrong, or a value is negative.

    Example:
        >>> import torch
        >>> from fgsam.optim.sam import SAM
        >>> optimizer = SAM([torch.ones(2, requires_grad=True)], rho=0.1)
        >>> schedule = OptionSchedule(optimizer, "rho", linear(0.1, 0.0, num_steps=4))
        >>> schedule.step()
        >>> optimizer.param_groups[0]["rho"]
        0.07500000000000001
    """

    def __init__(self, optimizer: SharpnessAware, option: str, schedule: Schedule | Sequence[Schedule]) -> None:
        groups = optimizer.param_groups
        for group in groups:
            check_choice(sorted(group.keys() - {"params", "param_names"}), option=option)
        if not callable(schedule) and len(schedule) != len(groups):
            raise ValueError(
                f"Expected 'schedule' to be one function, or one for each of the {len(groups)} groups "
                f"(got {len(schedule)})"
            )
        self.optimizer = optimizer
        self.option = option
        self.schedule = schedule
        self.num_steps = 0
        self._apply(0)

    def step(self) -> None:
        """Count a step, and set the values that the next one uses."""
        self._apply(self.num_steps + 1)

    def state_dict(self) -> dict[str, int]:
        """Return the number of steps; the schedules are functions and are not saved."""
        return {"num_steps": self.num_steps}

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Take up the number of steps. Load the optimizer before: a schedule may follow its learning rate."""
        self._apply(state_dict["num_steps"])

    def _apply(self, num_steps: int) -> None:
        groups = self.optimizer.param_groups
        schedules = [self.schedule] * len(groups) if callable(self.schedule) else self.schedule
        values = [one(num_steps, group) for one, group in zip(schedules, groups, strict=True)]
        for value in values:
            check_non_negative(**{self.option: value})
        for group, value in zip(groups, values, strict=True):
            group[self.option] = value
        self.num_steps = num_steps


def _between(start: float, end: float, share: float) -> float:
    # Exact at both ends.
    return start * (1 - share) + end * share


def _check_num_steps(num_steps: int) -> None:
    if not isinstance(num_steps, int) or num_steps < 1:
        raise ValueError(f"Expected 'num_steps' to be a whole number, at least 1 (got {num_steps!r})")
