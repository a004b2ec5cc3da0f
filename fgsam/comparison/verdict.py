"""A word for each hypothesis of a family, with p-values adjusted for the whole of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fgsam.checks import check_fraction, check_share
from fgsam.comparison.statistics import ALPHA, Array, Equivalence, PairedTest, finite

Word = Literal["holds", "contradicted", "equivalent", "undecided"]


@dataclass(frozen=True)
class Verdict:
    """A word for one hypothesis, with the p-values that it rests on, all Holm-adjusted.

    Attributes:
        word: See :func:`verdict`.
        num_splits: Units.
        p_adjusted: Of the test as such.
        p_holds: Of the hypothesis.
        p_contradicted: Of its opposite.
        p_equivalent: Of equivalence.
    """

    word: Word
    num_splits: int
    p_adjusted: float
    p_holds: float
    p_contradicted: float
    p_equivalent: float


def holm(p_values: Sequence[float] | Array) -> list[float]:
    """Adjust the p-values of a family so that the chance of any false rejection stays below the level.

    The smallest of ``m`` p-values is multiplied by ``m``, the next by ``m - 1``, and so on; none falls below the one
    before it, none exceeds 1.

    Args:
        p_values: At least one, each between 0 and 1.

    Returns:
        Adjusted p-values in the order of the input.

    Raises:
        ValueError: If there is none, or one lies outside ``[0, 1]``.

    Example:
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]

    Source:
        Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979.
    """
    known = finite(p_values, 1, "p_values")
    for p_value in known.tolist():
        check_fraction(p_values=p_value)
    order = np.argsort(known, kind="stable")
    adjusted = np.empty_like(known)
    adjusted[order] = np.maximum.accumulate(known[order] * np.arange(len(known), 0, -1))
    return [float(value) for value in adjusted.clip(max=1.0)]


def verdict(
    test: PairedTest,
    within: Equivalence,
    *,
    others: Sequence[PairedTest] = (),
    num_untested: int = 0,
    alpha: float = ALPHA,
) -> Verdict:
    """Say in a word what a test shows of its hypothesis, "A above B" or "A not below B".

    Three p-values are read: that the mean lies above ``-margin`` (the hypothesis), below it (the opposite), and within
    the margin of equivalence. Each is Holm-adjusted with the p-values of the family's other tests. The first of these
    that is true gives the word:

    1. *holds*: that of the hypothesis is below ``alpha``;
    2. *contradicted*: that of the opposite is below ``alpha``. It is doubled for a one-sided hypothesis too, for which
       this side was not the one announced: where the true mean is ``-margin``, *holds* errs in ``alpha`` of cases and
       *contradicted* in half as many;
    3. *equivalent*: that of equivalence is below ``alpha``;
    4. *undecided*: none of them. More class splits may tell, and the smallest difference that these could have shown is
       :func:`fgsam.comparison.power.minimum_detectable`.

    A difference that is both there and small, above 0 and within the margin, *holds*. "A not below B" is never
    *equivalent*, because with the same margin it holds before.

    Args:
        test: Of the hypothesis.
        within: Of the same differences.
        others: Tests of the other hypotheses of the family.
        num_untested: Hypotheses of the family that could not be tested yet; they count as with a p-value of 1.
        alpha: Level, above 0 and at most 1.

    Raises:
        ValueError: If the two do not speak of the same differences, or ``alpha`` is out of range.

    Example:
        >>> from fgsam.comparison.statistics import equivalence, paired_test
        >>> differences = [0.6, 1.1, 0.2, 0.9, 0.7]
        >>> verdict(paired_test(differences), equivalence(differences)).word
        'holds'
    """
    check_share(alpha=alpha)
    if (test.num_splits, test.mean) != (within.num_splits, within.mean):
        raise ValueError(
            "Expected a test and an equivalence of the same differences "
            f"(got {test.num_splits} splits with mean {test.mean:g}, {within.num_splits} with mean {within.mean:g})"
        )
    family = [*(other.p_value for other in others), *[1.0] * num_untested]
    p_value, *readings = (holm([p, *family])[0] for p in (test.p_value, test.p_above, test.p_below, within.p_value))
    words: tuple[Word, ...] = ("holds", "contradicted", "equivalent")
    found = (word for word, p in zip(words, readings, strict=True) if p < alpha)
    return Verdict(next(found, "undecided"), test.num_splits, p_value, *readings)


def verdicts(
    tests: Sequence[PairedTest], within: Sequence[Equivalence], *, num_untested: int = 0, alpha: float = ALPHA
) -> list[Verdict]:
    """Give the verdict on each hypothesis of a family, see :func:`verdict`.

    Args:
        tests: One test for each hypothesis.
        within: Equivalence of the same differences, in the same order.
        num_untested: Hypotheses of the family that could not be tested yet.
        alpha: Level, above 0 and at most 1.

    Raises:
        ValueError: If the two differ in length or speak of other differences, or ``alpha`` is out of range.
    """
    if len(tests) != len(within):
        raise ValueError(f"Expected as many equivalences as tests (got {len(within)} and {len(tests)})")
    pairs = enumerate(zip(tests, within, strict=True))
    return [
        verdict(test, own, others=[*tests[:i], *tests[i + 1 :]], num_untested=num_untested, alpha=alpha)
        for i, (test, own) in pairs
    ]
