from __future__ import annotations

import numpy as np
import pytest
import torch

from fgsam.optim.adahessian import AdaHessian
from tests.twins import second_order as twin
from tests.twins.second_order import Quartic, run_with_probes


@pytest.mark.parametrize(("every", "power", "wd"), [(1, 1.0, 0.1), (3, 1.0, 0.0), (1, 0.6, 0.1)])
@pytest.mark.parametrize(("averaging", "form"), [("kernels", "paper"), ("rows", "paper"), ("rows", "code")])
def test_ten_steps_equal_the_equations(averaging, form, every, power, wd):
    problem = Quartic()
    params = problem.tensors()
    optimizer = AdaHessian(
        params,
        lr=0.05,
        betas=(0.8, 0.9),
        eps=1e-3,
        weight_decay=wd,
        hessian_power=power,
        hessian_every=every,
        averaging=averaging,
        form=form,
    )
    found, probes = run_with_probes(optimizer, problem, params, 10)
    expected = twin.adahessian(
        problem,
        probes,
        10,
        lr=0.05,
        beta1=0.8,
        beta2=0.9,
        eps=1e-3,
        wd=wd,
        power=power,
        every=every,
        rows=averaging == "rows",
        by_size=form == "code",
    )
    for f, e in zip(found, expected, strict=True):
        assert np.linalg.norm(f - e) < 1e-12 * np.linalg.norm(e)


def test_without_averaging_both_forms_agree():
    ends = []
    for form in ("paper", "code"):
        problem = Quartic()
        params = problem.tensors()
        torch.manual_seed(0)
        ends.append(run_with_probes(AdaHessian(params, lr=0.05, form=form), problem, params, 5)[0][-1])
    assert np.array_equal(*ends)


def test_diagonal_quadratic_gets_a_newton_step():
    a = torch.tensor([0.5, 2.0, 30.0], dtype=torch.float64)
    w = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64, requires_grad=True)
    AdaHessian([w], lr=1.0, eps=1e-15).step(lambda: 0.5 * (a * w * w).sum())
    assert w.abs().max() < 1e-12


def test_kernels_share_their_curvature():
    kernel = torch.zeros(1, 1, 1, 2, dtype=torch.float64, requires_grad=True)
    x = torch.tensor([1.0, 3.0], dtype=torch.float64)
    moves = {}
    for averaging in ("kernels", "none"):
        with torch.no_grad():
            kernel.zero_()
        optimizer = AdaHessian([kernel], lr=1.0, eps=1e-12, averaging=averaging)
        optimizer.step(lambda: (0.5 * x * kernel.flatten() ** 2 + kernel.flatten()).sum())
        moves[averaging] = kernel.detach().flatten().clone()
    torch.testing.assert_close(moves["kernels"], torch.tensor([-0.5, -0.5], dtype=torch.float64))
    torch.testing.assert_close(moves["none"], torch.tensor([-1.0, -1 / 3], dtype=torch.float64))


def test_unknown_choices_are_refused():
    w = [torch.ones(1, requires_grad=True)]
    with pytest.raises(ValueError, match="Expected 'averaging' to be one of kernels, rows, none"):
        AdaHessian(w, averaging="row")
    with pytest.raises(ValueError, match="Expected 'form' to be one of paper, code"):
        AdaHessian(w, form="exact")
