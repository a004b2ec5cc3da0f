"""The displacements that sharpness-aware rules apply before they take their gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fgsam.functional.trees import Grads, norm, scale


def sam_perturbation(grads: Grads, radii: Sequence[float], *, guard: float = 0.0) -> Grads:
    r"""Point along the gradient, with the radius as length.

    .. math:: \epsilon_i = \rho_i \, g_i / \lVert g \rVert

    The norm is over all tensors together, so that equal radii give a displacement of exactly that length.

    Args:
        grads: The gradient ``g``, one tensor for each parameter.
        radii: One ``rho`` for each parameter, at least 0.
        guard: Added to the norm, at least 0; only to repeat released code that does so.

    Returns:
        Tensors of the same shapes, zero everywhere if the gradient is zero, ``None`` where it is missing.

    Example:
        >>> sam_perturbation([torch.tensor([3.0, 4.0]), None], [0.5, 0.5])
        [tensor([0.3000, 0.4000]), None]

    Source:
        Foret et al., Sharpness-Aware Minimization for Efficiently Improving Generalization, 2021, Eq. 2.
    """
    return scale(grads, sam_factor(grads, radii, guard=guard))


def sam_factor(grads: Grads, radii: Sequence[float], *, guard: float = 0.0) -> Tensor | Grads:
    """Return what ``sam_perturbation`` multiplies the gradient with: one tensor, or one for each parameter."""
    return _by_radii(radii, inverse(norm(grads), guard))


def asam_perturbation(params: Sequence[Tensor], grads: Grads, radii: Sequence[float], eta: float) -> Grads:
    r"""Point along the gradient, measured relative to the size of each weight.

    .. math:: \epsilon_i = \rho_i \, T_w^2 g_i / \lVert T_w g \rVert

    ``T_w`` is ``|w| + eta`` entry by entry for weights (tensors of two or more dimensions) and the identity for biases.

    Args:
        params: The parameters ``w``.
        grads: The gradient ``g``, one tensor for each parameter.
        radii: One ``rho`` for each parameter, at least 0.
        eta: Added to the absolute weights, at least 0.

    Returns:
        Tensors of the same shapes, zero everywhere if ``T_w g`` is zero, ``None`` where the gradient is missing.

    Example:
        >>> asam_perturbation([torch.tensor([[2.0, 1.0]])], [torch.tensor([[1.5, 4.0]])], [0.5], eta=0.0)
        [tensor([[0.6000, 0.4000]])]

    Source:
        Kwon et al., ASAM: Adaptive Sharpness-Aware Minimization, 2021, Eq. 8 and Algorithm 1.
    """
    sizes = [param.abs() + eta if param.ndim > 1 else None for param in params]
    scaled = _times(grads, sizes)
    return scale(_times(scaled, sizes), _by_radii(radii, inverse(norm(scaled))))


def clipped(grads: Grads, max_norm: float) -> Grads:
    """Shorten a vector that is longer than a given length, as ``torch.nn.utils.clip_grad_norm_`` does.

    Args:
        grads: One tensor for each parameter.
        max_norm: Largest norm over all tensors together, positive.

    Returns:
        New tensors; those of a vector that is short enough have the same values.

    Example:
        >>> clipped([torch.tensor([3.0, 4.0]), None], 1.0)
        [tensor([0.6000, 0.8000]), None]
    """
    return scale(grads, torch.clamp(max_norm / (norm(grads) + 1e-6), max=1.0))


def inverse(length: Tensor, guard: float = 0.0) -> Tensor:
    """Divide one by a length plus a guard, giving zero where the length is zero or too small to be divided by."""
    guarded = length + guard if guard else length
    return torch.where(length > torch.finfo(length.dtype).tiny, guarded.reciprocal(), 0.0)


def _times(grads: Grads, sizes: Sequence[Tensor | None]) -> Grads:
    pairs = zip(grads, sizes, strict=True)
    return [grad if grad is None or size is None else grad * size for grad, size in pairs]


def _by_radii(radii: Sequence[float], inverse_norm: Tensor) -> Tensor | Grads:
    if len(set(radii)) == 1:
        return radii[0] * inverse_norm
    by_radius = {radius: radius * inverse_norm for radius in set(radii)}
    return [by_radius[radius] for radius in radii]
