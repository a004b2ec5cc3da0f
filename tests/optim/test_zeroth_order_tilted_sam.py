from __future__ import annotations

import numpy as np
import pytest
import torch

from fgsam.optim import zeroth_order_tilted_sam
from fgsam.optim.zeroth_order_tilted_sam import ZerothOrderTiltedSAM
from tests.twins.optimizers import LinearNet, adam_update, relative_error, run_optimizer, run_twin, sgd_update
from tests.twins.variants import Drawing, tilted_quadratic, tilted_quadratic_gradient, zeroth_order_directions


@pytest.mark.parametrize("base", ["SGD", "Adam"])
@pytest.mark.parametrize(("tilt", "num_samples"), [(0.0, 3), (1.0, 1), (2.0, 4)])
def test_ten_steps_equal_the_equations(monkeypatch, base, tilt, num_samples):
    drawing = Drawing(num_samples)
    monkeypatch.setattr(zeroth_order_tilted_sam, "gaussian", drawing)
    net = LinearNet(seed=5)
    update = sgd_update(0.05, 0.9) if base == "SGD" else adam_update(0.05, 5e-4)
    options = {"lr": 0.05, "momentum": 0.9} if base == "SGD" else {"lr": 0.05, "weight_decay": 5e-4}
    options.update(base=getattr(torch.optim, base), rho=0.2, tilt=tilt, num_samples=num_samples)
    found = run_optimizer(net, "zeroth_order_tilted_sam", 10, **options)
    assert len(drawing.draws) == 10
    expected = run_twin(net, zeroth_order_directions(net, 0.2, tilt, drawing.draws), update, num_steps=10)
    assert max(relative_error(f, e) for f, e in zip(found, expected, strict=True)) < 1e-12


def estimate(loss, start, **options):
    w = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(0)
    ZerothOrderTiltedSAM([w], torch.optim.SGD, lr=0.0, **options).step(lambda: loss(w))
    return w.grad


@pytest.mark.parametrize("tilt", [0.0, 1.0, 3.0])
def test_on_a_linear_loss_the_expected_value_is_its_slope_for_every_tilt(tilt):
    slope = torch.tensor([0.5, -1.0, 0.2], dtype=torch.float64)
    found = estimate(lambda w: slope @ w, [0.3, 0.1, 0.2], rho=0.2, tilt=tilt, num_samples=500)
    assert (found - slope).norm() < 0.2 * slope.norm()


def test_on_a_quadratic_it_approaches_the_closed_form():
    a, start, tilt, sigma = tilted_quadratic()
    matrix = torch.tensor(a)
    found = estimate(lambda w: 0.5 * w @ matrix @ w, start.tolist(), rho=sigma, tilt=tilt, num_samples=800).numpy()
    expected = tilted_quadratic_gradient(a, start, tilt, sigma)
    error = np.linalg.norm(found - expected)
    assert error < 0.15 * np.linalg.norm(expected)
    assert error < 0.5 * np.linalg.norm(found - a @ start)  # which has no tilt


def test_without_tilt_it_is_the_two_point_estimate():
    w = torch.tensor([0.7, -0.4], dtype=torch.float64, requires_grad=True)
    seen = []

    def loss():
        value = (w**4).sum() + w.prod()
        seen.append((w.detach().clone(), float(value)))
        return value

    ZerothOrderTiltedSAM([w], torch.optim.SGD, lr=0.0, rho=0.1, tilt=0.0, num_samples=1).step(loss)
    (above, high), (below, low) = seen
    u = (above - below) / 0.2
    torch.testing.assert_close(w.grad, (high - low) / 0.2 * u, rtol=1e-12, atol=0)
    torch.testing.assert_close((above + below) / 2, w.detach(), rtol=1e-14, atol=0)


def test_an_even_loss_has_no_slope():
    found = estimate(lambda w: (w**2).sum(), [0.0, 0.0], rho=0.3, tilt=2.0, num_samples=3)
    assert found.abs().max() < 1e-14


def test_no_graph_is_made_and_no_draw_is_held():
    w = torch.ones(3, requires_grad=True)
    seen = []

    def loss():
        value = (w**2).sum()
        seen.append((value.requires_grad, torch.is_grad_enabled()))
        return value

    optimizer = ZerothOrderTiltedSAM([w], num_samples=3)
    optimizer.step(loss)
    assert seen == [(False, False)] * 6
    assert not any(isinstance(value, torch.Tensor) for value in optimizer.own.values())


def test_a_loss_that_cannot_be_differentiated_is_minimised():
    w = torch.tensor([1.0, -1.5], dtype=torch.float64, requires_grad=True)
    torch.manual_seed(0)
    optimizer = ZerothOrderTiltedSAM([w], torch.optim.SGD, lr=0.05, num_samples=8)
    for _ in range(100):
        optimizer.step(lambda: float((w.detach().numpy() ** 2).sum()))
    assert w.detach().abs().max() < 0.1


def test_a_group_of_radius_zero_is_left_alone():
    a, b = (torch.tensor([1.0], requires_grad=True) for _ in range(2))
    optimizer = ZerothOrderTiltedSAM([{"params": [a], "rho": 0.0}, {"params": [b]}], torch.optim.AdamW, lr=0.1)
    for _ in range(3):
        optimizer.step(lambda: (a**2 + b**2).sum())
    assert a.item() == 1.0
    assert b.item() < 1.0
    assert a not in optimizer.state


def test_a_closure_that_calls_backward_is_refused():
    w = torch.tensor([1.0], requires_grad=True)

    def closure():
        loss = (w**2).sum()
        loss.backward()
        return loss

    with pytest.raises(TypeError, match="Expected the GNN closure to leave backward to the optimizer"):
        ZerothOrderTiltedSAM([w]).step(closure)
    assert torch.equal(w.detach(), torch.tensor([1.0]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rho": 0.0}, "Expected 'rho' to be positive"),
        ({"tilt": -1.0}, "Expected 'tilt' to be at least 0"),
        ({"tilt": float("inf")}, "Expected 'tilt' to be finite"),
        ({"num_samples": 0}, "Expected 'num_samples' to be a whole number, at least 1"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ZerothOrderTiltedSAM([torch.ones(1, requires_grad=True)], **options)
