"""What a number of class splits can show, and where the spread of a difference comes from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import nctdtr, stdtrit

from fgsam.checks import check_count, check_non_negative, check_positive
from fgsam.comparison.statistics import ALPHA, check_between, finite

POWER = 0.8


@dataclass(frozen=True)
class VarianceComponents:
    """Variances of a score or a difference, in squared points.

    Attributes:
        split: Of the class split; with one seed that of split and seed together.
        seed: Of initial weights and training episodes within a split; ``None`` with one seed.
        episode: Of an episode within a split and seed.
        clipped: Names of components whose estimate was negative and is given as 0.
        num_seeds: Seeds that the estimate is made of.
    """

    split: float
    seed: float | None
    episode: float
    clipped: tuple[str, ...]
    num_seeds: int

    def split_sd(self, *, num_seeds: int = 1, num_episodes: int) -> float:
        """Standard deviation over class splits of a mean over seeds and a bank of episodes that they share.

        Args:
            num_seeds: Seeds a split.
            num_episodes: Episodes of the bank.

        Raises:
            ValueError: If a number is not positive, or another number of seeds is asked for than the one that gave
                split and seed together.
        """
        check_count(num_seeds=num_seeds, num_episodes=num_episodes)
        if self.seed is None and num_seeds != 1:
            raise ValueError(
                f"Expected 'num_seeds' to be 1 (got {num_seeds}): these components are of one seed, which cannot tell "
                "seeds from splits. Estimate them from two seeds or more."
            )
        return math.sqrt(self.split + (self.seed or 0.0) / num_seeds + self.episode / num_episodes)


def variance_components(scores: ArrayLike) -> VarianceComponents:
    """Estimate the variances of class split, of seed within split, and of episode, by the method of moments.

    Within a split every seed is tested on the same bank, so its scores are a table of seeds and episodes. What is
    common to an episode under all seeds is told apart from what is common to a seed, and belongs to ``episode``; else
    the estimate for seeds would be too small. With mean squares of split, seed, episode and of what is left::

        episode = rest + (MS_episode - rest) / num_seeds
        seed    = (MS_seed - rest) / num_episodes
        split   = (MS_split - MS_seed - MS_episode + rest) / (num_seeds * num_episodes)

    Unbiased estimates can be negative; such a one is set to 0 and named in ``clipped``. From few splits they are rough:
    with three, the one for splits has two degrees of freedom.

    Args:
        scores: One score, or one difference of paired arms, in points for each test episode, shape
            ``[num_splits, num_seeds, num_episodes]``.

    Raises:
        ValueError: If there are fewer than 2 splits or 2 episodes, or a score is not finite.

    Example:
        >>> variance_components([[[1.0, 3.0]], [[5.0, 7.0]]])
        VarianceComponents(split=7.0, seed=None, episode=2.0, clipped=(), num_seeds=1)

    Source:
        Searle, Casella and McCulloch, Variance Components, 1992, chapter 4.
    """
    table = finite(scores, 3, "scores")
    num_splits, num_seeds, num_episodes = table.shape
    if num_splits < 2 or num_episodes < 2:
        raise ValueError(
            f"Expected at least 2 class splits and 2 episodes (got {num_splits} and {num_episodes}), "
            "in an array [splits, seeds, episodes]"
        )
    by_split = table.mean(axis=(1, 2), keepdims=True)
    by_seed, by_episode = table.mean(axis=2, keepdims=True), table.mean(axis=1, keepdims=True)
    of_split = num_seeds * num_episodes * float(by_split.var(ddof=1))
    of_episode = num_seeds * float(((by_episode - by_split) ** 2).sum()) / (num_splits * (num_episodes - 1))
    if num_seeds == 1:
        found = {"split": (of_split - of_episode) / num_episodes, "episode": of_episode}
    else:
        free = num_splits * (num_seeds - 1)
        of_seed = num_episodes * float(((by_seed - by_split) ** 2).sum()) / free
        rest = float(((table - by_seed - by_episode + by_split) ** 2).sum()) / (free * (num_episodes - 1))
        found = {
            "split": (of_split - of_seed - of_episode + rest) / (num_seeds * num_episodes),
            "seed": (of_seed - rest) / num_episodes,
            "episode": rest + (of_episode - rest) / num_seeds,
        }
    clipped = tuple(name for name, value in found.items() if value < 0)
    kept = {name: max(value, 0.0) for name, value in found.items()}
    return VarianceComponents(kept["split"], kept.get("seed"), kept["episode"], clipped, num_seeds)


def power_of(sd: float, delta: float, num_splits: int, *, alpha: float = ALPHA) -> float:
    """Probability that the two-sided paired t test rejects when the true difference is ``delta``.

    Args:
        sd: Standard deviation of the differences over class splits, in points.
        delta: True mean difference in points; its sign does not matter.
        num_splits: At least 2.
        alpha: Level, between 0 and 1, both excluded.

    Returns:
        Between ``alpha`` and 1, from the noncentral t distribution; without spread 1, or ``alpha`` at no difference.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> print(f"{power_of(sd=1.0, delta=1.0, num_splits=10):.2f}")
        0.80
    """
    _check(sd, num_splits, alpha)
    if not math.isfinite(delta):
        raise ValueError(f"Expected 'delta' to be finite (got delta={delta})")
    if sd == 0:
        return 1.0 if delta else alpha
    return _power(abs(delta) / sd, num_splits, alpha)


def minimum_detectable(sd: float, num_splits: int, *, alpha: float = ALPHA, power: float = POWER) -> float:
    """Smallest true difference that the two-sided paired t test finds with the given power, in points.

    Args:
        sd: Standard deviation of the differences over class splits, in points.
        num_splits: At least 2.
        alpha: Level, between 0 and 1, both excluded.
        power: Probability of finding it, between ``alpha`` and 1, both excluded.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> print(f"{minimum_detectable(sd=1.0, num_splits=20):.2f}")
        0.66
    """
    _check(sd, num_splits, alpha)
    _check_power(power, alpha)
    top = 1.0
    while _power(top, num_splits, alpha) < power:
        top *= 2
    found = brentq(lambda effect: _power(effect, num_splits, alpha) - power, 0.0, top, xtol=1e-10)
    return sd * float(found)


def splits_needed(sd: float, delta: float, *, alpha: float = ALPHA, power: float = POWER) -> int:
    """Smallest number of class splits with which the two-sided paired t test finds a difference with the given power.

    Args:
        sd: Standard deviation of the differences over class splits, in points.
        delta: True mean difference in points, positive.
        alpha: Level, between 0 and 1, both excluded.
        power: Probability of finding it, between ``alpha`` and 1, both excluded.

    Returns:
        At least 2.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> splits_needed(sd=0.8, delta=0.5)
        23
    """
    _check(sd, 2, alpha)
    check_positive(delta=delta)
    _check_power(power, alpha)
    high = 2
    while power_of(sd, delta, high, alpha=alpha) < power:
        high *= 2
    low = max(high // 2, 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(sd, delta, middle, alpha=alpha) >= power else (middle, high)
    return high


def _power(effect: float, num_splits: int, alpha: float) -> float:
    free, shift = num_splits - 1, effect * math.sqrt(num_splits)
    bound = stdtrit(free, 1 - alpha / 2)
    # scipy gives NaN for some probabilities that are as good as 0, far below the mean.
    below, far_below = np.nan_to_num(nctdtr(free, shift, [bound, -bound]))
    return float(np.clip(1 - below + far_below, alpha, 1.0))


def _check(sd: float, num_splits: int, alpha: float) -> None:
    check_non_negative(sd=sd)
    check_count(num_splits=num_splits)
    check_between(alpha=alpha)
    if num_splits < 2 or not math.isfinite(sd):
        raise ValueError(f"Expected a finite 'sd' and at least 2 class splits (got sd={sd}, num_splits={num_splits})")


def _check_power(power: float, alpha: float) -> None:
    if not alpha < power < 1:
        raise ValueError(f"Expected 'power' to be between alpha={alpha} and 1 (got power={power})")
