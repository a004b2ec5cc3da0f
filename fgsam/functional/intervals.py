"""Confidence intervals of a mean."""

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
