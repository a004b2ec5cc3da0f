from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from fgsam.comparison.statistics import (
    MAX_SPLITS_EXACT,
    NUM_DRAWS,
    bootstrap_interval,
    effect_size,
    equivalence,
    mean_over_splits,
    paired_test,
    win_tie_loss,
)
from fgsam.comparison.verdict import holm, verdict

HAND = [0.6, 1.1, 0.2, 0.9, 0.7]
"""Mean 0.7, variance 0.46 / 4, so t = 0.7 / sqrt(0.115 / 5) = 4.6156."""


def normal(num_splits: int, seed: int = 0, mean: float = 0.4) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1.0, num_splits)


def brute_force_flips(differences: np.ndarray) -> tuple[float, float]:
    sums = [np.dot(signs, differences) for signs in itertools.product((-1, 1), repeat=len(differences))]
    total = differences.sum()
    return (float(np.mean([s >= total - 1e-9 for s in sums])), float(np.mean([s <= total + 1e-9 for s in sums])))


def test_the_interval_is_that_of_students_t():
    found = mean_over_splits(HAND)
    assert found.mean == pytest.approx(0.7)
    assert found.half_width == pytest.approx(2.776445 * math.sqrt(0.115 / 5))  # t(0.975, 4)
    assert found.num_splits == 5
    low, high = stats.ttest_1samp(HAND, 0.0).confidence_interval(0.9)
    assert mean_over_splits(HAND, level=0.9).half_width == pytest.approx((high - low) / 2)


def test_one_split_has_an_infinite_interval_and_equal_ones_none():
    assert mean_over_splits([3.0]).half_width == math.inf
    assert mean_over_splits([3.0, 3.0]).half_width == 0


def test_t_by_hand():
    found = paired_test(HAND)
    assert (found.kind, found.num_splits, found.mean) == ("t", 5, pytest.approx(0.7))
    assert found.p_value == pytest.approx(2 * stats.t.sf(0.7 / math.sqrt(0.115 / 5), 4))


@pytest.mark.parametrize("num_splits", [2, 5, 10, 40])
def test_t_is_the_one_sample_test_of_scipy(num_splits: int):
    for seed, mean in itertools.product(range(5), (-0.8, 0.0, 0.8)):
        differences = normal(num_splits, seed, mean)
        both, above = paired_test(differences), paired_test(differences, alternative="greater", margin=0.5)
        assert both.p_value == pytest.approx(stats.ttest_1samp(differences, 0.0).pvalue)
        assert above.p_value == pytest.approx(stats.ttest_1samp(differences, -0.5, alternative="greater").pvalue)
        opposite = stats.ttest_1samp(differences, -0.5, alternative="less").pvalue
        assert above.p_below == pytest.approx(min(1.0, 2 * opposite))


@pytest.mark.parametrize("num_splits", [1, 2, 3, 6, 11])
def test_exact_sign_flips_are_those_of_brute_force(num_splits: int):
    for seed in range(4):
        differences = normal(num_splits, seed).round(1)  # rounded, so that patterns tie
        above, below = brute_force_flips(differences)
        found = paired_test(differences, kind="sign_flip")
        assert found.p_value == pytest.approx(min(1.0, 2 * above, 2 * below))
        shifted = paired_test(differences, kind="sign_flip", alternative="greater", margin=0.5)
        assert shifted.p_value == pytest.approx(brute_force_flips(differences + 0.5)[0])


def test_exact_sign_flips_are_those_of_scipy():
    differences = normal(14)
    wanted = stats.permutation_test((differences,), np.sum, permutation_type="samples", n_resamples=2**14).pvalue
    assert paired_test(differences, kind="sign_flip").p_value == pytest.approx(wanted)


def test_drawn_sign_flips_agree_with_exact_ones_and_repeat(monkeypatch: pytest.MonkeyPatch):
    differences = normal(20)
    exact = paired_test(differences, kind="sign_flip").p_value
    monkeypatch.setattr("fgsam.comparison.statistics.MAX_SPLITS_EXACT", 16)
    drawn = paired_test(differences, kind="sign_flip").p_value
    assert drawn != exact
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact / NUM_DRAWS))
    assert drawn == paired_test(differences, kind="sign_flip").p_value
    assert drawn != paired_test(differences, kind="sign_flip", seed=1).p_value


def test_drawn_sign_flips_never_give_zero():
    found = paired_test(np.full(MAX_SPLITS_EXACT + 1, 1.0) + normal(MAX_SPLITS_EXACT + 1) / 100, kind="sign_flip")
    assert found.p_value == 2 / (NUM_DRAWS + 1)


