from __future__ import annotations

import pytest
import torch

from fgsam.optim.wsam import WSAM
from tests.twins.optimizers import LinearNet, adam_update, relative_error, run_optimizer, run_twin, sgd_update
from tests.twins.variants import run_decoupled_wsam, wsam_directions

BASES = {
    "SGD": ({"lr": 0.3, "momentum": 0.9}, lambda: sgd_update(0.3, 0.9)),
    "Adam": ({"lr": 0.05, "weight_decay": 5e-4}, lambda: adam_update(0.05, 5e-4)),
}


@pytest.mark.parametrize("base", sorted(BASES))
@pytest.mark.parametrize("decoupled", [True, False])
def test_ten_steps_equal_the_equations(base, decoupled):
    net = LinearNet(seed=5)
    options, update = BASES[base]
    if decoupled:
        expected = run_decoupled_wsam(net, 0.3, 0.8, options["lr"], update(), num_steps=10)
    else:
        expected = run_twin(net, wsam_directions(net, 0.3, 0.8), update(), num_steps=10)
    base_class = getattr(torch.optim, base)
    found = run_optimizer(net, "wsam", 10, base=base_class, rho=0.3, gamma=0.8, decoupled=decoupled, **options)
    assert max(relative_error(f, e) for f, e in zip(found, expected, strict=True)) < 1e-12


def test_coupled_with_half_the_weight_it_is_sam():
    options = {"lr": 0.05, "rho": 0.2}
    sam = run_optimizer(LinearNet(), "sam", 6, **options)
    found = run_optimizer(LinearNet(), "wsam", 6, gamma=0.5, decoupled=False, **options)
    assert relative_error(found[-1], sam[-1]) == 0


@pytest.mark.parametrize("decoupled", [True, False])
def test_without_weight_it_is_the_base(decoupled):
    plain = run_optimizer(LinearNet(), "adam", 6, lr=0.05)
    found = run_optimizer(LinearNet(), "wsam", 6, gamma=0.0, rho=0.5, decoupled=decoupled, lr=0.05)
    assert relative_error(found[-1], plain[-1]) == 0


@pytest.mark.parametrize(("options", "is_same"), [({"lr": 0.3}, True), ({"lr": 0.3, "momentum": 0.9}, False)])
def test_decoupling_changes_nothing_for_plain_descent_alone(options, is_same):
    coupled, decoupled = (
        run_optimizer(LinearNet(), "wsam", 6, base=torch.optim.SGD, rho=0.3, gamma=0.7, decoupled=one, **options)[-1]
        for one in (False, True)
    )
    assert (relative_error(decoupled, coupled) < 1e-14) is is_same


def test_sharpness_is_taken_off_at_the_rate_of_each_group():
    a, b = (torch.tensor([1.0], requires_grad=True) for _ in range(2))
    groups = [{"params": [a], "lr": 0.25}, {"params": [b], "lr": 0.0}]
    optimizer = WSAM(groups, torch.optim.SGD, rho=0.5, gamma=0.5)
    optimizer.step(lambda: 0.5 * (a**2 + b**2).sum())
    assert a.item() == pytest.approx(1 - 0.25 * (1 + 0.5**0.5 / 2))
    assert b.item() == 1.0


def test_a_step_that_fails_leaves_no_sharpness_for_the_next():
    w = torch.tensor([1.0], requires_grad=True)
    optimizer = WSAM([w], torch.optim.SGD, rho=0.5, lr=0.25, nonfinite="skip")
    optimizer.step(lambda: (w**2).sum() * float("nan"))
    assert w.item() == 1.0
    optimizer.step(lambda: w.sum())  # no sharpness of its own
    assert w.item() == 0.75


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": 1.0}, r"Expected 'gamma' to be at least 0 and below 1 \(got gamma=1.0\)"),
        ({"gamma": -0.1}, "Expected 'gamma' to be at least 0 and below 1"),
        ({"gamma": float("nan")}, "Expected 'gamma' to be at least 0 and below 1"),
        ({"rho": -1.0}, "Expected 'rho' to be at least 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        WSAM([torch.ones(1, requires_grad=True)], **options)
