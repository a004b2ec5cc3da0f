from __future__ import annotations

import numpy as np
import pytest
import torch

from fgsam.optim.sa_gd import SAGD
from fgsam.optim.sam import SAM
from tests.twins.variants import maximiser_in_ball


def matrix(seed):
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    return basis @ np.diag([3.0, 1.0, 0.6, 0.3]) @ basis.T, rng.normal(size=4)


@pytest.mark.parametrize(("base", "options"), [("SGD", {"lr": 0.1}), ("SGD", {"lr": 0.1, "momentum": 0.9})])
def test_ten_steps_on_a_quadratic_equal_those_with_the_trust_region_solver(base, options):
    a, start = matrix(0)
    w, tensor = torch.tensor(start, requires_grad=True), torch.tensor(a)
    optimizer = SAGD([w], getattr(torch.optim, base), rho=0.2, num_ascents=60, num_directions=0, **options)
    expected, v = start, np.zeros(4)
    for _ in range(10):
        optimizer.step(lambda: 0.5 * w @ tensor @ w)
        v = options.get("momentum", 0.0) * v + a @ (expected + maximiser_in_ball(a, expected, 0.2))
        expected = expected - 0.1 * v
        assert np.linalg.norm(w.detach().numpy() - expected) < 1e-12 * np.linalg.norm(start)


def test_solver_of_the_twin_satisfies_its_equation():
    a, w = matrix(1)
    eps = maximiser_in_ball(a, w, 0.3)
    force = a @ (w + eps)
    assert np.linalg.norm(eps) == pytest.approx(0.3, rel=1e-12)
    assert np.linalg.norm(force - (force @ eps) / 0.09 * eps) < 1e-12  # the slope points along the offset
    assert force @ eps / 0.09 > np.linalg.eigvalsh(a)[-1]  # and holds it there: a maximum of the whole ball


def visited(rule, loss, start, **options):
    """Points of all passes of one step, and the gradient that the base used."""
    w = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    seen = []

    def watched():
        seen.append(w.detach().clone())
        return loss(w)

    torch.manual_seed(0)
    rule([w], torch.optim.SGD, lr=0.0, **options).step(watched)
    return torch.stack(seen), w.grad


def test_on_a_quadratic_along_its_top_eigenvector_it_is_sam():
    top = torch.tensor([3.0, 1.0], dtype=torch.float64)

    def loss(w):
        return 0.5 * (top * w * w).sum()

    (_, sam), (_, found) = (visited(rule, loss, [0.4, 0.0], rho=0.2) for rule in (SAM, SAGD))
    torch.testing.assert_close(found, sam, rtol=1e-14, atol=0)
    (_, sam), (_, found) = (visited(rule, loss, [0.4, 0.3], rho=0.2) for rule in (SAM, SAGD))
    assert (found - sam).norm() > 1e-2


def test_on_a_linear_loss_it_is_sam():
    slope = torch.tensor([0.5, -1.0], dtype=torch.float64)
    points, found = visited(SAGD, lambda w: slope @ w, [0.3, 0.1], rho=0.2)
    assert torch.equal(found, slope)
    sam, _ = visited(SAM, lambda w: slope @ w, [0.3, 0.1], rho=0.2)
    torch.testing.assert_close(points[1], sam[1], rtol=1e-14, atol=0)


def test_no_pass_leaves_the_ball():
    points, _ = visited(SAGD, lambda w: (w**4).sum() - w.prod(), [0.7, -0.4], rho=0.3, num_directions=2)
    assert ((points - points[0]).norm(dim=1) <= 0.3 * (1 + 1e-14)).all()
    assert len(points) == 1 + 10 + 4 * 11


def test_a_maximum_inside_the_ball_is_found():
    def loss(w):
        return -(w - 0.1).pow(2).sum() * 2

    points, found = visited(SAGD, loss, [0.0, 0.05], rho=0.5, num_ascents=60, num_directions=0)
    assert found.abs().max() < 1e-6
    assert (points[0] - 0.1).norm() < 0.5


def test_gradient_is_that_of_the_highest_point_found():
    def loss(w):
        return torch.sin(3 * w).sum() + 0.1 * (w**2).sum()

    points, found = visited(SAGD, loss, [0.2, -0.9], rho=1.5, num_directions=3)
    values = torch.stack([loss(point) for point in points])
    best = points[values.argmax()].requires_grad_()
    torch.testing.assert_close(found, torch.autograd.grad(loss(best), best)[0], rtol=1e-6, atol=1e-6)
    assert values.argmax() > 10  # one of the random starts leads higher than the weights do


def kink(w):
    return 0.5 * w.clamp(min=0).pow(2).sum()


def test_it_leaves_a_point_without_slope_where_sam_stops():
    ends = {}
    for rule, options in ((SAM, {}), (SAGD, {"num_ascents": 2})):
        w = torch.tensor([0.5], dtype=torch.float64, requires_grad=True)
        torch.manual_seed(0)
        optimizer = rule([w], torch.optim.SGD, lr=0.1, rho=0.3, **options)
        for _ in range(150):
            optimizer.step(lambda w=w: kink(w))
        ends[rule] = w.item()
    assert -0.03 < ends[SAM] <= 0
    assert ends[SAGD] == pytest.approx(-0.3, abs=1e-6)


def test_groups_with_their_own_radii_make_an_ellipsoid():
    a, b = (torch.tensor([0.0], dtype=torch.float64, requires_grad=True) for _ in range(2))
    seen = []

    def loss():
        seen.append((a.item(), b.item()))
        return (a + b).sum()

    groups = [{"params": [a], "rho": 0.3}, {"params": [b], "rho": 0.4}]
    SAGD(groups, torch.optim.SGD, lr=0.0, num_ascents=1, num_directions=0).step(loss)
    # The end of the ellipsoid in the direction (1, 1).
    assert seen[1] == pytest.approx((0.3**2 / 0.5, 0.4**2 / 0.5))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_ascents": 0}, "Expected 'num_ascents' to be a whole number, at least 1"),
        ({"num_directions": -1}, "Expected 'num_directions' to be a whole number, at least 0"),
        ({"num_directions": 0.5}, "Expected 'num_directions' to be a whole number, at least 0"),
        ({"rho": -1.0}, "Expected 'rho' to be at least 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SAGD([torch.ones(1, requires_grad=True)], **options)
