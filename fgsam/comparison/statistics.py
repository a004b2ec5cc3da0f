"""What differences between two arms show, with the class split as unit.

There is one difference for each class split, in points (percent): the score of arm A minus that of arm B on the same
episodes, averaged over episodes and then over seeds. Episodes and seeds of one split share its classes, so they are not
units of their own: counted as such, a test that should err in 5 % of cases errs far more often.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.special import stdtr, stdtrit

from fgsam.checks import check_choice, check_non_negative, check_positive

Array = NDArray[np.float64]
Kind = Literal["t", "sign_flip", "wilcoxon"]
Alternative = Literal["two-sided", "greater"]

ALPHA = 0.05
MARGIN = 0.5
"""Points within which two arms count as equal."""
ROUNDING = 1e-9
"""Points below which a difference is an error of arithmetic."""
MIN_SPLITS_WILCOXON = 9
MIN_SPLITS_BOOTSTRAP = 30
MAX_SPLITS_EXACT = 32
"""Class splits up to which all sign flips are counted."""
NUM_DRAWS = 20_000
"""Sign flips that are drawn beyond that, and resamples of a bootstrap."""


@dataclass(frozen=True)
class SplitMean:
    """A mean over class splits and the half-width of its interval, in the unit of the values."""

    mean: float
    half_width: float
    num_splits: int


@dataclass(frozen=True)
class PairedTest:
    """What one test says of the hypothesis that the mean difference lies above ``-margin``.

    Attributes:
        kind: The test.
        alternative: Whether a difference was looked for on both sides.
        margin: Points; above 0 the hypothesis is "not below".
        num_splits: Units.
        mean: Mean difference in points, without the margin.
        p_above: p-value of the hypothesis, doubled when the test is two-sided.
        p_below: Likewise of the opposite, that the mean lies below ``-margin``; always doubled.
    """

    kind: Kind
    alternative: Alternative
    margin: float
    num_splits: int
    mean: float
    p_above: float
    p_below: float

    @property
    def p_value(self) -> float:
        """The p-value of the test: of either side when it is two-sided, else of the hypothesis."""
        return min(self.p_above, self.p_below) if self.alternative == "two-sided" else self.p_above


@dataclass(frozen=True)
class Equivalence:
    """p-value of the claim that the mean difference lies strictly between ``-margin`` and ``margin``."""

    margin: float
    num_splits: int
    mean: float
    p_value: float


def mean_over_splits(values: ArrayLike, *, level: float = 0.95) -> SplitMean:
    """Mean over class splits and the half-width of its t interval, ``t(num_splits - 1) * sd / sqrt(num_splits)``.

    Args:
        values: One score or difference for each class split, shape ``[num_splits]``.
        level: Coverage, between 0 and 1, both excluded.

    Returns:
        Mean and half-width in the unit of the values. The half-width of one split is infinite; that of equal values is
        0, which tells of the values and not of other splits.

    Raises:
        ValueError: If there is no value or one that is not finite, or ``level`` is out of range.

    Example:
        >>> found = mean_over_splits([1.0, 2.0, 3.0])
        >>> print(f"{found.mean:.2f} +- {found.half_width:.2f}")
        2.00 +- 2.48
    """
    known = finite(values, 1, "values")
    check_between(level=level)
    half_width = stdtrit(len(known) - 1, (1 + level) / 2) * _standard_error(known) if len(known) > 1 else math.inf
    return SplitMean(float(known.mean()), float(half_width), len(known))


def bootstrap_interval(differences: ArrayLike, *, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Ends of the bias-corrected and accelerated bootstrap interval of the mean over class splits.

    Args:
        differences: One difference for each class split, shape ``[num_splits]``, at least 30.
        level: Coverage, between 0 and 1, both excluded.
        seed: Of the generator that draws the resamples.

    Returns:
        Lower and upper end, in points; both are the mean where all differences are equal.

    Raises:
        ValueError: If there are fewer than 30 splits, a value is not finite, or ``level`` is out of range.

    Source:
        Efron, Better Bootstrap Confidence Intervals, 1987.
    """
    known = finite(differences, 1, "differences")
    check_between(level=level)
    if len(known) < MIN_SPLITS_BOOTSTRAP:
        raise ValueError(
            f"Expected at least {MIN_SPLITS_BOOTSTRAP} class splits for a bootstrap (got {len(known)}), because with "
            "fewer its interval is too narrow. Take the t interval of mean_over_splits."
        )
    if np.ptp(known) <= ROUNDING:
        return float(known.mean()), float(known.mean())
    generator = np.random.default_rng(seed)
    found = stats.bootstrap((known,), np.mean, confidence_level=level, n_resamples=NUM_DRAWS, rng=generator, batch=1000)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def paired_test(
    differences: ArrayLike,
    *,
    kind: Kind = "t",
    alternative: Alternative = "two-sided",
    margin: float = 0.0,
    seed: int = 0,
) -> PairedTest:
    """Test the mean of paired differences over class splits.

    "A above B" is the two-sided test, whose direction is read afterwards. "A not below B" is the one-sided test against
    a mean of ``-margin``, usually with ``margin=0.5``.

    ============= ======================================================================================
    kind          what it does
    ============= ======================================================================================
    ``t``         Student's t with ``num_splits - 1`` degrees of freedom. Without spread it is undefined,
                  with one split or equal differences, and the exact sign flip takes its place.
    ``sign_flip`` The share of sign patterns with a mean at least as far out: all of them up to 32
                  splits, beyond that 20,000 drawn ones and the observed one. It needs differences that
                  are symmetric about the null value.
    ``wilcoxon``  Signed ranks, as scipy counts them; refused below 9 splits.
    ============= ======================================================================================

    Args:
        differences: One difference for each class split in points, shape ``[num_splits]``.
        kind: See the table.
        alternative: ``two-sided``, or ``greater`` for a hypothesis with a direction.
        margin: Points that A may be below B, at least 0; only with ``greater``.
        seed: Of the generator that draws sign patterns.

    Raises:
        ValueError: If there is no difference or one that is not finite, an argument is out of range, or there are too
            few class splits for the kind.

    Example:
        >>> test = paired_test([0.6, 1.1, 0.2, 0.9, 0.7])
        >>> print(f"{test.mean:.2f} points, p = {test.p_value:.3f}")
        0.70 points, p = 0.010
        >>> print(paired_test([0.6, 1.1, 0.2, 0.9, 0.7], kind="sign_flip").p_value)
        0.0625
    """
    known = finite(differences, 1, "differences")
    check_choice(("t", "sign_flip", "wilcoxon"), kind=kind)
    check_choice(("two-sided", "greater"), alternative=alternative)
    check_non_negative(margin=margin)
    if margin and alternative == "two-sided":
        raise ValueError(
            f"Expected 'margin' to be 0 for a two-sided test (got margin={margin}). Take alternative='greater'."
        )
    if kind == "wilcoxon" and len(known) < MIN_SPLITS_WILCOXON:
        raise ValueError(
            f"Expected at least {MIN_SPLITS_WILCOXON} class splits for kind='wilcoxon' (got {len(known)}): it cannot "
            f"go below p={2.0 ** (1 - len(known)):.2g} there, too much for a family of hypotheses. Take kind='t'."
        )
    above, below = _tails(known + margin, kind, seed)
    p_above = above if alternative == "greater" else min(1.0, 2 * above)
    return PairedTest(kind, alternative, margin, len(known), float(known.mean()), p_above, min(1.0, 2 * below))


