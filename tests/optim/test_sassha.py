from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fgsam.functional.trees import norm
from fgsam.optim.m_sassha import MSassha
from fgsam.optim.sam import SAM
from fgsam.optim.sassha import Sassha
from fgsam.testing import check_optimizer
from tests.twins import second_order as twin
from tests.twins.second_order import Quartic, flat, run_with_probes

BOTH = pytest.mark.parametrize("rule", [Sassha, MSassha])


def error(found, expected):
    return max(np.linalg.norm(f - e) / np.linalg.norm(e) for f, e in zip(found, expected, strict=True))


@pytest.mark.parametrize(("every", "power", "wd"), [(1, 0.5, 0.1), (3, 0.5, 0.0), (3, 0.8, 0.1)])
@pytest.mark.parametrize("form", ["exact", "code"])
@BOTH
def test_ten_steps_equal_the_equations(rule, form, every, power, wd):
    problem = Quartic()
    params = problem.tensors()
    options = {"lr": 0.05, "rho": 0.3, "eps": 1e-3}
    optimizer = rule(
        params, **options, betas=(0.8, 0.9), weight_decay=wd, hessian_power=power, hessian_every=every, form=form
    )
    found, probes = run_with_probes(optimizer, problem, params, 10)
    expected = twin.sassha(
        problem,
        probes,
        10,
        **options,
        beta1=0.8,
        beta2=0.9,
        wd=wd,
        power=power,
        every=every,
        by_steps=form == "code",
        looks_ahead=rule is MSassha,
    )
    assert len(probes) == math.ceil(10 / every)
    assert error(found, list(expected)) < 1e-12


@pytest.mark.parametrize("every", [1, 4])
def test_diagonal_quadratic_is_measured_exactly(every):
    a = torch.tensor([0.5, 2.0, 30.0], dtype=torch.float64)
    w = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64, requires_grad=True)
    optimizer = Sassha([w], lr=0.01, rho=0.0, hessian_every=every)
    for t in range(1, 11):
        optimizer.step(lambda: 0.5 * (a * w * w).sum())
        state = optimizer.state[w]
        assert state["num_updates"] == math.ceil(t / every)
        measured = state["curvature"] / (1 - 0.999 ** state["num_updates"])
        torch.testing.assert_close(measured, a, rtol=1e-10, atol=0)


def test_counting_steps_makes_the_second_update_too_small():
    divisors = {}
    for form in ("exact", "code"):
        w = torch.tensor([[1.0]], dtype=torch.float64, requires_grad=True)
        optimizer = Sassha([w], lr=1e-9, rho=0.0, eps=1e-300, form=form)
        for _ in range(10):
            optimizer.step(lambda w=w: 0.5 * (w * w).sum())
        before = w.detach().clone()
        optimizer.step(lambda w=w: 0.5 * (w * w).sum())
        divisors[form] = (1e-9 * optimizer.state[w]["exp_avg"] / (1 - 0.9**11) / (before - w.detach())).item()
    assert divisors["exact"] == pytest.approx(1.0, rel=1e-5)
    assert divisors["code"] ** 2 == pytest.approx((1 - 0.999**2) / (1 - 0.999**11), rel=1e-5)


@BOTH
def test_product_equals_a_difference_of_gradients_at_the_moved_weights(rule):
    problem = Quartic(seed=3)
    params = problem.tensors()
    optimizer = rule(params, lr=0.01, rho=0.5, betas=(0.9, 0.9), hessian_every=4)
    seen = []

    def closure():
        seen.append(flat(params).detach().numpy().copy())
        return problem.closure(params)()

    for _ in range(4):
        optimizer.step(closure)
    before = flat([optimizer.state[p]["curvature"] for p in params]).clone()
    probes = []
    optimizer.probe = lambda given, generator: (
        probes.append(type(optimizer).probe(optimizer, given, generator)) or probes[0]
    )
    optimizer.step(closure)
    d = (flat([optimizer.state[p]["curvature"] for p in params]) - 0.9 * before) / 0.1
    z, moved = flat(probes[0]).numpy(), seen[-1]
    difference = (problem.gradient(moved + 1e-5 * z) - problem.gradient(moved - 1e-5 * z)) / 2e-5
    np.testing.assert_allclose(d.numpy(), np.abs(z * difference), rtol=1e-7)
    start = {Sassha: seen[-2], MSassha: None}[rule]
    if start is not None:
        assert np.linalg.norm(moved - start) == pytest.approx(0.5)


