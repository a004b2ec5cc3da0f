from __future__ import annotations

import math

import numpy as np
import pytest
import scikit_posthocs
from scipy import stats

from fgsam.comparison.ranks import average_ranks, critical_difference


def scores(num_graphs: int, num_arms: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return (generator.normal(size=(num_graphs, num_arms)) + np.arange(num_arms) / 2).round(1)  # rounded: some tie


def test_ranks_by_hand():
    found = average_ranks([[90.0, 80.0, 70.0], [60.0, 60.0, 50.0], [75.0, 70.0, 72.0]])
    assert found.average.tolist() == pytest.approx([3.5 / 3, 6.5 / 3, 8 / 3])
    assert found.average.sum() == pytest.approx(3 * 4 / 2)
    assert found.num_graphs == 3


def test_friedman_is_that_of_scipy():
    table = scores(12, 4)
    wanted = stats.friedmanchisquare(*table.T)
    found = average_ranks(table)
    assert (found.friedman_statistic, found.friedman_p) == pytest.approx((wanted.statistic, wanted.pvalue))
    # From the ranks, without the correction for ties: equation of Demsar, 2006.
    table = np.argsort(np.random.default_rng(1).random((12, 4)), axis=1)
    found = average_ranks(table)
    statistic = 12 * 12 / (4 * 5) * (float((found.average**2).sum()) - 4 * 5**2 / 4)
    assert found.friedman_statistic == pytest.approx(statistic)


@pytest.mark.parametrize(("num_graphs", "num_arms"), [(3, 3), (12, 4), (15, 7)])
def test_nemenyi_is_that_of_scikit_posthocs(num_graphs: int, num_arms: int):
    table = scores(num_graphs, num_arms)
    wanted = scikit_posthocs.posthoc_nemenyi_friedman(table).to_numpy()
    assert average_ranks(table).nemenyi_p == pytest.approx(wanted, abs=1e-6)
    assert wanted.min() < 0.9


def test_arms_further_apart_than_the_critical_difference_are_those_nemenyi_rejects():
    found = average_ranks(scores(14, 5))
    distances = np.abs(found.average[:, None] - found.average)
    rejected = found.nemenyi_p < 0.05
    assert 0 < rejected.sum() < 20
    assert (rejected == (distances > critical_difference(5, 14))).all()


def test_the_critical_difference_has_the_published_quantiles():
    for num_arms, q in {2: 1.960, 3: 2.343, 4: 2.569, 5: 2.728, 10: 3.164}.items():  # Demsar, 2006, table 5
        wanted = q * math.sqrt(num_arms * (num_arms + 1) / (6 * 20))
        assert critical_difference(num_arms, 20) == pytest.approx(wanted, abs=1e-3)
    assert critical_difference(4, 20, alpha=0.01) > critical_difference(4, 20)


def test_arms_that_never_differ_are_alike():
    found = average_ranks(np.ones((4, 3)))
    assert found.average.tolist() == [2.0, 2.0, 2.0]
    assert (found.friedman_statistic, found.friedman_p) == (0.0, 1.0)
    assert found.nemenyi_p == pytest.approx(np.ones((3, 3)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: average_ranks([[1.0, 2.0]] * 5),
            r"at least 3 arms over 2 graphs \(got 2 arms, 5 graphs\).*paired_test",
        ),
        (lambda: average_ranks([[1.0, 2.0, 3.0]]), r"\(got 3 arms, 1 graphs\)"),
        (lambda: average_ranks([[1.0, 2.0, math.nan]] * 2), r"'scores' to be finite \(got nan at \[0, 2\]\)"),
        (lambda: critical_difference(4, 9), r"at least 10 graphs for a critical difference \(got 9\)"),
        (lambda: critical_difference(1, 12), r"'num_arms' to be at least 2 \(got num_arms=1\)"),
        (lambda: critical_difference(4, 12, alpha=5), r"'alpha' to be between 0 and 1"),
    ],
)
def test_bad_input_is_named(call, message: str):
    with pytest.raises(ValueError, match=message):
        call()
