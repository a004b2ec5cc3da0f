"""Parts of a gradient across another one.

It exists twice: over all tensors together, as papers write it, and tensor by tensor (``_each``), as much released
code computes it. With a single tensor the two agree.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fgsam.functional.ascent import inverse
from fgsam.functional.trees import Grads, add_scaled, add_scaled_, dot, dots, norm, norms, scale

_ROUNDING_UNITS = 16
"""Parts shorter than this many rounding units of the whole are rounding errors, and count as zero."""


def orthogonal_part(vector: Grads, direction: Grads) -> Grads:
    r"""Take away the part of a vector that lies along a direction.

    .. math:: P^\perp_a(b) = b - \frac{\langle a, b\rangle}{\langle a, a\rangle} a

    What remains of a vector that is parallel to the direction is rounding error. It is returned as zero, since callers
    that bring the remainder to some length would blow it up.

    Args:
        vector: The vector ``b``.
        direction: The direction ``a``; if it is zero, the vector comes back unchanged.

    Returns:
        Tensors of the same shapes, orthogonal to ``a`` over all tensors together.

    Example:
        >>> orthogonal_part([torch.tensor([1.0, 2.0])], [torch.tensor([2.0, 0.0])])
        [tensor([0., 2.])]

    Source:
        Luo et al., Fast Graph Sharpness-Aware Minimization for Enhancing and Accelerating Few-Shot Node
        Classification, 2024, Algorithm 1 (topology and flatness gradients).
    """
    part, length = across(vector, direction, dot(direction, direction))
    return scale(part, (length > 0).to(length.dtype))


def across(vector: Grads, direction: Grads, square: Tensor) -> tuple[Grads, Tensor]:
    """Return the orthogonal part of a vector, and its length; that is zero where the part is rounding error.

    Args:
        vector: One tensor for each parameter.
        direction: Tensors of the same shapes.
        square: The inner product of ``direction`` with itself.
    """
    whole = norm(vector)
    part = add_scaled(vector, direction, _against(vector, direction, square))
    return part, _resolved(part, whole, direction)


def across_(vector: Grads, direction: Grads, square: Tensor) -> tuple[Grads, Tensor]:
    """Write the orthogonal part into the tensors of the vector; see ``across``."""
    whole = norm(vector)
    part = add_scaled_(vector, direction, _against(vector, direction, square))
    return part, _resolved(part, whole, direction)


def resolved_length(part: Grads, whole: Grads) -> Tensor:
    """Return the length of a part of a vector, zero where it is no more than the rounding error of the whole."""
    length = norm(part)
    return length * _is_resolved(length, norm(whole), _rounding(whole))


def orthogonal_part_each(vector: Grads, direction: Grads) -> Grads:
    """Take away, in each tensor by itself, the part that lies along the direction.

    Args:
        vector: One tensor for each parameter, ``None`` stays ``None``.
        direction: Tensors of the same shapes; where one is missing or zero, the vector's tensor comes back unchanged.

    Returns:
        Tensors of the same shapes, each orthogonal to its own direction; rounding errors are returned as zero.
    """
    squares = zip(dots(direction, vector), dots(direction, direction), strict=True)
    along = [None if a is None or b is None else -a * inverse(b) for a, b in squares]
    across = add_scaled(vector, direction, along)
    sizes = zip(norms(across), norms(vector), across, strict=True)
    return scale(
        across, [_is_resolved(a, v, _rounding([t])) if a is not None and v is not None else None for a, v, t in sizes]
    )


def unit_each(vector: Grads, *, guard: float = 0.0) -> Grads:
    """Bring each tensor of a vector to length one; zero stays zero.

    Args:
        vector: One tensor for each parameter, ``None`` stays ``None``.
        guard: Added to the lengths, at least 0; only to repeat released code that does so.
    """
    return scale(vector, [None if length is None else inverse(length, guard) for length in norms(vector)])


def _against(vector: Grads, direction: Grads, square: Tensor) -> Tensor:
    # The ratio of two inner products is exactly one for equal vectors, however their rounding goes.
    return -dot(direction, vector) * inverse(square)


def _resolved(part: Grads, whole: Tensor, direction: Grads) -> Tensor:
    length = norm(part)
    return length * _is_resolved(length, whole, _rounding(part, direction))


def _is_resolved(part: Tensor, whole: Tensor, rounding: float) -> Tensor:
    """Return one for a part that stands out from the rounding errors of the whole, else zero."""
    return (part > _ROUNDING_UNITS * rounding * whole).to(part.dtype)


def _rounding(*grads: Grads) -> float:
    return max((torch.finfo(tensor.dtype).eps for tree in grads for tensor in tree if tensor is not None), default=0.0)
