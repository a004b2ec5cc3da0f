"""What a comparison shows of each hypothesis, in figures and in a word."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fgsam.comparison.grid import Hypothesis, Protocol
from fgsam.comparison.power import minimum_detectable
from fgsam.comparison.results import Results
from fgsam.comparison.statistics import (
    MIN_SPLITS_WILCOXON,
    Equivalence,
    PairedTest,
    SplitMean,
    effect_size,
    equivalence,
    mean_over_splits,
    paired_test,
    win_tie_loss,
)
from fgsam.comparison.verdict import Verdict, verdicts


@dataclass(frozen=True)
class Finding:
    """What the runs show of one hypothesis.

    Attributes:
        hypothesis: The claim.
        part: Where; None for the mean over all parts.
        differences: Points by class split.
        mean: Their mean and its 95 % interval.
        test: The test that the grid names.
        check: The sign-flip test beside it.
        within: Test of equivalence.
        verdict: The word, and Holm-adjusted p-values.
        detectable: Smallest difference in points that so many splits find with 80 % power, at the level of one test.
        effect: Mean over standard deviation of the differences.
        wins: Class splits above, equal, below.
    """

    hypothesis: Hypothesis
    part: str | None
    differences: dict[int | str, float]
    mean: SplitMean
    test: PairedTest
    check: PairedTest
    within: Equivalence
    verdict: Verdict
    detectable: float
    effect: float
    wins: tuple[int, int, int]


def findings(results: Results) -> list[Finding]:
    """Test the hypotheses of a grid as one family.

    Hypotheses with fewer finished class splits than the test takes are left out, and still count in the family: what
    failed, or is not over, makes no p-value smaller. With a single split the verdict is *undecided*.
    """
    protocol = results.grid.protocol
    places: list[str | None] = [None] if protocol.pooled else [part.label for part in results.grid.parts]
    claims = []
    least = MIN_SPLITS_WILCOXON if protocol.test == "wilcoxon" else 1
    for part in places:
        for hypothesis in protocol.hypotheses:
            pair = (hypothesis.arm, hypothesis.reference)
            found = results.pooled_differences(*pair) if part is None else results.differences(part, *pair)
            if len(found) >= least:
                claims.append((hypothesis, part, found))
    return judged(claims, protocol, num_untested=len(places) * len(protocol.hypotheses) - len(claims))


def judged(
    claims: Sequence[tuple[Hypothesis, str | None, dict[int | str, float]]],
    protocol: Protocol,
    *,
    num_untested: int = 0,
) -> list[Finding]:
    """Test claims as one family.

    Args:
        claims: Each with its part, None for the mean over all, and its differences in points by class split, at least
            one.
        protocol: Test, margin and level.
        num_untested: Further claims of the family, which cannot be tested yet.
    """
    tests, checks, within = [], [], []
    for hypothesis, _, found in claims:
        values = list(found.values())
        is_one_sided = hypothesis.kind == "not below"
        side = {"alternative": "greater", "margin": protocol.margin} if is_one_sided else {}
        tests.append(paired_test(values, kind=protocol.test, **side))  # type: ignore[arg-type]
        checks.append(paired_test(values, kind="sign_flip", **side))  # type: ignore[arg-type]
        within.append(equivalence(values, protocol.margin))
    words = verdicts(tests, within, num_untested=num_untested, alpha=protocol.alpha) if claims else []
    return [
        Finding(
            hypothesis,
            part,
            found,
            mean_over_splits(list(found.values())),
            test,
            check,
            equal,
            word,
            _detectable(list(found.values()), protocol.alpha * (2 if hypothesis.kind == "not below" else 1)),
            effect_size(list(found.values())),
            win_tie_loss(list(found.values())),
        )
        for (hypothesis, part, found), test, check, equal, word in zip(
            claims, tests, checks, within, words, strict=True
        )
    ]


def _detectable(values: list[float], alpha: float) -> float:
    if len(values) < 2:
        return math.inf
    return minimum_detectable(float(np.std(values, ddof=1)), len(values), alpha=alpha)
