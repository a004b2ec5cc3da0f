"""How often the statistics of a comparison err, on differences that are made up of split, seed and episode.

Nothing here is a result of a learner. The true mean difference is zero, so every rejection is an error and every
interval without zero has missed.

    python -m benchmarks simulation --out docs/results
    python -m benchmarks simulation --quick
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats
from scipy.special import stdtr

from benchmarks.harness import command_line
from benchmarks.study import publish
from fgsam.comparison.power import minimum_detectable
from fgsam.comparison.statistics import (
    ALPHA,
    MARGIN,
    MIN_SPLITS_BOOTSTRAP,
    Array,
    equivalence,
    mean_over_splits,
    paired_test,
)
from fgsam.comparison.verdict import verdict

SEED_SD, EPISODE_SD = 0.5, 3.0
"""Points."""
NUM_SEEDS, NUM_EPISODES = 4, 600
RATIOS = (0.5, 1.0, 2.0)
"""Variance of the split over that of the seed."""
NUM_SPLITS = (5, 10, 20)
BOOTSTRAP_SPLITS = (5, 10, 20, 30, 50)
NUM_RESAMPLES = 1000
FEWER = 10
"""The bootstrap and the verdicts have one trial for so many of the others."""
TRUE_MEANS = (0.0, 0.25, 0.5, 1.0)
"""Points, in the table of verdicts."""
VERDICT_SD = 0.5
MOST_REJECTIONS, COVERAGE_ERROR = 0.055, 0.01
"""What the t test and its interval must keep under the normal model."""

_LOGNORMAL_SD = math.sqrt((math.e - 1) * math.e)
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]
SHAPES: dict[str, Draw] = {
    "normal": lambda generator, shape: generator.standard_normal(shape),
    "exponential": lambda generator, shape: generator.standard_exponential(shape) - 1,
    "lognormal": lambda generator, shape: (np.exp(generator.standard_normal(shape)) - math.exp(0.5)) / _LOGNORMAL_SD,
}
"""Effects of a split, of mean 0 and variance 1; the second has skewness 2, the third 6.2."""
CELLS = [
    *itertools.product(["normal"], RATIOS, NUM_SPLITS),
    *itertools.product(["exponential", "lognormal"], RATIOS[-1:], NUM_SPLITS),
]


@dataclass(frozen=True)
class Errors:
    """Shares of trials."""

    rejected: float
    above: float
    below: float
    covered: float
    flipped: float
    by_seed: float
    by_episode: float


def main() -> int:
    """Simulate, write the page, and return 1 if the reported test or interval is out of bounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for statistics.md")
    parser.add_argument("--trials", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="200 trials, which show nothing but that it runs")
    arguments = parser.parse_args()
    trials = arguments.trials = 200 if arguments.quick else arguments.trials
    few, generator = trials // FEWER, np.random.default_rng(arguments.seed)
    found = {cell: errors(*cell, trials, generator) for cell in CELLS}
    bootstrap = {num_splits: bootstrap_coverage(num_splits, few, generator) for num_splits in BOOTSTRAP_SPLITS}
    words = {cell: words_of(*cell, few, generator) for cell in itertools.product(TRUE_MEANS, NUM_SPLITS)}
    within = keeps_bounds(found)
    publish(page_of(found, bootstrap, words, arguments, within), arguments.out, "statistics.md")
    return 0 if within or arguments.quick else 1


def errors(shape: str, ratio: float, num_splits: int, trials: int, generator: np.random.Generator) -> Errors:
    """Run every test on nulls of one model.

    Episodes are not drawn one by one: of normal ones the mean and the sum of squares about it are drawn, which have the
    same distribution.
    """
    split = math.sqrt(ratio) * SEED_SD * SHAPES[shape](generator, (trials, num_splits, 1))
    noise_sd = math.hypot(SEED_SD, EPISODE_SD / math.sqrt(NUM_EPISODES))
    by_seed = split + noise_sd * generator.standard_normal((trials, num_splits, NUM_SEEDS))
    num_means = num_splits * NUM_SEEDS
    inner_squares = EPISODE_SD**2 * generator.chisquare(num_means * (NUM_EPISODES - 1), trials)

    by_split = by_seed.mean(axis=2)
    tests = [paired_test(differences) for differences in by_split]
    rejects = np.array([test.p_value < ALPHA for test in tests])
    is_above = np.array([test.mean > 0 for test in tests])
    covers = [abs(own.mean) <= own.half_width for own in map(mean_over_splits, by_split)]
    flips = [paired_test(differences, kind="sign_flip").p_value < ALPHA for differences in by_split]

    means = by_seed.reshape(trials, num_means)
    squares = means.var(axis=1) * num_means
    wrong = [_rejected(means.mean(axis=1), squares, num_means)]
    episodes = num_means * NUM_EPISODES
    wrong.append(_rejected(means.mean(axis=1), NUM_EPISODES * squares + inner_squares, episodes))
    return Errors(
        float(rejects.mean()),
        float((rejects & is_above).mean()),
        float((rejects & ~is_above).mean()),
        float(np.mean(covers)),
        float(np.mean(flips)),
        *wrong,
    )


def _rejected(means: Array, squares: Array, num_units: int) -> float:
    """Share of trials that a t test with the given units rejects."""
    t = means / np.sqrt(squares / (num_units - 1) / num_units)
    return float((2 * stdtr(num_units - 1, -np.abs(t)) < ALPHA).mean())


