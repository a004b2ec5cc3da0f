from __future__ import annotations

import math

import pytest
import torch

from fgsam.functional.intervals import mean_interval, share_interval


def test_half_width_is_196_standard_errors():
    scores = torch.tensor([0.2, 0.4, 0.9, 0.5, 0.6])
    mean, half_width = mean_interval(scores)
    assert mean == pytest.approx(0.52)
    assert half_width == pytest.approx(1.959964 * scores.double().std().item() / math.sqrt(5))


def test_a_higher_level_gives_a_wider_interval():
    scores = torch.tensor([0.2, 0.4, 0.9])
    assert mean_interval(scores, 0.99)[1] > mean_interval(scores, 0.9)[1]


def test_interval_covers_the_true_mean_as_often_as_it_says():
    draws = torch.rand(2000, 50, generator=torch.Generator().manual_seed(0))
    hits = [abs(mean - 0.5) <= half for mean, half in map(mean_interval, draws)]
    assert sum(hits) / len(hits) == pytest.approx(0.95, abs=0.015)


def test_a_single_score_has_an_infinite_interval():
    assert mean_interval(torch.tensor([0.5])) == (0.5, math.inf)


def test_no_scores_and_impossible_levels_are_refused():
    with pytest.raises(ValueError, match="at least one score"):
        mean_interval(torch.tensor([]))
    with pytest.raises(ValueError, match=r"'level' to be between 0 and 1 \(got level=95\)"):
        mean_interval(torch.tensor([0.1, 0.2]), level=95)


def test_a_share_has_the_interval_of_its_answers():
    answers = torch.tensor([1.0] * 70 + [0.0] * 30)
    share, half_width = share_interval(70, 100)
    mean, by_answers = mean_interval(answers)
    assert share == pytest.approx(mean)
    assert half_width == pytest.approx(by_answers * math.sqrt(99 / 100))  # the variance of a sample divides by n - 1


@pytest.mark.parametrize(("right", "total"), [(1, 0), (3, 2), (-1, 2)])
def test_a_share_of_nothing_is_refused(right, total):
    with pytest.raises(ValueError, match="at least one answer"):
        share_interval(right, total)
