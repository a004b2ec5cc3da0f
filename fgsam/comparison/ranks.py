"""Arms compared over many graphs by their ranks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from fgsam.checks import check_count
from fgsam.comparison.statistics import ALPHA, Array, check_between, finite

MIN_GRAPHS = 10
"""Graphs from which on a critical difference is given."""


@dataclass(frozen=True)
class Ranks:
    """Average ranks of arms over graphs, rank 1 being the highest score.

    Attributes:
        average: One rank for each arm, shape ``[num_arms]``.
        num_graphs: Units.
        friedman_statistic: Chi-square with ``num_arms - 1`` degrees of freedom, corrected for ties.
        friedman_p: That all arms are alike.
        nemenyi_p: Of each pair, adjusted for all pairs, shape ``[num_arms, num_arms]``, symmetric with 1 on the
            diagonal.
    """

    average: Array
    num_graphs: int
    friedman_statistic: float
    friedman_p: float
    nemenyi_p: Array


def average_ranks(scores: ArrayLike) -> Ranks:
    """Rank the arms on each graph, average over graphs, and test whether they differ.

    Equal scores share the mean of their ranks. The chi-square approximation of Friedman's test and the Nemenyi test,
    which assumes many graphs, are rough for fewer than ten.

    Args:
        scores: One score for each graph and arm, higher is better, shape ``[num_graphs, num_arms]``.

    Raises:
        ValueError: If a score is missing, or there are fewer than 2 graphs or 3 arms.

    Example:
        >>> found = average_ranks([[90.0, 80.0, 70.0], [60.0, 60.0, 50.0], [75.0, 70.0, 72.0]])
        >>> found.average.round(2)
        array([1.17, 2.17, 2.67])

    Source:
        Demsar, Statistical Comparisons of Classifiers over Multiple Data Sets, 2006, section 3.2.2.
    """
    table = finite(scores, 2, "scores")
    num_graphs, num_arms = table.shape
    if num_graphs < 2 or num_arms < 3:
        raise ValueError(
            f"Expected ranks of at least 3 arms over 2 graphs (got {num_arms} arms, {num_graphs} graphs). "
            "Compare two arms with paired_test."
        )
    average = stats.rankdata(-table, axis=1).mean(axis=0)
    if np.ptp(table, axis=1).any():
        statistic, p_value = stats.friedmanchisquare(*table.T)
    else:
        statistic, p_value = 0.0, 1.0
    gaps = np.abs(average[:, None] - average) / _rank_error(num_arms, num_graphs)
    nemenyi_p = stats.studentized_range.sf(gaps * math.sqrt(2), num_arms, np.inf)
    np.fill_diagonal(nemenyi_p, 1.0)
    return Ranks(average, num_graphs, float(statistic), float(p_value), nemenyi_p)


def critical_difference(num_arms: int, num_graphs: int, *, alpha: float = ALPHA) -> float:
    """Difference of two average ranks from which on the Nemenyi test rejects.

    Args:
        num_arms: At least 2.
        num_graphs: At least 10.
        alpha: Level, between 0 and 1, both excluded.

    Raises:
        ValueError: If there are too few arms or graphs, or ``alpha`` is out of range.

    Example:
        >>> print(f"{critical_difference(4, 14):.2f}")
        1.25

    Source:
        Demsar, Statistical Comparisons of Classifiers over Multiple Data Sets, 2006, section 3.2.2.
    """
    check_count(num_arms=num_arms, num_graphs=num_graphs)
    check_between(alpha=alpha)
    if num_arms < 2:
        raise ValueError(f"Expected 'num_arms' to be at least 2 (got num_arms={num_arms})")
    if num_graphs < MIN_GRAPHS:
        raise ValueError(
            f"Expected at least {MIN_GRAPHS} graphs for a critical difference (got {num_graphs}). With fewer, compare "
            "pairs of arms graph by graph."
        )
    q = float(stats.studentized_range.isf(alpha, num_arms, np.inf)) / math.sqrt(2)
    return q * _rank_error(num_arms, num_graphs)


def _rank_error(num_arms: int, num_graphs: int) -> float:
    return math.sqrt(num_arms * (num_arms + 1) / (6 * num_graphs))
