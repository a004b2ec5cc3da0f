"""Random vectors with the shapes of the parameters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fgsam.functional.ascent import inverse
from fgsam.functional.trees import Grads, norm, scale_


def gaussian(params: Sequence[Tensor], generator: torch.Generator) -> Grads:
    """Draw independent standard normal entries for all parameters that are trained.

    A complex parameter is drawn as a pair of real ones. Half precision is drawn in float32 and rounded.

    Args:
        params: The parameters.
        generator: Source of the random numbers, on the CPU.

    Returns:
        Tensors of the same shapes, types and devices, ``None`` for a parameter that needs no gradient.

    Example:
        >>> w, frozen = torch.zeros(1, 3, requires_grad=True), torch.zeros(2)
        >>> [None if v is None else v.shape for v in gaussian([w, frozen], torch.Generator().manual_seed(0))]
        [torch.Size([1, 3]), None]
    """
    return [_gaussian(p.detach(), generator) if p.requires_grad else None for p in params]


def in_unit_ball(params: Sequence[Tensor], generator: torch.Generator) -> Grads:
    """Draw a vector that is uniform in the ball of radius one, over all trained parameters together; see ``gaussian``.

    Example:
        >>> params = [torch.zeros(5, requires_grad=True), torch.zeros(2, 2, requires_grad=True)]
        >>> vector = in_unit_ball(params, torch.Generator().manual_seed(0))
        >>> bool(norm(vector) <= 1)
        True
    """
    vector = gaussian(params, generator)
    num_entries = sum(v.numel() * (2 if v.is_complex() else 1) for v in vector if v is not None)
    length = torch.rand((), generator=generator, dtype=torch.float64).item() ** (1 / max(num_entries, 1))
    return scale_(vector, length * inverse(norm(vector)))


def _gaussian(p: Tensor, generator: torch.Generator) -> Tensor:
    if p.is_complex():
        return torch.view_as_complex(_gaussian(torch.view_as_real(p), generator))
    dtype = torch.float32 if p.dtype in (torch.float16, torch.bfloat16) else p.dtype
    return torch.randn(p.shape, generator=generator, dtype=dtype).to(p)