def equivalence(differences: ArrayLike, margin: float = MARGIN) -> Equivalence:
    """Test that the mean difference over class splits lies within a margin, by two one-sided t tests.

    The p-value is the larger one of "above ``-margin``" and "below ``margin``"; below 0.05 the 90 % t interval lies
    within the margin.

    Args:
        differences: One difference for each class split in points, shape ``[num_splits]``.
        margin: Points, positive.

    Raises:
        ValueError: If there is no difference or one that is not finite, or the margin is not positive.

    Example:
        >>> print(f"{equivalence([0.1, -0.2, 0.0, 0.2, 0.1]).p_value:.4f}")
        0.0012

    Source:
        Schuirmann, A Comparison of the Two One-Sided Tests Procedure, 1987.
    """
    known = finite(differences, 1, "differences")
    check_positive(margin=margin)
    p_value = max(_tails(known + margin, "t")[0], _tails(known - margin, "t")[1])
    return Equivalence(margin, len(known), float(known.mean()), p_value)


def effect_size(differences: ArrayLike) -> float:
    """Mean over standard deviation of the differences over class splits, without a unit.

    Args:
        differences: One difference for each class split, shape ``[num_splits]``.

    Returns:
        NaN for one split; without spread 0 or infinite, by the mean.

    Raises:
        ValueError: If there is no difference, or one that is not finite.

    Example:
        >>> effect_size([1.0, 2.0, 3.0])
        2.0
    """
    known = finite(differences, 1, "differences")
    mean = float(known.mean())
    if len(known) == 1:
        return math.nan
    if np.ptp(known) <= ROUNDING:
        return 0.0 if abs(mean) <= ROUNDING else math.copysign(math.inf, mean)
    return mean / float(known.std(ddof=1))


