"""Which weights a sparse network keeps, and how its sparsity grows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Schedule = Literal["constant", "linear", "cosine", "cubic"]
"""How a value rises from its first step to its last."""

SCHEDULES: tuple[Schedule, ...] = ("constant", "linear", "cosine", "cubic")


def num_kept(num_weights: int, sparsity: float) -> int:
    """Count the weights that survive, ``round((1 - sparsity) * num_weights)``.

    Example:
        >>> num_kept(200, 0.95)
        10
    """
    return round((1 - sparsity) * num_weights)


def largest(scores: Sequence[Tensor], count: int) -> list[Tensor]:
    """Mark the largest scores over all tensors together.

    Args:
        scores: Real tensors of any shapes.
        count: How many to mark, at most the number of entries. Exactly as many are marked: among equal scores those
            that come first.

    Returns:
        Booleans of the shapes of the scores.

    Example:
        >>> largest([torch.tensor([1.0, 3.0]), torch.tensor([[3.0, 2.0, 3.0]])], 2)
        [tensor([False,  True]), tensor([[ True, False, False]])]
    """
    if not scores:
        return []
    flat = torch.cat([score.reshape(-1).to(scores[0].device) for score in scores])
    if count == len(flat) or count == 0:
        marked = torch.full_like(flat, count > 0, dtype=torch.bool)
    else:
        # Selecting is linear in the number of entries; sorting is not.
        threshold = flat.kthvalue(len(flat) - count + 1).values
        above, ties = flat > threshold, flat == threshold
        marked = above | (ties & (ties.cumsum(0) <= count - above.sum()))
    parts = torch.split(marked, [score.numel() for score in scores])
    return [part.view(score.shape).to(score.device) for part, score in zip(parts, scores, strict=True)]


def masked(tensors: Sequence[Tensor], masks: Sequence[Tensor]) -> list[Tensor]:
    """Copy tensors with zeros where the mask is False; a product would keep the signs of zeros and infinities."""
    return [tensor.masked_fill(~mask, 0) for tensor, mask in zip(tensors, masks, strict=True)]


def mask_(tensors: Sequence[Tensor], masks: Sequence[Tensor]) -> None:
    """Write zeros into tensors where the mask is False."""
    for tensor, mask in zip(tensors, masks, strict=True):
        tensor.masked_fill_(~mask, 0)


def risen(schedule: Schedule, step: int, num_steps: int) -> float:
    r"""Tell which share of its end value a schedule has reached.

    With ``x = min(step / num_steps, 1)`` the share is 1 (constant), ``x`` (linear), ``(1 - cos(pi x)) / 2`` (cosine)
    or ``1 - (1 - x)^3`` (cubic, which rises fast while there is most to prune).

    Args:
        schedule: One of the four.
        step: Steps done, at least 0.
        num_steps: Step at which the end is reached, at least 1.

    Example:
        >>> risen("cubic", 5, 10), risen("linear", 5, 10), risen("cosine", 20, 10)
        (0.875, 0.5, 1.0)

    Source:
        Zhu and Gupta, To Prune, or Not to Prune, 2018, Eq. 1 (cubic).
    """
    if schedule == "constant":
        return 1.0
    x = min(step / num_steps, 1.0)
    return {"linear": x, "cosine": (1 - math.cos(math.pi * x)) / 2, "cubic": 1 - (1 - x) ** 3}[schedule]


def share_of_zeros(tensors: Sequence[Tensor]) -> float:
    """Share of entries that are exactly zero, between 0 and 1; NaN without entries.

    Example:
        >>> share_of_zeros([torch.tensor([0.0, 1.0]), torch.zeros(2)])
        0.75
    """
    num_entries = sum(tensor.numel() for tensor in tensors)
    num_zeros = sum(tensor.numel() - int(torch.count_nonzero(tensor)) for tensor in tensors)
    return num_zeros / num_entries if num_entries else math.nan
