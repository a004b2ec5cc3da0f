from __future__ import annotations

import pytest
import torch

from fgsam.functional.noise import gaussian, in_unit_ball
from fgsam.functional.trees import norm


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_entries_are_standard_normal():
    (draw,) = gaussian([torch.zeros(200, 500, requires_grad=True)], generator())
    assert draw.mean().abs() < 0.02
    assert draw.std() == pytest.approx(1.0, abs=0.01)


def test_types_and_shapes_are_those_of_the_parameters_and_frozen_ones_have_none():
    params = [torch.zeros(2, 3, dtype=dtype, requires_grad=True) for dtype in (torch.bfloat16, torch.float64)]
    draws = gaussian([*params, torch.zeros(2)], generator())
    assert [(d.dtype, d.shape) for d in draws[:2]] == [(p.dtype, p.shape) for p in params]
    assert draws[2] is None
    assert not any(d.requires_grad for d in draws[:2])


def test_complex_entries_are_pairs_of_real_ones():
    (draw,) = gaussian([torch.zeros(3, dtype=torch.complex128, requires_grad=True)], generator(1))
    (pairs,) = gaussian([torch.zeros(3, 2, dtype=torch.float64, requires_grad=True)], generator(1))
    assert torch.equal(torch.view_as_real(draw), pairs)


def test_points_fill_the_ball_evenly():
    params = [torch.zeros(2, dtype=torch.float64, requires_grad=True), torch.zeros(1, requires_grad=True)]
    lengths = torch.tensor([float(norm(in_unit_ball(params, generator(seed)))) for seed in range(2000)])
    assert lengths.max() <= 1
    # In three dimensions the share of points within a radius is its cube.
    for radius in (0.5, 0.8):
        assert (lengths < radius).float().mean() == pytest.approx(radius**3, abs=0.03)
