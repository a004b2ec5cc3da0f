from __future__ import annotations

import numpy as np
import pytest
import torch

from fgsam.optim.sophia_h import SophiaH
from tests.twins import second_order as twin
from tests.twins.second_order import Quartic, run_with_probes


@pytest.mark.parametrize(("every", "gamma", "wd"), [(1, 0.5, 0.1), (3, 2.0, 0.0), (3, 0.5, 0.1)])
def test_ten_steps_equal_the_equations(every, gamma, wd):
    problem = Quartic()
    params = problem.tensors()
    optimizer = SophiaH(params, lr=0.05, betas=(0.8, 0.6), gamma=gamma, eps=1e-3, weight_decay=wd, hessian_every=every)
    found, probes = run_with_probes(optimizer, problem, params, 10)
    assert len(set(np.abs(np.concatenate(probes)))) > 2  # normal, not signs
    expected = twin.sophia(
        problem, probes, 10, lr=0.05, beta1=0.8, beta2=0.6, gamma=gamma, eps=1e-3, wd=wd, every=every
    )
    moves = np.abs(np.diff([problem.start, *found], axis=0))
    assert (moves < 0.0499).any()  # not all clipped
    for f, e in zip(found, expected, strict=True):
        assert np.linalg.norm(f - e) < 1e-12 * np.linalg.norm(e)


def test_no_entry_moves_further_than_the_step_size():
    problem = Quartic()
    params = problem.tensors()
    found, _ = run_with_probes(SophiaH(params, lr=0.03), problem, params, 6)
    moves = np.abs(np.diff([problem.start, *found], axis=0))
    assert moves.max() == pytest.approx(0.03)


def test_negative_curvature_moves_by_the_sign():
    w = torch.tensor([1.0, -3.0], dtype=torch.float64, requires_grad=True)
    SophiaH([w], lr=0.25).step(lambda: -(w**2).sum())
    assert w.tolist() == [1.25, -3.25]


def test_negative_gamma_is_refused():
    with pytest.raises(ValueError, match="Expected 'gamma' to be at least 0"):
        SophiaH([torch.ones(1, requires_grad=True)], gamma=-1.0)
