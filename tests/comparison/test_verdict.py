from __future__ import annotations

import itertools

import numpy as np
import pytest
import scikit_posthocs
from scipy import stats

from fgsam.comparison.statistics import Equivalence, PairedTest, equivalence, paired_test
from fgsam.comparison.verdict import holm, verdict, verdicts

HAND = [0.6, 1.1, 0.2, 0.9, 0.7]


def normal(num_splits: int, seed: int = 0, mean: float = 0.4) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1.0, num_splits)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]


def test_holm_is_that_of_scikit_posthocs():
    samples = [normal(12, seed, mean=seed / 3) for seed in range(4)]
    pairs = list(itertools.combinations(range(4), 2))
    wanted = scikit_posthocs.posthoc_ttest(samples, p_adjust="holm").to_numpy()
    found = holm([stats.ttest_ind(samples[i], samples[j]).pvalue for i, j in pairs])
    assert found == pytest.approx([wanted[i, j] for i, j in pairs])
    assert len(set(found)) > 1


def made_test(p_above: float, p_below: float, alternative: str = "two-sided") -> PairedTest:
    return PairedTest("t", alternative, 0.0, 20, 0.1, p_above, p_below)


def made_verdict(p_above: float, p_below: float, p_within: float, *others: float) -> str:
    family = [made_test(p, 1.0) for p in others]
    return verdict(made_test(p_above, p_below), Equivalence(0.5, 20, 0.1, p_within), others=family).word


@pytest.mark.parametrize(
    ("p_values", "word"),
    [
        ((0.01, 1.0, 0.9), "holds"),
        ((0.01, 1.0, 0.01), "holds"),  # there and small
        ((1.0, 0.01, 0.01), "contradicted"),
        ((0.6, 1.0, 0.01), "equivalent"),
        ((0.6, 1.0, 0.06), "undecided"),
        ((0.05, 1.0, 1.0), "undecided"),  # below, not at the level
    ],
)
def test_the_words(p_values: tuple[float, float, float], word: str):
    assert made_verdict(*p_values) == word


def test_every_reading_is_adjusted_for_the_family():
    assert made_verdict(0.03, 1.0, 1.0, 0.5) == "undecided"
    assert made_verdict(0.03, 1.0, 1.0, 0.01) == "holds"  # Holm's second step
    assert made_verdict(1.0, 0.03, 1.0, 0.5) == "undecided"
    assert made_verdict(0.9, 1.0, 0.03, 0.5) == "undecided"
    found = verdict(made_test(0.02, 1.0), Equivalence(0.5, 20, 0.1, 0.01), others=[made_test(1.0, 0.3)])
    assert (found.p_adjusted, found.p_holds, found.p_contradicted) == pytest.approx((0.04, 0.04, 1.0))
    assert (found.p_equivalent, found.num_splits) == (pytest.approx(0.02), 20)


def test_above_and_not_below_on_three_arms():
    noise = np.array([0.1, -0.1, 0.05, -0.05, 0.02, -0.02, 0.08, -0.08, 0.0, 0.0])

    def above(shift: float) -> str:
        return verdict(paired_test(noise + shift), equivalence(noise + shift)).word

    def not_below(shift: float) -> str:
        test = paired_test(noise + shift, alternative="greater", margin=0.5)
        return verdict(test, equivalence(noise + shift)).word

    assert [above(shift) for shift in (1.0, 0.2, 0.0, -0.2, -1.0)] == [
        *("holds", "holds", "equivalent", "contradicted", "contradicted")
    ]
    assert [not_below(shift) for shift in (1.0, 0.0, -0.2, -0.5, -1.0)] == [
        *("holds", "holds", "holds", "undecided", "contradicted")
    ]


def test_not_below_is_never_merely_equivalent():
    for seed, num_splits in itertools.product(range(60), (3, 6, 20)):
        differences = normal(num_splits, seed, mean=-0.1) / 4
        test = paired_test(differences, alternative="greater", margin=0.5)
        assert verdict(test, equivalence(differences), others=[made_test(0.3, 1.0)]).word != "equivalent"


def test_the_other_side_of_a_one_sided_hypothesis_is_doubled():
    differences = normal(10, 3, mean=-0.5)
    assert differences.mean() < 0
    test = paired_test(differences, alternative="greater")
    assert test.p_value == pytest.approx(stats.ttest_1samp(differences, 0, alternative="greater").pvalue)
    assert test.p_below == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)
    assert made_verdict(0.98, 0.04, 1.0) == "contradicted"


def test_the_verdicts_of_a_family_are_those_of_each_with_the_others():
    sets = [normal(10, seed, mean=mean) for seed, mean in enumerate((1.0, 0.9, 0.0))]
    tests, within = [paired_test(own) for own in sets], [equivalence(own) for own in sets]
    found = verdicts(tests, within)
    assert [own.p_adjusted for own in found] == pytest.approx(holm([test.p_value for test in tests]))
    assert found[1] == verdict(tests[1], within[1], others=[tests[2], tests[0]])
    with pytest.raises(ValueError, match=r"as many equivalences as tests \(got 1 and 3\)"):
        verdicts(tests, within[:1])


def test_a_verdict_speaks_of_one_set_of_differences():
    with pytest.raises(ValueError, match=r"same differences \(got 5 splits with mean 0.7, 2 with mean 1\)"):
        verdict(paired_test(HAND), equivalence([1.0, 1.0]))


def test_equal_arms_are_equivalent_once_there_are_five_splits():
    words = [verdict(paired_test([0.0] * n), equivalence([0.0] * n)).word for n in (4, 5)]
    assert words == ["undecided", "equivalent"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: holm([]), r"'p_values' to have 1 dimensions and a value"),
        (lambda: holm([0.5, 1.5]), r"'p_values' to be between 0 and 1 \(got p_values=1.5\)"),
        (lambda: verdict(paired_test(HAND), equivalence(HAND), alpha=0), r"'alpha' .* \(got alpha=0\)"),
    ],
)
def test_bad_input_is_named(call, message: str):
    with pytest.raises(ValueError, match=message):
        call()
