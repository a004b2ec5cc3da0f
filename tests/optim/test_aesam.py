from __future__ import annotations

import math

import pytest
import torch

from fgsam.optim.aesam import AESAM
from tests.twins.optimizers import LinearNet, adam_update, relative_error, run_optimizer, run_twin, sgd_update
from tests.twins.variants import aesam_directions

INF = math.inf


@pytest.mark.parametrize("base", ["SGD", "Adam"])
@pytest.mark.parametrize("lam", [(-1.0, 1.0), (0.2, -0.3)])
def test_ten_steps_equal_the_equations(base, lam):
    net, shares = LinearNet(seed=2), []
    update = sgd_update(1.5, 0.9) if base == "SGD" else adam_update(0.3)
    options = {"lr": 1.5, "momentum": 0.9} if base == "SGD" else {"lr": 0.3}
    directions = aesam_directions(net, 0.3, *lam, 0.8, 10, shares)
    expected = run_twin(net, directions, update, num_steps=10)
    options.update(base=getattr(torch.optim, base), rho=0.3, decay=0.8, num_steps=10)
    found = run_optimizer(net, "aesam", 10, threshold_end=lam[0], threshold_start=lam[1], **options)
    assert max(relative_error(f, e) for f, e in zip(found, expected, strict=True)) < 1e-12
    assert {True, False} == set(shares)


@pytest.mark.parametrize(("threshold", "twin"), [(-INF, "sam"), (INF, "adam")])
def test_infinite_thresholds_give_sam_and_the_base(threshold, twin):
    options = {"lr": 0.05, "rho": 0.2} if twin == "sam" else {"lr": 0.05}
    expected = run_optimizer(LinearNet(), twin, 8, **options)[-1]
    ends = {"threshold_start": threshold, "threshold_end": threshold, "num_steps": 8}
    assert relative_error(run_optimizer(LinearNet(), "aesam", 8, lr=0.05, rho=0.2, **ends)[-1], expected) == 0


def num_passes_per_step(loss, num_steps, **options):
    w = torch.tensor([0.7, 0.1], requires_grad=True)
    optimizer, calls, found = AESAM([w], torch.optim.SGD, lr=0.1, **options), [], []

    def counted():
        calls.append(1)
        return loss(w)

    for _ in range(num_steps):
        before = len(calls)
        optimizer.step(counted)
        found.append(len(calls) - before)
    return found


@pytest.mark.parametrize("threshold", [-1.0, 0.0, 1.0])
def test_a_constant_gradient_is_large_in_every_step(threshold):
    options = {"threshold_start": threshold, "threshold_end": threshold}
    assert num_passes_per_step(lambda w: 0.3 * w.sum(), 12, **options) == [2] * 12


def test_first_step_is_that_of_sam_and_a_smaller_gradient_is_not_large():
    assert num_passes_per_step(lambda w: (w**2).sum(), 4) == [2, 1, 1, 1]


def test_threshold_moves_from_its_start_to_its_end_and_stays_there():
    w = torch.tensor([1.0], requires_grad=True)
    optimizer = AESAM([w], num_steps=4, threshold_start=2.0, threshold_end=1.0)
    seen = []
    for _ in range(6):
        seen.append(optimizer._threshold())
        optimizer.step(lambda: (w**2).sum())
    assert seen == [2.0, 1.75, 1.5, 1.25, 1.0, 1.0]
    assert AESAM([w], threshold_start=2.0, threshold_end=1.0)._threshold() == 1.5


def test_a_skipped_step_does_not_enter_the_averages():
    w = torch.tensor([1.0], requires_grad=True)
    optimizer = AESAM([w], torch.optim.SGD, lr=0.1, nonfinite="skip")
    optimizer.step(lambda: (w**2).sum())
    before = {key: optimizer.own[key] for key in ("mean", "variance")}
    optimizer.step(lambda: (w**2).sum() * float("inf"))
    assert {key: optimizer.own[key] for key in before} == before
    assert optimizer.num_skipped == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decay": 1.5}, "Expected 'decay' to be between 0 and 1"),
        ({"num_steps": 0}, "Expected 'num_steps' to be a whole number, at least 1, or None"),
        ({"num_steps": 2.5}, "Expected 'num_steps' to be a whole number, at least 1, or None"),
        ({"threshold_start": INF}, "to be finite, or the same infinity"),
        ({"threshold_end": math.nan}, "to be finite, or the same infinity"),
        ({"threshold_start": INF, "threshold_end": -INF}, "to be finite, or the same infinity"),
        ({"rho": -1.0}, "Expected 'rho' to be at least 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AESAM([torch.ones(1, requires_grad=True)], **options)
