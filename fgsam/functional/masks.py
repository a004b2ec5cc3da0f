"""Masks over parameters and queries: exactly as many entries as asked for, ties decided by index."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor

from fgsam.functional.sparsity import largest
from fgsam.functional.trees import Grads


def share_of(total: int, fraction: float) -> int:
    """Take a fraction of a whole number, rounded up, in exact arithmetic on the decimals of the fraction.

    Args:
        total: A count, at least 0.
        fraction: Between 0 and 1.

    Example:
        >>> share_of(30, 0.1), math.ceil(30 * 0.1000000001)
        (3, 4)
    """
    return math.ceil(Fraction(repr(float(fraction))) * total)


def top(scores: Tensor, count: int) -> Tensor:
    """Mark the largest scores of one vector, the first ones among equals.

    Args:
        scores: Shape ``[size]``.
        count: How many to mark, from 0 to ``size``.

    Returns:
        Booleans of shape ``[size]``, of which exactly ``count`` are true.

    Example:
        >>> top(torch.tensor([1.0, 3.0, 1.0, 1.0]), 3)
        tensor([ True,  True,  True, False])
    """
    return largest([scores], count)[0]


def flat(tensors: Grads) -> Tensor:
    """Join the entries of all present tensors, shape ``[size]``, on the device of the first."""
    present = [tensor for tensor in tensors if tensor is not None]
    return torch.cat([tensor.reshape(-1).to(present[0].device) for tensor in present])


def shaped(vector: Tensor, tensors: Grads) -> Grads:
    """Cut a vector into the shapes of all present tensors, on their devices; the inverse of ``flat``."""
    parts = iter(torch.split(vector, [tensor.numel() for tensor in tensors if tensor is not None]))
    # Copies: a view would keep, and save, the whole vector.
    return [None if t is None else next(parts).view(t.shape).to(t.device, copy=True) for t in tensors]


def masked(grads: Grads, masks: Grads) -> Grads:
    """Keep the entries where the mask is true, and set the others to zero.

    Args:
        grads: One tensor for each parameter.
        masks: Booleans of the same shapes; where a mask is missing, nothing is kept.

    Returns:
        New tensors, ``None`` where gradient or mask is missing.
    """
    pairs = zip(grads, masks, strict=True)
    return [None if g is None or mask is None else torch.where(mask, g, torch.zeros_like(g)) for g, mask in pairs]


def unstructured_mask(scores: Grads, num_live: int) -> Grads:
    """Mark the entries of largest score among all tensors together.

    Args:
        scores: One real tensor for each parameter, ``None`` for one that has no mask.
        num_live: How many to mark, over all tensors.

    Returns:
        Booleans of the same shapes.

    Example:
        >>> unstructured_mask([torch.tensor([1.0, 4.0]), None, torch.tensor([[3.0]])], 2)
        [tensor([False,  True]), None, tensor([[True]])]
    """
    marked = iter(largest([score for score in scores if score is not None], num_live))
    return [None if score is None else next(marked) for score in scores]


def structured_mask(scores: Grads, num_live: int) -> Grads:
    """Mark whole tensors in the order of their mean score, until at least so many entries are marked.

    Args:
        scores: One real tensor for each parameter, ``None`` for one that has no mask.
        num_live: Least number of entries to mark; the last tensor marked may exceed it.

    Returns:
        Booleans of the same shapes, alike within a tensor.

    Example:
        >>> structured_mask([torch.tensor([1.0, 4.0]), torch.tensor([3.0]), torch.tensor([2.0])], 2)
        [tensor([True, True]), tensor([True]), tensor([False])]
    """
    sizes = {i: score.numel() for i, score in enumerate(scores) if score is not None and score.numel()}
    means = {i: float(scores[i].mean()) for i in sizes}  # type: ignore[union-attr]
    live: set[int] = set()
    for i in sorted(means, key=means.__getitem__, reverse=True):
        if sum(sizes[j] for j in live) >= num_live:
            break
        live.add(i)
    return [None if s is None else torch.full_like(s, i in live, dtype=torch.bool) for i, s in enumerate(scores)]


def group_mask(score: Tensor, num_kept: int, group_size: int, input_dim: int) -> Tensor:
    """Mark the largest scores in each group of consecutive inputs (an N:M mask).

    The dimensions beside that of the outputs are read as one, so that the inputs of a convolution follow each other as
    in its matrix product. A last group that is not full keeps as many entries, or all it has.

    Args:
        score: Shape ``[num_out, num_in, ...]``, or ``[num_in, num_out, ...]`` for ``input_dim=0``. A tensor of fewer
            than two dimensions is marked everywhere.
        num_kept: Entries to mark in each group (``N``).
        group_size: Consecutive entries that make a group (``M``).
        input_dim: Dimension of the inputs, 0 or 1; the other of the two is that of the outputs.

    Returns:
        Booleans of the shape of ``score``.

    Example:
        >>> group_mask(torch.tensor([[4.0, 3.0, 1.0, 2.0, 5.0]]), 1, 2, input_dim=1)
        tensor([[ True, False, False,  True,  True]])
    """
    if score.ndim < 2:
        return torch.ones_like(score, dtype=torch.bool)
    by_output = score.movedim(1 - input_dim, 0)
    rows = by_output.flatten(1)
    padding = -rows.size(1) % group_size
    # What fills up the last group ranks below every score.
    padded = torch.nn.functional.pad(rows, (0, padding), value=-math.inf).reshape(len(rows), -1, group_size)
    # By sorting, since many short groups are ranked at once; a stable sort leaves ties to the index.
    order = padded.argsort(dim=-1, descending=True, stable=True)
    marked = torch.zeros_like(padded, dtype=torch.bool).scatter_(-1, order[..., :num_kept], True)
    return marked.flatten(1)[:, : rows.size(1)].reshape(by_output.shape).movedim(0, 1 - input_dim).contiguous()


def drop_and_grow(mask: Tensor, drop: Tensor, grow: Tensor, num_live: int, rate: float) -> Tensor:
    """Give up some marked entries and mark as many others in their place.

    Entries that are given up do not come back at once, so no more are given up than there are others.

    Args:
        mask: Booleans of shape ``[size]``.
        drop: Scores of shape ``[size]``; of the marked entries those with the smallest are given up.
        grow: Scores of shape ``[size]``; of the other entries those with the largest are marked.
        num_live: How many shall be marked afterwards, at most ``size``.
        rate: Share of the marked entries to give up, between 0 and 1.

    Returns:
        Booleans of shape ``[size]``, of which exactly ``num_live`` are true.

    Example:
        >>> mask = torch.tensor([True, True, False, False])
        >>> drop_and_grow(mask, torch.tensor([1.0, 2, 3, 4]), torch.tensor([1.0, 2, 3, 4]), num_live=2, rate=0.5)
        tensor([False,  True, False,  True])
    """
    num_marked = int(mask.sum())
    num_others = len(mask) - num_marked
    num_kept = min(max(int(num_marked * (1 - rate)), num_marked - num_others), num_live)
    kept = top(torch.where(mask, drop, -math.inf), num_kept)
    return kept | top(torch.where(mask, -math.inf, grow), num_live - num_kept)


def squares(grads: Sequence[Tensor | None], like: Grads) -> Grads:
    """Square the absolute value of each entry, at least in single precision; zero where a gradient is missing.

    Args:
        grads: One tensor for each parameter.
        like: Tensors of the same shapes for all parameters that are to have a square; ``None`` for the others.
    """
    filled = [None if t is None else torch.zeros_like(t) if g is None else g for g, t in zip(grads, like, strict=True)]
    return [None if g is None else g.abs().to(_at_least_single(g)).square() for g in filled]


def _at_least_single(tensor: Tensor) -> torch.dtype:
    real = torch.empty((), dtype=tensor.dtype).abs().dtype
    return torch.promote_types(real, torch.float32)