def win_tie_loss(differences: ArrayLike) -> tuple[int, int, int]:
    """Count the class splits where A is above B, equal to it, and below it.

    Args:
        differences: One difference for each class split, shape ``[num_splits]``.

    Raises:
        ValueError: If there is no difference, or one that is not finite.

    Example:
        >>> win_tie_loss([0.4, -0.1, 0.0, 1.2])
        (2, 1, 1)
    """
    known = finite(differences, 1, "differences")
    wins, losses = int((known > ROUNDING).sum()), int((known < -ROUNDING).sum())
    return wins, len(known) - wins - losses, losses


def finite(values: ArrayLike, ndim: int, name: str) -> Array:
    """Return the values as float64.

    Raises:
        ValueError: If they have another number of dimensions, there are none, or one is not finite.
    """
    known = np.asarray(values, dtype=np.float64)
    if known.ndim != ndim or known.size == 0:
        raise ValueError(f"Expected '{name}' to have {ndim} dimensions and a value (got shape {list(known.shape)})")
    wrong = np.argwhere(~np.isfinite(known))
    if len(wrong):
        place = ", ".join(map(str, wrong[0]))
        raise ValueError(
            f"Expected '{name}' to be finite (got {known[tuple(wrong[0])]} at [{place}]). "
            "Leave out what has no result, in both arms."
        )
    return known


def check_between(**values: float) -> None:
    """Raise ``ValueError`` if a named value lies outside ``(0, 1)``."""
    for name, value in values.items():
        if not 0 < value < 1:
            raise ValueError(f"Expected '{name}' to be between 0 and 1, both excluded (got {name}={value})")


def _tails(values: Array, kind: Kind, seed: int = 0) -> tuple[float, float]:
    """One-sided p-values of a mean above 0 and of one below it."""
    if kind == "wilcoxon":
        return _wilcoxon_tails(values)
    if kind == "sign_flip" or np.ptp(values) <= ROUNDING:
        return _flip_tails(values, seed)
    t = values.mean() / _standard_error(values)
    return float(stdtr(len(values) - 1, -t)), float(stdtr(len(values) - 1, t))


def _wilcoxon_tails(values: Array) -> tuple[float, float]:
    if np.abs(values).max() <= ROUNDING:
        return 1.0, 1.0
    above, below = (float(stats.wilcoxon(values, alternative=side).pvalue) for side in ("greater", "less"))
    return above, below


def _flip_tails(values: Array, seed: int) -> tuple[float, float]:
    total, slack = values.sum(), ROUNDING * len(values)
    if len(values) > MAX_SPLITS_EXACT:
        sums = np.random.default_rng(seed).choice((-1.0, 1.0), (NUM_DRAWS, len(values))) @ values
        far = (int((sums >= total - slack).sum()), int((sums <= total + slack).sum()))
        return (1 + far[0]) / (1 + NUM_DRAWS), (1 + far[1]) / (1 + NUM_DRAWS)
    # A pattern of all signs is one of the first half and one of the second: sorted halves count the pairs.
    middle = len(values) // 2
    first = np.sort(_sign_patterns(middle) @ values[:middle])
    second = np.sort(_sign_patterns(len(values) - middle) @ values[middle:])

    def share_at_least(level: float) -> float:
        below = np.searchsorted(second, level - slack - first)
        return 1 - float(below.sum()) / (len(first) * len(second))

    return share_at_least(total), share_at_least(-total)


@cache
def _sign_patterns(length: int) -> Array:
    """All rows of -1 and 1, shape ``[2 ** length, length]``."""
    bits = np.arange(2**length)[:, None] >> np.arange(length)
    return (2 * (bits & 1) - 1).astype(np.float64)


def _standard_error(values: Array) -> float:
    return float(values.std(ddof=1)) / math.sqrt(len(values))