def bootstrap_coverage(num_splits: int, trials: int, generator: np.random.Generator) -> float:
    """Share of bootstrap intervals of normal differences that hold the true mean, for a number of splits."""
    covered = 0
    for differences in generator.standard_normal((trials, num_splits)):
        found = stats.bootstrap((differences,), np.mean, n_resamples=NUM_RESAMPLES, rng=generator)
        covered += found.confidence_interval.low <= 0 <= found.confidence_interval.high
    return covered / trials


def words_of(true_mean: float, num_splits: int, trials: int, generator: np.random.Generator) -> dict[str, float]:
    """Share of each verdict on "A above B", alone in its family."""
    counts = dict.fromkeys(("holds", "contradicted", "equivalent", "undecided"), 0)
    for differences in true_mean + VERDICT_SD * generator.standard_normal((trials, num_splits)):
        counts[verdict(paired_test(differences), equivalence(differences)).word] += 1
    return {word: count / trials for word, count in counts.items()}


def keeps_bounds(found: dict[tuple[str, float, int], Errors]) -> bool:
    """Whether the t test over splits and its interval err as seldom as they say, under the normal model."""
    normal = [own for (shape, *_), own in found.items() if shape == "normal"]
    return all(own.rejected <= MOST_REJECTIONS and abs(own.covered - 0.95) <= COVERAGE_ERROR + 1e-12 for own in normal)


def page_of(
    found: dict[tuple[str, float, int], Errors],
    bootstrap: dict[int, float],
    words: dict[tuple[float, int], dict[str, float]],
    arguments: argparse.Namespace,
    within: bool,
) -> str:
    """The page of results."""
    normal = {cell[1:]: own for cell, own in found.items() if cell[0] == "normal"}
    skewed = {cell: own for cell, own in found.items() if cell[0] != "normal"}
    trials, few = arguments.trials, arguments.trials // FEWER
    error = 100 * 1.96 * math.sqrt(0.05 * 0.95 / trials)
    least, most = 95 - 100 * COVERAGE_ERROR, 95 + 100 * COVERAGE_ERROR
    shown = ", ".join(
        f"{minimum_detectable(VERDICT_SD, number):.2f} points at {number} splits" for number in NUM_SPLITS
    )
    answer = "yes" if within else "no"
    parts = [
        f"""# How often the statistics err

```
{command_line()}
```

Differences between two arms are simulated as effects of the class split, of the seed within it and of the episode. The
true mean difference is zero: every rejection at 5 % is an error, every 95 % interval without zero has missed. Seeds
have a standard deviation of {SEED_SD} points, episodes of {EPISODE_SD:g}; a split has {NUM_SEEDS} seeds,
a seed {NUM_EPISODES} episodes. The ratio is the variance of splits over that of seeds.
{trials} trials a row, seed {arguments.seed}: a share near 5 % is known to within {error:.1f} points.

## The reported test, and units that are not units

The reported test is the t test over class splits (`paired_test`, `mean_over_splits`). Rejections of at most
{100 * MOST_REJECTIONS:.1f} % and a coverage of {least:.0f} to {most:.0f} % in every row: **{answer}**.
Beside it the sign flip, and the same t test with each seed of each split as a unit, or each episode.
""",
        "| ratio | splits | t over splits | coverage | sign flip | split x seed as units | episodes as units |",
        "|---|---|---|---|---|---|---|",
    ]
    for (ratio, num_splits), own in normal.items():
        shares = (own.rejected, own.covered, own.flipped, own.by_seed, own.by_episode)
        parts.append(f"| {ratio:g} | {num_splits} | {_percents(shares)} |")
    parts += [
        """
At 5 splits the sign flip has 32 patterns and cannot go below p = 0.0625: it never rejects there.

## Skewed effects of the split

Splits are exponential (skewness 2) or lognormal (skewness 6.2), with mean zero; seeds and episodes stay normal. "Above"
and "below" divide the rejections of the t test by their side: where the long tail is on the right, most samples lack
it, and their mean and their spread are too small. The sign flip, which needs symmetry, is no remedy.
""",
        "| splits are | ratio | splits | t over splits | above | below | coverage | sign flip |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (shape, ratio, num_splits), own in skewed.items():
        shares = (own.rejected, own.above, own.below, own.covered, own.flipped)
        parts.append(f"| {shape} | {ratio:g} | {num_splits} | {_percents(shares)} |")
    parts += [
        f"""
## Bootstrap

Coverage of the 95 % bootstrap interval (BCa, {NUM_RESAMPLES} resamples) of normal differences, {few} trials a row.
`bootstrap_interval` refuses fewer than {MIN_SPLITS_BOOTSTRAP} splits.
""",
        "| splits | coverage |",
        "|---|---|",
        *(f"| {num_splits} | {_percents([share])} |" for num_splits, share in bootstrap.items()),
        f"""
## Verdicts on "A above B"

Share of each verdict when the true difference is the one on the left, in points, and the differences have a standard
deviation of {VERDICT_SD} points over splits; one hypothesis, equivalence within {MARGIN} points, {few} trials a row.
The smallest difference found with 80 % power is {shown}.
""",
        "| true difference | splits | holds | contradicted | equivalent | undecided |",
        "|---|---|---|---|---|---|",
    ]
    for (true_mean, num_splits), counted in words.items():
        parts.append(f"| {true_mean:g} | {num_splits} | {_percents(counted.values())} |")
    return "\n".join(parts) + "\n"


def _percents(shares: Iterable[float]) -> str:
    return " | ".join(f"{100 * share:.1f} %" for share in shares)


if __name__ == "__main__":
    raise SystemExit(main())