def test_wilcoxon_is_that_of_scipy_and_refused_below_nine_splits():
    differences = normal(12)
    assert paired_test(differences, kind="wilcoxon").p_value == pytest.approx(stats.wilcoxon(differences).pvalue)
    least = paired_test(np.arange(1.0, 10.0), kind="wilcoxon").p_value
    assert least == 2 / 2**9
    assert holm([least] * 7)[0] < 0.05 < holm([2 / 2**8] * 7)[0]
    with pytest.raises(ValueError, match=r"at least 9 class splits .* \(got 5\): it cannot go below p=0.062 there"):
        paired_test(HAND, kind="wilcoxon")
    assert paired_test(np.zeros(9), kind="wilcoxon").p_value == 1


def test_without_spread_the_t_test_is_the_exact_sign_flip():
    assert paired_test([0.3] * 5).p_value == 2 / 2**5
    assert paired_test([0.1 + 0.2, 0.3, 0.3]).p_value == 2 / 2**3  # equal but for rounding
    assert paired_test([0.0] * 5).p_value == 1
    assert paired_test([0.0] * 5, alternative="greater", margin=0.5).p_value == 1 / 2**5


def test_one_split_rejects_nothing():
    for kind, value in itertools.product(("t", "sign_flip"), (7.0, -7.0)):
        assert paired_test([value], kind=kind).p_value == 1
        assert paired_test([value], kind=kind, alternative="greater").p_value >= 0.5
    assert equivalence([0.0]).p_value == 0.5
    assert verdict(paired_test([7.0]), equivalence([7.0])).word == "undecided"


def test_the_sides_of_a_test_change_places_with_the_sign():
    for kind in ("t", "sign_flip", "wilcoxon"):
        found, turned = paired_test(normal(12), kind=kind), paired_test(-normal(12), kind=kind)
        assert (found.p_above, found.p_below) == pytest.approx((turned.p_below, turned.p_above))


def test_equivalence_is_two_one_sided_tests():
    for num_splits, mean in itertools.product((2, 5, 20), (-0.6, 0.0, 0.3)):
        differences = normal(num_splits, mean=mean) / 2
        lower = stats.ttest_1samp(differences, -0.5, alternative="greater").pvalue
        upper = stats.ttest_1samp(differences, 0.5, alternative="less").pvalue
        assert equivalence(differences).p_value == pytest.approx(max(lower, upper))


def test_equivalence_is_the_90_percent_interval_within_the_margin():
    within = 0
    for seed in range(40):
        differences = normal(10, seed, mean=0.1) / 2
        found = mean_over_splits(differences, level=0.9)
        is_within = abs(found.mean) + found.half_width < 0.5
        assert (equivalence(differences).p_value < 0.05) == is_within
        within += is_within
    assert 0 < within < 40


def test_effect_size_and_counts():
    assert effect_size(HAND) == pytest.approx(0.7 / math.sqrt(0.115))
    assert math.isnan(effect_size([1.0]))
    assert [effect_size([value] * 3) for value in (0.0, 1.0, -1.0)] == [0.0, math.inf, -math.inf]
    assert win_tie_loss([0.1, 0.3 - 0.1 - 0.2, -2.0, 5.0]) == (2, 1, 1)


def test_bootstrap_repeats_covers_the_mean_and_is_refused_below_thirty():
    differences = normal(30)
    low, high = bootstrap_interval(differences)
    assert (low, high) == bootstrap_interval(differences)
    assert (low, high) != bootstrap_interval(differences, seed=1)
    interval = mean_over_splits(differences)
    assert (low, high) == pytest.approx(
        (interval.mean - interval.half_width, interval.mean + interval.half_width), abs=0.1
    )
    assert bootstrap_interval([0.25] * 30) == (0.25, 0.25)
    with pytest.raises(ValueError, match=r"at least 30 class splits for a bootstrap \(got 29\)"):
        bootstrap_interval(differences[:29])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: paired_test([]), r"'differences' to have 1 dimensions and a value \(got shape \[0\]\)"),
        (lambda: paired_test([[1.0, 2.0]]), r"\(got shape \[1, 2\]\)"),
        (lambda: paired_test([1.0, math.nan]), r"'differences' to be finite \(got nan at \[1\]\)"),
        (lambda: paired_test(HAND, kind="anova"), r"'kind' to be one of t, sign_flip, wilcoxon \(got 'anova'\)"),
        (lambda: paired_test(HAND, alternative="less"), r"'alternative' to be one of .* \(got 'less'\)"),
        (lambda: paired_test(HAND, margin=-1.0), r"'margin' to be at least 0 \(got margin=-1.0\)"),
        (lambda: paired_test(HAND, margin=0.5), r"'margin' to be 0 for a two-sided test .* alternative='greater'"),
        (lambda: equivalence(HAND, 0.0), r"'margin' to be positive \(got margin=0.0\)"),
        (lambda: mean_over_splits(HAND, level=95), r"'level' to be between 0 and 1, both excluded \(got level=95\)"),
    ],
)
def test_bad_input_is_named(call, message: str):
    with pytest.raises(ValueError, match=message):
        call()
