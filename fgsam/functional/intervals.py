"""Confidence intervals of a mean and of a share."""

from __future__ import annotations

import math
from statistics import NormalDist

import torch
from torch import Tensor


def mean_interval(scores: Tensor, level: float = 0.95) -> tuple[float, float]:
    """Mean of per-episode scores and the half-width of its normal interval, ``z * sd / sqrt(n)``.

    The interval covers one source of chance, the draw of test episodes, for fixed weights on fixed test classes. It
    says nothing about another class split or another seed, whose spread is usually larger: a claim that one learner is
    better than another needs several splits.

    Args:
        scores: One score for each episode, shape ``[num_episodes]``.
        level: Coverage, between 0 and 1, both excluded.

    Returns:
        Mean and half-width, in the unit of the scores; the half-width of a single score is infinite.

    Raises:
        ValueError: If there is no score, or ``level`` lies outside ``(0, 1)``.

    Example:
        >>> mean, half_width = mean_interval(torch.tensor([0.5, 0.7, 0.6, 0.6]))
        >>> print(f"{mean:.2f} +- {half_width:.2f}")
        0.60 +- 0.08
    """
    if scores.numel() == 0:
        raise ValueError("Expected 'scores' to hold at least one score (got none)")
    if not 0 < level < 1:
        raise ValueError(f"Expected 'level' to be between 0 and 1 (got level={level})")
    values = scores.detach().flatten().to(torch.float64)
    if len(values) == 1:
        return float(values[0]), math.inf
    z = NormalDist().inv_cdf((1 + level) / 2)
    return float(values.mean()), z * float(values.std()) / math.sqrt(len(values))


def share_interval(num_right: int, num_all: int, level: float = 0.95) -> tuple[float, float]:
    """Share of right answers and the half-width of its binomial interval, ``z * sqrt(p * (1 - p) / n)``.

    The interval covers one source of chance, which nodes are tested, for fixed weights. It says nothing about another
    division of the nodes or another seed.

    Args:
        num_right: Right answers.
        num_all: All answers, at least 1.
        level: Coverage, between 0 and 1, both excluded.

    Raises:
        ValueError: If there are no answers, or more right ones than there are.

    Example:
        >>> share, half_width = share_interval(80, 100)
        >>> print(f"{share:.2f} +- {half_width:.2f}")
        0.80 +- 0.08
    """
    if not 0 <= num_right <= num_all or num_all < 1:
        raise ValueError(f"Expected at least one answer, and no more right ones (got {num_right} of {num_all})")
    share = num_right / num_all
    return share, NormalDist().inv_cdf((1 + level) / 2) * math.sqrt(share * (1 - share) / num_all)