def test_with_unit_curvature_and_no_momentum_it_is_sam():
    problem = Quartic()
    histories = []
    for is_sam in (False, True):
        params = problem.tensors()
        if is_sam:
            optimizer = SAM(params, torch.optim.SGD, rho=0.2, lr=0.01)
        else:
            optimizer = Sassha(params, rho=0.2, lr=0.01, betas=(0.0, 0.999), eps=1e-300, hessian_every=3)
            optimizer.measure = lambda diagonal: [torch.ones_like(d) for d in diagonal]
        for _ in range(6):
            optimizer.step(problem.closure(params))
        histories.append(flat(params).detach())
    torch.testing.assert_close(*histories, rtol=1e-12, atol=0)


def test_looking_ahead_goes_down_the_averaged_gradient():
    w, seen = torch.tensor([3.0, 4.0], dtype=torch.float64, requires_grad=True), []

    def closure():
        seen.append(w.detach().clone())
        return (w**2).sum()

    optimizer = MSassha([w], lr=0.0, rho=0.5)
    for _ in range(2):
        optimizer.step(closure)
    assert torch.equal(seen[0], w.detach())
    torch.testing.assert_close(seen[1], w.detach() - 0.5 * torch.tensor([0.6, 0.8], dtype=torch.float64))


@BOTH
def test_the_same_random_state_gives_the_same_probes(rule):
    drawn = []
    for _ in range(2):
        problem = Quartic()
        params = problem.tensors()
        torch.manual_seed(4)
        drawn.append(run_with_probes(rule(params, lr=0.01, hessian_every=1), problem, params, 3)[1])
    assert all(np.array_equal(a, b) for a, b in zip(*drawn, strict=True))
    assert not np.array_equal(drawn[0][0], drawn[0][1])


def test_a_complex_parameter_is_a_pair_of_real_ones():
    z = torch.tensor([1 + 2j, -0.5 + 1j], dtype=torch.complex128, requires_grad=True)
    pairs = torch.view_as_real(z.detach()).clone().requires_grad_()
    for target, value in ((z, lambda: z), (pairs, lambda: torch.view_as_complex(pairs))):
        optimizer = Sassha([target], lr=0.05, hessian_every=2)
        torch.manual_seed(0)
        for _ in range(5):
            optimizer.step(lambda value=value: (value() * (0.6 + 0.8j) - 1).abs().pow(4).sum())
    torch.testing.assert_close(torch.view_as_real(z.detach()), pairs.detach(), rtol=1e-12, atol=0)
    assert not torch.allclose(pairs, torch.tensor([[1.0, 2.0], [-0.5, 1.0]], dtype=torch.float64))


@BOTH
def test_infinite_curvature_under_a_finite_slope_stops_the_step(rule):
    w = torch.tensor([0.0, 1.0], requires_grad=True)
    optimizer = rule([w], rho=0.0)
    with pytest.raises(FloatingPointError, match=r"curvature of the GNN loss 1, gradient norm (inf|nan)"):
        optimizer.step(lambda: (w**1.5).sum())
    assert optimizer.state_dict()["base"]["state"] == {}
    skipping = rule([w], rho=0.0, nonfinite="skip")
    skipping.step(lambda: (w**1.5).sum())
    assert (skipping.num_skipped, w.tolist()) == (1, [0.0, 1.0])
    skipping.step(lambda: ((w - 2) ** 2).sum())  # not the first of its period, but none was measured before
    assert skipping.state[w]["num_updates"] == 1
    assert w.isfinite().all()


def test_curvature_of_a_failed_step_is_not_used_later():
    w = torch.tensor([1.0], requires_grad=True)
    optimizer = Sassha([w], lr=0.01, rho=0.0, hessian_every=2, nonfinite="skip")

    for factor in (1.0, 1.0, float("nan"), 1.0):
        optimizer.step(lambda factor=factor: (w**2).sum() * factor)
    assert optimizer.num_skipped == 1
    assert optimizer.state[w]["num_updates"] == 1


