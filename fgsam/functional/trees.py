"""Sums, inner products and norms of gradients that are spread over many tensors.

A gradient is a list with one entry for each parameter, in a fixed order. The entry is ``None`` where no gradient
reached the parameter: it counts as zero in every sum, and stays ``None`` as long as nothing is added to it, so that a
base optimizer skips the parameter exactly as it would alone.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

import torch
from torch import Tensor

Grads = list[Tensor | None]
"""One tensor for each parameter, ``None`` where no gradient reached it."""

Factor = Tensor | Grads
"""One factor for all entries, or one for each."""


class Gradient(Grads):
    """The gradient of one pass, which remembers its norm: rules and checks ask for it more than once.

    The norm is that at the time of making. What writes into the tensors returns a plain list, which is measured anew.
    """

    length: Tensor
    loss: Tensor
    """What was differentiated, detached, without dimensions; there for the gradient of a pass only."""

    def __init__(self, grads: Grads) -> None:
        super().__init__(grads)
        self.length = norm(grads)


_LOW_PRECISION = (torch.float16, torch.bfloat16)


def norm(grads: Grads) -> Tensor:
    """Take the Euclidean norm over all entries together.

    Half precision is accumulated in float32, complex entries count by their absolute value.

    Args:
        grads: One tensor of any shape for each parameter.

    Returns:
        The norm, a real tensor without dimensions; zero if there is no tensor.

    Example:
        >>> norm([torch.tensor([3.0]), None, torch.tensor([[4.0]])])
        tensor(5.)
    """
    if isinstance(grads, Gradient):
        return grads.length
    return _total(_norms([grad for grad in grads if grad is not None]), squared=False)


def norms(grads: Grads) -> Grads:
    """Take the Euclidean norm of each entry by itself, ``None`` where there is no tensor."""
    return _spread(grads, _norms([grad for grad in grads if grad is not None]))


def dot(first: Grads, second: Grads) -> Tensor:
    """Take the real inner product over all entries together, a tensor without dimensions.

    Args:
        first: One tensor for each parameter.
        second: Tensors of the same shapes; an entry missing in either list counts as zero.
    """
    parts = dots(first, second)
    return _total([part for part in parts if part is not None], squared=True)


def dots(first: Grads, second: Grads) -> Grads:
    """Take the real inner product of each pair of entries, ``None`` where either is missing."""
    return [None if a is None or b is None else _dot(a, b) for a, b in zip(first, second, strict=True)]


def scale(grads: Grads, factor: float | Tensor | Sequence[float | Tensor | None]) -> Grads:
    """Multiply every entry by one factor, or each entry by its own.

    Args:
        grads: One tensor for each parameter.
        factor: A number or a tensor without dimensions, or a sequence with one of these for each parameter; the factor
            of a missing entry is not read.

    Returns:
        New tensors of the same shapes and types.

    Example:
        >>> scale([torch.tensor([1.0, 2.0]), None], 3.0)
        [tensor([3., 6.]), None]
    """
    present = [grad for grad in grads if grad is not None]
    if not isinstance(factor, Sequence):
        products = list(torch._foreach_mul(present, factor)) if present else []
        # A number alone, unlike one with dimensions, would take on the type of its factor.
        return _spread(grads, [product.to(grad.dtype) for grad, product in zip(present, products, strict=True)])
    own = [one for one, grad in zip(factor, grads, strict=True) if grad is not None and one is not None]
    return _spread(grads, [(grad * one).to(grad.dtype) for grad, one in zip(present, own, strict=True)])


def add(first: Grads, second: Grads, *, alpha: float = 1.0) -> Grads:
    """Add ``alpha`` times the second list to the first.

    An entry missing in both lists stays ``None``. Where only ``first`` has a tensor, the result holds that same tensor.

    Args:
        first: One tensor for each parameter.
        second: Tensors of the same shapes.
        alpha: Factor of the second list.

    Example:
        >>> add([torch.tensor(1.0), None, None], [torch.tensor(2.0), torch.tensor(3.0), None], alpha=2.0)
        [tensor(5.), tensor(6.), None]
    """
    pairs = list(zip(first, second, strict=True))
    both = [(a, b) for a, b in pairs if a is not None and b is not None]
    alone = [b for a, b in pairs if a is None and b is not None]
    sums = iter(torch._foreach_add([a for a, _ in both], [b for _, b in both], alpha=alpha) if both else ())
    scaled = iter(torch._foreach_mul(alone, alpha) if alone else ())
    total: Grads = []
    for a, b in pairs:
        if b is None:
            total.append(a)
        else:
            total.append(next(scaled if a is None else sums))
    return total


def add_(first: Grads, second: Grads, *, alpha: float = 1.0) -> Grads:
    """Add ``alpha`` times the second list into the tensors of the first; see ``add``."""
    both = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if both:
        torch._foreach_add_([a for a, _ in both], [b for _, b in both], alpha=alpha)
    return [a if a is not None or b is None else torch.mul(b, alpha) for a, b in zip(first, second, strict=True)]


def add_scaled(first: Grads, second: Grads, factor: Factor) -> Grads:
    """Return ``first + factor * second`` for a factor that is a tensor, reading and writing each entry once.

    Args:
        first: One tensor for each parameter.
        second: Tensors of the same shapes; an entry missing in either list counts as zero.
        factor: A tensor without dimensions, or a list with one for each parameter, ``None`` counting as zero.

    Returns:
        New tensors, also where nothing is added, so that a caller may go on in place.
    """
    total: Grads = []
    for a, b, f in zip(first, second, _each(factor, first), strict=True):
        if b is None or f is None:
            total.append(None if a is None else a.clone())
        else:
            total.append(b * f if a is None else torch.addcmul(a, b, _like(f, b)))
    return total


def add_scaled_(first: Grads, second: Grads, factor: Factor) -> Grads:
    """Write ``first + factor * second`` into the tensors of ``first``; see ``add_scaled``."""
    return [
        a if b is None or f is None else (b * f).to(b.dtype) if a is None else a.addcmul_(b, _like(f, b))
        for a, b, f in zip(first, second, _each(factor, first), strict=True)
    ]


def scale_(grads: Grads, factor: float | Tensor) -> Grads:
    """Multiply every entry in place by one factor."""
    present = [grad for grad in grads if grad is not None]
    if present:
        torch._foreach_mul_(present, factor)
    return list(grads)


def divide(grads: Grads, divisor: int) -> Grads:
    """Divide every entry by a number."""
    present = [grad for grad in grads if grad is not None]
    return _spread(grads, list(torch._foreach_div(present, divisor)) if present else [])


def shift_(tensors: list[Tensor], moves: list[Tensor], factors: list[Tensor]) -> None:
    """Add to each tensor its move times its factor, a tensor without dimensions."""
    if not tensors:
        return
    is_shared = all(factor is factors[0] for factor in factors)
    if is_shared and all(_is_near(t) and t.dtype == m.dtype for t, m in zip(tensors, moves, strict=True)):
        torch._foreach_add_(tensors, moves, alpha=factors[0].item())
        return
    for tensor, move, factor in zip(tensors, moves, factors, strict=True):
        if _is_near(factor) and not _is_near(tensor):
            tensor.add_(move.to(tensor.dtype), alpha=factor.item())
        else:
            tensor.addcmul_(move.to(tensor.dtype), factor.to(tensor))


def copy_each_(tensors: list[Tensor], sources: list[Tensor]) -> None:
    """Copy the values of each source."""
    if tensors:
        torch._foreach_copy_(tensors, sources)


def _is_near(tensor: Tensor) -> bool:
    """Whether to read a number of a tensor costs nothing, while an accelerator would have to be waited for."""
    return tensor.is_cpu


def _like(factor: Tensor, tensor: Tensor) -> Tensor:
    return factor.to(tensor)


def _each(factor: Factor, grads: Grads) -> Grads:
    return [factor] * len(grads) if isinstance(factor, Tensor) else factor


def _norms(tensors: list[Tensor]) -> list[Tensor]:
    if not tensors:
        return []
    if any(tensor.dtype in _LOW_PRECISION for tensor in tensors):
        # The norm of many half precision entries leaves the range of half precision long before they do.
        wide = [torch.float32 if tensor.dtype in _LOW_PRECISION else None for tensor in tensors]
        return [torch.linalg.vector_norm(tensor, dtype=dtype) for tensor, dtype in zip(tensors, wide, strict=True)]
    return list(torch._foreach_norm(tensors))


def _dot(first: Tensor, second: Tensor) -> Tensor:
    if first.dtype in _LOW_PRECISION:
        first, second = first.float(), second.float()
    product = torch.vdot(first.reshape(-1), second.reshape(-1))
    return product.real if product.is_complex() else product


def _total(parts: list[Tensor], *, squared: bool) -> Tensor:
    """Combine per-tensor norms (or products, which simply add) that may differ in type and device."""
    if not parts:
        return torch.zeros(())
    if len(parts) == 1:
        return parts[0]
    kinds = {(part.dtype, part.device) for part in parts}
    if len(kinds) > 1:
        dtype = functools.reduce(torch.promote_types, (dtype for dtype, _ in kinds))
        parts = [part.to(device=parts[0].device, dtype=dtype) for part in parts]
    stacked = torch.stack(parts)
    return stacked.sum() if squared else torch.linalg.vector_norm(stacked)


def _spread(grads: Grads, values: Sequence[Tensor]) -> Grads:
    remaining = iter(values)
    spread: Grads = [None if grad is None else next(remaining) for grad in grads]
    assert operator.length_hint(remaining) == 0
    return spread
