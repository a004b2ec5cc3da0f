from __future__ import annotations

import pytest
import torch

from fgsam.optim.sam import SAM
from tests.twins.optimizers import (
    LinearNet,
    adam_update,
    relative_error,
    run_optimizer,
    run_twin,
    sam_directions,
    sgd_update,
)


@pytest.mark.parametrize(
    ("base", "options", "update"),
    [
        (torch.optim.SGD, {"lr": 0.3}, lambda: sgd_update(0.3)),
        (torch.optim.SGD, {"lr": 0.3, "momentum": 0.9}, lambda: sgd_update(0.3, 0.9)),
        (torch.optim.Adam, {"lr": 0.05, "weight_decay": 5e-4}, lambda: adam_update(0.05, 5e-4)),
    ],
)
def test_ten_steps_equal_the_equations(base, options, update):
    net = LinearNet(seed=1)
    expected = run_twin(net, sam_directions(net, rho=0.3), update(), num_steps=10)
    found = run_optimizer(net, "sam", 10, base=base, rho=0.3, **options)
    assert max(relative_error(f, e) for f, e in zip(found, expected, strict=True)) < 1e-12


def quadratic(eigenvalues: torch.Tensor, start: torch.Tensor, num_steps: int, **options: float) -> torch.Tensor:
    w = start.clone().requires_grad_()
    optimizer = SAM([w], torch.optim.SGD, **options)
    for _ in range(num_steps):
        optimizer.step(lambda: 0.5 * (eigenvalues * w * w).sum())
    return w.detach()


def test_step_on_a_quadratic_is_the_closed_form():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(4, 4, dtype=torch.float64, generator=generator)
    a, w0 = root @ root.T, torch.randn(4, dtype=torch.float64, generator=generator)
    w = w0.clone().requires_grad_()
    SAM([w], torch.optim.SGD, rho=0.2, lr=0.1).step(lambda: 0.5 * w @ a @ w)
    g = a @ w0
    torch.testing.assert_close(w.detach(), w0 - 0.1 * a @ (w0 + 0.2 * g / g.norm()), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("lr", "curvature", "rho"), [(0.1, 1.0, 0.05), (0.5, 2.0, 0.1), (0.05, 10.0, 0.3)])
def test_scalar_quadratic_ends_in_the_known_cycle(lr, curvature, rho):
    one = torch.ones(1, dtype=torch.float64)
    last = quadratic(curvature * one, one, 300, lr=lr, rho=rho)
    after = quadratic(curvature * one, one, 301, lr=lr, rho=rho)
    amplitude = lr * curvature * rho / (2 - lr * curvature)
    torch.testing.assert_close(last.abs(), amplitude * one, rtol=1e-10, atol=0)
    torch.testing.assert_close(after, -last, rtol=1e-10, atol=0)


def test_quadratic_ends_in_the_cycle_along_the_top_eigenvector():
    eigenvalues = torch.tensor([3.0, 1.0, 0.5], dtype=torch.float64)
    start = torch.tensor([1.0, 0.01, 0.01], dtype=torch.float64)
    last = quadratic(eigenvalues, start, 300, lr=0.1, rho=0.1)
    torch.testing.assert_close(last[0].abs(), torch.tensor(0.3 * 0.1 / 1.7, dtype=torch.float64), rtol=1e-8, atol=0)
    assert last[1:].abs().max() < 1e-8


def test_groups_move_by_their_own_radius_under_one_norm():
    a, b = torch.tensor([3.0], requires_grad=True), torch.tensor([4.0], requires_grad=True)
    seen = []

    def loss():
        seen.append((a.item(), b.item()))
        return 0.5 * (a**2 + b**2).sum()

    groups = [{"params": [a], "rho": 1.0}, {"params": [b]}]
    SAM(groups, torch.optim.SGD, rho=0.5, lr=0.0).step(loss)
    assert seen[1] == pytest.approx((3.0 + 0.6, 4.0 + 0.5 * 0.8))


def test_radius_may_be_scheduled_in_its_group():
    w = torch.tensor([1.0], requires_grad=True)
    optimizer = SAM([w], torch.optim.SGD, rho=0.5, lr=0.25)
    optimizer.param_groups[0]["rho"] = 0.0
    optimizer.step(lambda: (w**2).sum())
    assert w.item() == 0.5


def test_negative_radius_is_refused():
    w = torch.tensor([1.0], requires_grad=True)
    with pytest.raises(ValueError, match="Expected 'rho' to be at least 0"):
        SAM([w], rho=-1.0)
    with pytest.raises(ValueError, match="Expected 'rho' to be at least 0"):
        SAM([{"params": [w], "rho": -1.0}])
    with pytest.raises(ValueError, match="Expected 'rho' to be at least 0"):
        SAM([w]).add_param_group({"params": [torch.ones(1, requires_grad=True)], "rho": -1.0})


def test_base_with_an_option_of_the_same_name_is_refused():
    with pytest.raises(ValueError, match="base=Adadelta, 'rho' in both"):
        SAM([torch.ones(1, requires_grad=True)], torch.optim.Adadelta)