def test_a_parameter_waits_for_its_first_curvature():
    a, b = (torch.tensor([1.0], requires_grad=True) for _ in range(2))
    optimizer = Sassha([a, b], lr=0.1, hessian_every=3)
    moves = []
    for t in range(4):
        optimizer.step(lambda t=t: (a**2 + (b**2 if t else 0)).sum())
        moves.append(b.item() != 1.0)
    assert moves == [False, False, False, True]


def test_a_linear_loss_has_no_curvature():
    w = torch.tensor([1.0], requires_grad=True)
    Sassha([w], lr=1e-4, eps=0.5).step(lambda: w.sum())
    assert w.item() == pytest.approx(1 - 1e-4 / 0.5)


def test_groups_and_schedules_set_the_power():
    a, b = (torch.tensor([1.0], dtype=torch.float64, requires_grad=True) for _ in range(2))
    optimizer = Sassha([{"params": [a], "hessian_power": 1.0}, {"params": [b]}], lr=0.5, rho=0.0, eps=1e-12)
    optimizer.step(lambda: 2 * (a**2 + b**2).sum())
    assert (a.item(), b.item()) == (pytest.approx(1 - 0.5 * 4 / 4), pytest.approx(1 - 0.5 * 4 / 2))
    optimizer.param_groups[1]["hessian_power"] = 0.0
    before, slope = b.item(), 4 * b.item()
    optimizer.step(lambda: 2 * (a**2 + b**2).sum())
    average = (0.9 * 0.1 * 4 + 0.1 * slope) / (1 - 0.9**2)
    assert b.item() == pytest.approx(before - 0.5 * average / (1 + 1e-12))


def test_decay_acts_at_the_unmoved_weights_apart_from_the_gradient():
    w = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    Sassha([w], lr=0.5, rho=0.7, weight_decay=0.1).step(lambda: 0 * (w**2).sum())
    assert w.item() == pytest.approx(2.0 * (1 - 0.5 * 0.1))


def test_restored_in_the_middle_of_a_period():
    assert check_optimizer(Sassha, hessian_every=2, only="continue")
    assert check_optimizer(MSassha, hessian_every=2, only="continue")


@BOTH
def test_a_closure_that_differentiates_itself_is_refused(rule):
    w = torch.tensor([1.0], requires_grad=True)

    def closure():
        loss = (w**2).sum()
        loss.backward()
        return loss

    with pytest.raises(TypeError, match="Expected the GNN closure to leave backward to the optimizer"):
        rule([w]).step(closure)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "'lr' to be at least 0"),
        ({"rho": -1.0}, "'rho' to be at least 0"),
        ({"eps": 0.0}, "'eps' to be positive"),
        ({"weight_decay": -1.0}, "'weight_decay' to be at least 0"),
        ({"hessian_power": -0.5}, "'hessian_power' to be at least 0"),
        ({"betas": (0.9, 1.0)}, r"'betas' to be two numbers, at least 0 and below 1 \(got betas=\(0.9, 1.0\)\)"),
        ({"hessian_every": 0}, r"'hessian_every' to be a whole number, at least 1 \(got hessian_every=0\)"),
        ({"form": "paper"}, "'form' to be one of exact, code"),
    ],
)
@BOTH
def test_options_out_of_range_are_refused(rule, options, message):
    with pytest.raises(ValueError, match=f"Expected {message}"):
        rule([torch.ones(1, requires_grad=True)], **options)


def test_a_group_with_options_out_of_range_is_refused():
    optimizer = Sassha([torch.ones(1, requires_grad=True)])
    for option in ("eps", "hessian_power", "lr"):
        with pytest.raises(ValueError, match=f"Expected '{option}' to be"):
            optimizer.add_param_group({"params": [torch.ones(1, requires_grad=True)], option: -1.0})
    assert norm([p.detach() for group in optimizer.param_groups for p in group["params"]]) == 1
