from __future__ import annotations

import math

import numpy as np
import pytest

from fgsam.comparison.power import minimum_detectable, power_of, splits_needed, variance_components
from fgsam.comparison.statistics import paired_test


def nested(split_sd: float, seed_sd: float, episode_sd: float, shape: tuple[int, int, int], seed: int = 0):
    """Scores with an effect of each split, of each seed within it, and of each score; episodes are not shared."""
    generator = np.random.default_rng(seed)
    num_splits, num_seeds, _ = shape
    effects = split_sd * generator.normal(size=(num_splits, 1, 1))
    return (
        effects
        + seed_sd * generator.normal(size=(num_splits, num_seeds, 1))
        + episode_sd * generator.normal(size=shape)
    )


@pytest.mark.parametrize(("num_splits", "effect"), [(5, 1.682), (10, 0.996), (20, 0.660)])
def test_the_smallest_difference_that_splits_can_show(num_splits: int, effect: float):
    assert minimum_detectable(1.0, num_splits) == pytest.approx(effect, abs=5e-4)
    assert minimum_detectable(2.5, num_splits) == pytest.approx(2.5 * minimum_detectable(1.0, num_splits))
    assert power_of(1.0, minimum_detectable(1.0, num_splits), num_splits) == pytest.approx(0.8)


def test_power_is_the_share_of_tests_that_reject():
    draws = np.random.default_rng(0).normal(0.5, 0.8, (4000, 10))
    rejected = np.mean([paired_test(differences).p_value < 0.05 for differences in draws])
    assert rejected == pytest.approx(power_of(0.8, 0.5, 10), abs=4 * math.sqrt(0.25 / 4000))


def test_power_at_the_ends():
    assert power_of(1.0, 0.0, 10) == pytest.approx(0.05)
    assert power_of(1.0, 0.0, 10, alpha=0.01) == pytest.approx(0.01)
    assert power_of(1.0, -0.7, 10) == power_of(1.0, 0.7, 10)
    assert (power_of(0.0, 0.1, 2), power_of(0.0, 0.0, 2)) == (1.0, 0.05)
    for num_splits in (2, 3, 5, 20, 100):
        rising = [power_of(1.0, delta, num_splits) for delta in np.geomspace(1e-3, 1e4, 200)]
        assert np.diff(rising).min() >= -1e-12
        assert rising[-1] == pytest.approx(1.0)


@pytest.mark.parametrize(("sd", "delta"), [(0.3, 0.5), (0.8, 0.5), (2.0, 0.25), (1e-6, 1.0), (0.0, 1.0)])
def test_one_split_less_than_needed_is_not_enough(sd: float, delta: float):
    needed = splits_needed(sd, delta)
    assert power_of(sd, delta, needed) >= 0.8
    assert needed == 2 or power_of(sd, delta, needed - 1) < 0.8


def test_splits_needed_turns_the_smallest_difference_round():
    for num_splits in (3, 5, 10, 20, 64):
        assert splits_needed(1.0, minimum_detectable(1.0, num_splits) * (1 + 1e-9)) == num_splits


def test_components_by_hand():
    # One seed: splits 2 and 6 with episodes 1 away. MS_split = 2 * 8 = 16, MS_episode = 2, (16 - 2) / 2 = 7.
    found = variance_components([[[1.0, 3.0]], [[5.0, 7.0]]])
    assert (found.split, found.seed, found.episode, found.clipped) == (7.0, None, 2.0, ())
    # Two seeds a split, 2 apart, one common episode effect of 4 apart, nothing left over:
    # MS_seed = 2 * 2 = 4, MS_episode = 2 * 8 = 16, splits 10 apart: MS_split = 4 * 50 = 200.
    split = np.array([[0.0, 4.0], [2.0, 6.0]])
    found = variance_components([split, split + 10])
    assert (found.split, found.seed, found.episode) == pytest.approx(((200 - 4 - 16) / 4, 4 / 2, 16 / 2))


def test_components_are_found_again():
    found = variance_components(nested(1.5, 0.8, 3.0, (4000, 4, 20)))
    assert found.split == pytest.approx(2.25, rel=0.07)
    assert found.seed == pytest.approx(0.64, rel=0.07)
    assert found.episode == pytest.approx(9.0, rel=0.02)
    assert found.clipped == ()


def test_an_episode_that_all_seeds_share_does_not_hide_their_variance():
    shape = (4000, 3, 8)
    shared = 3.0 * np.random.default_rng(1).normal(size=(4000, 1, 8))
    found = variance_components(nested(1.5, 0.8, 1.0, shape) + shared)
    assert found.split == pytest.approx(2.25, rel=0.15)
    assert found.seed == pytest.approx(0.64, rel=0.07)
    assert found.episode == pytest.approx(10.0, rel=0.03)


def test_the_spread_of_split_means_is_predicted():
    scores = nested(1.0, 1.5, 3.0, (4000, 1, 20))
    found = variance_components(scores)
    assert found.split_sd(num_episodes=20) == pytest.approx(float(scores.mean(axis=(1, 2)).std(ddof=1)))
    many = variance_components(nested(1.0, 1.5, 3.0, (4000, 4, 20)))
    wanted = math.sqrt(1 + 2.25 / 2 + 9 / 100)
    assert many.split_sd(num_seeds=2, num_episodes=100) == pytest.approx(wanted, rel=0.05)
    with pytest.raises(ValueError, match=r"'num_seeds' to be 1 \(got 2\): these components are of one seed"):
        found.split_sd(num_seeds=2, num_episodes=100)


def test_negative_estimates_are_zero_and_named():
    found = variance_components([[[0.0, 1.0], [2.0, 3.0]]] * 2)  # MS_seed 4, MS_episode 1, the others 0
    assert (found.split, found.seed, found.episode, found.clipped) == (0.0, 2.0, 0.5, ("split",))
    found = variance_components([[[0.0, 1.0], [1.0, 0.0]]] * 2)  # what is left over 1, the others 0
    assert (found.split, found.seed, found.episode, found.clipped) == (0.25, 0.0, 0.5, ("seed",))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: variance_components(np.zeros((1, 2, 5))), r"at least 2 class splits and 2 episodes \(got 1 and 5\)"),
        (lambda: variance_components(np.zeros((5, 2, 1))), r"\(got 5 and 1\)"),
        (lambda: variance_components(np.zeros((5, 2))), r"'scores' to have 3 dimensions .* \(got shape \[5, 2\]\)"),
        (lambda: power_of(-1.0, 0.5, 5), r"'sd' to be at least 0 \(got sd=-1.0\)"),
        (lambda: power_of(1.0, math.inf, 5), r"'delta' to be finite \(got delta=inf\)"),
        (lambda: power_of(1.0, 0.5, 1), r"at least 2 class splits \(got sd=1.0, num_splits=1\)"),
        (lambda: minimum_detectable(1.0, 5, power=0.01), r"'power' to be between alpha=0.05 and 1 \(got power=0.01\)"),
        (lambda: minimum_detectable(1.0, 5, alpha=1.0), r"'alpha' to be between 0 and 1"),
        (lambda: splits_needed(1.0, 0.0), r"'delta' to be positive \(got delta=0.0\)"),
        (lambda: splits_needed(math.inf, 1.0), r"a finite 'sd'"),
    ],
)
def test_bad_input_is_named(call, message: str):
    with pytest.raises(ValueError, match=message):
        call()
