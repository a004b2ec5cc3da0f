from __future__ import annotations

import pytest
import torch

from fgsam.functional.ascent import asam_perturbation, inverse, sam_factor, sam_perturbation
from fgsam.functional.trees import norm, scale


@pytest.fixture
def grads():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, dtype=torch.float64, generator=generator) for shape in ((3, 2), (2,), (2, 2))]


@pytest.fixture
def params():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, dtype=torch.float64, generator=generator) for shape in ((3, 2), (2,), (2, 2))]


def test_perturbation_has_the_radius_as_length(grads):
    torch.testing.assert_close(norm(sam_perturbation(grads, [0.3] * 3)), torch.tensor(0.3, dtype=torch.float64))


def test_radii_of_single_parameters_share_the_global_norm(grads):
    whole = sam_perturbation(grads, [1.0] * 3)
    mixed = sam_perturbation(grads, [0.5, 0.0, 2.0])
    torch.testing.assert_close(mixed, [0.5 * whole[0], 0 * whole[1], 2.0 * whole[2]])


def test_perturbation_does_not_depend_on_the_scale_of_the_loss(grads):
    torch.testing.assert_close(
        sam_perturbation([7.0 * g for g in grads], [0.3] * 3), sam_perturbation(grads, [0.3] * 3)
    )


@pytest.mark.parametrize("tiny", [0.0, 1e-42])
def test_a_gradient_that_vanishes_moves_nothing(tiny):
    grads = [torch.full((2, 2), tiny), None]
    for moved in (
        sam_perturbation(grads, [0.5, 0.5]),
        asam_perturbation([torch.ones(2, 2), torch.ones(2)], grads, [0.5, 0.5], eta=0.0),
    ):
        assert torch.equal(moved[0], torch.zeros(2, 2))
        assert moved[1] is None


def test_a_single_zero_tensor_stays_finite(grads):
    grads[1] = torch.zeros_like(grads[1])
    moved = sam_perturbation(grads, [0.3] * 3)
    assert torch.equal(moved[1], torch.zeros(2, dtype=torch.float64))
    assert all(m.isfinite().all() for m in moved)


def test_adaptive_perturbation_has_the_radius_as_elliptical_length(params, grads):
    moved = asam_perturbation(params, grads, [0.4] * 3, eta=0.01)
    inverted = [m / (p.abs() + 0.01) if p.ndim > 1 else m for p, m in zip(params, moved, strict=True)]
    torch.testing.assert_close(norm(inverted), torch.tensor(0.4, dtype=torch.float64))


def test_adaptive_perturbation_at_weights_of_one_size_is_plain_with_that_radius(grads):
    generator = torch.Generator().manual_seed(2)
    weights = [1.5 * torch.randn(3, 2, dtype=torch.float64, generator=generator).sign()]
    moved = asam_perturbation(weights, grads[:1], [0.2], eta=0.0)
    torch.testing.assert_close(moved, sam_perturbation(grads[:1], [0.2 * 1.5]))


def test_adaptive_perturbation_follows_a_rescaling_that_leaves_the_loss_unchanged(params, grads):
    scales = torch.tensor([[0.5, 3.0]], dtype=torch.float64)
    plain = asam_perturbation(params[:1], grads[:1], [0.2], eta=0.0)
    rescaled = asam_perturbation([params[0] * scales], [grads[0] / scales], [0.2], eta=0.0)
    torch.testing.assert_close(rescaled[0], plain[0] * scales)


def test_weights_at_zero_move_only_with_eta():
    zero, grad = [torch.zeros(2, 2)], [torch.ones(2, 2)]
    assert torch.equal(asam_perturbation(zero, grad, [0.5], eta=0.0)[0], torch.zeros(2, 2))
    assert norm(asam_perturbation(zero, grad, [0.5], eta=0.01)) > 0


def test_inverse_of_zero_is_zero():
    assert inverse(torch.tensor(0.0)) == 0
    assert inverse(torch.tensor(4.0)) == 0.25
    assert inverse(torch.tensor(3.0), guard=1.0) == 0.25


def test_factor_is_one_tensor_for_one_radius_and_a_list_for_several(grads):
    torch.testing.assert_close(sam_factor(grads, [0.3] * 3), 0.3 / norm(grads))
    torch.testing.assert_close(
        sam_factor(grads, [0.3, 0.0, 2.0]), [0.3 / norm(grads), 0.0 / norm(grads), 2.0 / norm(grads)]
    )


@pytest.mark.parametrize("radii", [[0.3] * 3, [0.3, 0.0, 2.0]])
@pytest.mark.parametrize("guard", [0.0, 1e-2])
def test_factor_times_the_gradient_is_the_perturbation(grads, radii, guard):
    factor = sam_factor(grads, radii, guard=guard)
    assert all(map(torch.equal, scale(grads, factor), sam_perturbation(grads, radii, guard=guard)))
    if guard:
        torch.testing.assert_close(sam_factor(grads, [1.0] * 3, guard=guard), 1 / (norm(grads) + guard))


def test_factor_of_a_zero_gradient_is_zero():
    assert sam_factor([torch.zeros(2), None], [0.5, 0.5], guard=1e-8) == 0
