"""Draws of fixed size with prescribed probabilities."""

from __future__ import annotations

import torch
from torch import Tensor


def inclusion_probabilities(sizes: Tensor, count: int) -> Tensor:
    r"""Give each entry its probability to be in a draw of fixed size, proportional to its own size.

    .. math:: \pi_i = \min(1, c \, s_i), \quad \sum_i \pi_i = m

    Args:
        sizes: Positive numbers ``s``, shape ``[size]``.
        count: How many entries a draw has (``m``), from 0 to ``size``.

    Returns:
        Shape ``[size]``; the sum is ``count``.

    Example:
        >>> inclusion_probabilities(torch.tensor([1.0, 1.0, 8.0]), 2)
        tensor([0.5000, 0.5000, 1.0000])
    """
    if count == len(sizes):
        return torch.ones_like(sizes)
    certain = torch.zeros_like(sizes, dtype=torch.bool)
    while True:
        rest = sizes * (count - certain.sum()) / sizes[~certain].sum()
        # Entries that would come out above one are drawn always, and what they leave is shared among the others.
        above = (rest >= 1) & ~certain
        if not above.any():
            return torch.where(certain, 1.0, rest)
        certain |= above


def systematic_draw(probabilities: Tensor, generator: torch.Generator) -> Tensor:
    """Draw entries without replacement, each with exactly its own probability, and always as many.

    The entries are laid end to end in random order, each as long as its probability; a comb with teeth at distance one,
    laid upon them at random, hits those drawn.

    Args:
        probabilities: Shape ``[size]``, each in ``(0, 1]``, of a whole sum; float64, on the CPU.
        generator: Source of the random order and of the place of the comb.

    Returns:
        Booleans of shape ``[size]``.

    Source:
        Madow, On the Theory of Systematic Sampling, II, 1949; in random order.
    """
    drawn = probabilities >= 1
    rest = torch.nonzero(~drawn).flatten()
    rest = rest[torch.randperm(len(rest), generator=generator)]
    start = torch.rand((), dtype=torch.float64, generator=generator)
    ends = probabilities[rest].cumsum(0)
    if len(ends):
        ends[-1] = ends[-1].round()  # whole but for rounding, which must not cost an entry
    teeth = torch.ceil(ends - start)
    drawn[rest[teeth.diff(prepend=torch.zeros(1, dtype=torch.float64)) > 0]] = True
    return drawn
