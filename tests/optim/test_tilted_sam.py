from __future__ import annotations

import numpy as np
import pytest
import torch

from fgsam.functional.trees import norm
from fgsam.optim import tilted_sam
from fgsam.optim.tilted_sam import TiltedSAM
from tests.twins.optimizers import LinearNet, adam_update, relative_error, run_optimizer, run_twin, sgd_update
from tests.twins.variants import Drawing, tilted_quadratic, tilted_quadratic_gradient, tilted_sam_directions


@pytest.mark.parametrize("base", ["SGD", "Adam"])
@pytest.mark.parametrize("ascend", [False, True])
@pytest.mark.parametrize(("tilt", "num_samples"), [(0.0, 3), (2.0, 3), (20.0, 4), (5.0, 1)])
def test_ten_steps_equal_the_equations(monkeypatch, base, ascend, tilt, num_samples):
    drawing = Drawing(num_samples)
    monkeypatch.setattr(tilted_sam, "gaussian", drawing)
    net = LinearNet(seed=5)
    update = sgd_update(0.3, 0.9) if base == "SGD" else adam_update(0.05, 5e-4)
    options = {"lr": 0.3, "momentum": 0.9} if base == "SGD" else {"lr": 0.05, "weight_decay": 5e-4}
    options.update(base=getattr(torch.optim, base), rho=0.1, tilt=tilt, noise="gaussian", ascend=ascend)
    found = run_optimizer(net, "tilted_sam", 10, num_samples=num_samples, **options)
    assert len(drawing.draws) == 10
    expected = run_twin(net, tilted_sam_directions(net, 0.1, tilt, drawing.draws, ascend=ascend), update, num_steps=10)
    assert max(relative_error(f, e) for f, e in zip(found, expected, strict=True)) < 1e-12


def one_step(loss=lambda w: (w**4).sum() + w.prod(), **options):
    """Points, losses and gradients of the passes of one step, and what the base used."""
    w = torch.tensor([0.7, -0.4, 1.1], dtype=torch.float64, requires_grad=True)
    seen = []

    def watched():
        value = loss(w)
        seen.append((w.detach().clone(), value.detach(), torch.autograd.grad(value, w, retain_graph=True)[0]))
        return value

    torch.manual_seed(0)
    TiltedSAM([w], torch.optim.SGD, lr=0.1, rho=0.3, **options).step(watched)
    return *map(torch.stack, zip(*seen, strict=True)), w.grad


def test_without_tilt_it_is_the_mean_over_the_draws():
    _, _, gradients, used = one_step(tilt=0.0, num_samples=5)
    torch.testing.assert_close(used, gradients.mean(0), rtol=1e-12, atol=0)


def test_with_a_large_tilt_it_is_the_draw_of_the_largest_loss():
    _, losses, gradients, used = one_step(tilt=1e6, num_samples=5)
    torch.testing.assert_close(used, gradients[losses.argmax()], rtol=1e-12, atol=0)


def test_one_draw_is_the_same_for_every_tilt():
    steps = [one_step(tilt=tilt, num_samples=1)[-1] for tilt in (0.0, 1.0, 1e6)]
    assert torch.equal(steps[0], steps[1])
    assert torch.equal(steps[0], steps[2])


def test_a_constant_added_to_the_loss_changes_nothing():
    plain, raised = (one_step(lambda w, c=c: (w**4).sum() + w.prod() + c, tilt=2.0)[-1] for c in (0.0, 700.0))
    torch.testing.assert_close(raised, plain, rtol=1e-10, atol=0)


@pytest.mark.parametrize("ascend", [False, True])
def test_draws_lie_in_the_ball_and_an_ascent_starts_from_them(ascend):
    points, _, gradients, _ = one_step(num_samples=20, ascend=ascend)
    w = torch.tensor([0.7, -0.4, 1.1], dtype=torch.float64)
    draws = points[::2] if ascend else points
    distances = (draws - w).norm(dim=1)
    assert len(draws) == 20
    assert distances.max() <= 0.3
    assert distances.unique().numel() == 20
    if ascend:
        slopes = gradients[::2]
        torch.testing.assert_close(points[1::2], draws + 0.3 * slopes / slopes.norm(dim=1, keepdim=True))


def test_draws_differ_from_step_to_step():
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    optimizer, seen = TiltedSAM([w], torch.optim.SGD, lr=0.0, num_samples=2), []

    def loss():
        seen.append(w.detach().clone())
        return (w**2).sum()

    for _ in range(3):
        optimizer.step(loss)
    assert torch.stack(seen).unique(dim=0).shape[0] == 6


def test_many_normal_draws_on_a_quadratic_approach_the_closed_form():
    a, start, tilt, sigma = tilted_quadratic()
    w, matrix = torch.tensor(start, requires_grad=True), torch.tensor(a)
    options = {"rho": sigma, "tilt": tilt, "num_samples": 800, "noise": "gaussian"}
    torch.manual_seed(0)
    TiltedSAM([w], torch.optim.SGD, lr=0.0, **options).step(lambda: 0.5 * w @ matrix @ w)
    expected = tilted_quadratic_gradient(a, start, tilt, sigma)
    error = np.linalg.norm(w.grad.numpy() - expected)
    assert error < 0.1 * np.linalg.norm(expected)
    assert error < 0.4 * np.linalg.norm(w.grad.numpy() - a @ start)  # which has no tilt


def test_only_one_sum_of_gradients_is_held():
    params = [torch.ones(3, requires_grad=True)]
    optimizer = TiltedSAM(params, num_samples=4)
    optimizer.step(lambda: params[0].pow(2).sum())
    assert not any(isinstance(value, torch.Tensor) for value in optimizer.own.values())
    assert norm([p.grad for p in params]) > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tilt": -1.0}, "Expected 'tilt' to be at least 0"),
        ({"tilt": float("inf")}, "Expected 'tilt' to be finite"),
        ({"num_samples": 0}, "Expected 'num_samples' to be a whole number, at least 1"),
        ({"num_samples": 1.5}, "Expected 'num_samples' to be a whole number, at least 1"),
        ({"noise": "cube"}, "Expected 'noise' to be one of ball, gaussian"),
        ({"rho": -1.0}, "Expected 'rho' to be at least 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TiltedSAM([torch.ones(1, requires_grad=True)], **options)
