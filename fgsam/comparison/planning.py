"""From a few class splits to the number that a comparison needs, and the hours that it takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import chdtri

from fgsam.checks import check_count, check_positive
from fgsam.comparison.executors.machine import num_workers
from fgsam.comparison.grid import Cell, Grid, Hypothesis
from fgsam.comparison.power import POWER, VarianceComponents, power_of, splits_needed, variance_components
from fgsam.comparison.results import Record, Results
from fgsam.comparison.statistics import Array

PILOT_SPLITS = 3
DELTA = 0.5
"""Points that are worth finding."""
LEVEL = 0.95
"""Coverage of the interval of a standard deviation."""


@dataclass(frozen=True)
class ClaimPlan:
    """What a pilot says of one hypothesis.

    The hypothesis "above" is planned for a true difference of ``delta``, "not below" for arms that are equal in truth.

    Attributes:
        hypothesis: The claim.
        part: Where; None for the mean over all parts.
        num_splits: Class splits of the pilot.
        sd: Standard deviation of the difference over class splits, in points.
        sd_interval: Its 95 % interval.
        components: Where the spread comes from; None where there are no episodes, or not equally many everywhere.
        needed: Class splits if this claim were the only one, at the grid's alpha.
        needed_in_family: Class splits at Holm's strictest level, alpha divided by the number of claims.
        needed_interval: The same at the ends of ``sd_interval``.
        power: Probability that the planned number of splits finds it, at the grid's alpha.
        power_in_family: The same at Holm's strictest level.
        power_interval: The same at the ends of ``sd_interval``, the smaller one first.
    """

    hypothesis: Hypothesis
    part: str | None
    num_splits: int
    sd: float
    sd_interval: tuple[float, float]
    components: VarianceComponents | None
    needed: int
    needed_in_family: int
    needed_interval: tuple[int, int]
    power: float
    power_in_family: float
    power_interval: tuple[float, float]


@dataclass(frozen=True)
class ComparisonPlan:
    """What a comparison will show and take.

    Attributes:
        delta: Points to be found.
        goal: Probability of finding them that is asked for.
        num_splits: Class splits of the grid.
        alpha: Level of the family.
        claims: One entry for each hypothesis, and each part where parts are not pooled.
        num_runs: Runs that are left.
        hours: What they take on this machine: a forecast from the runs that are over, side by side as they were.
        workers: Runs side by side.
    """

    delta: float
    goal: float
    num_splits: int
    alpha: float
    claims: tuple[ClaimPlan, ...]
    num_runs: int
    hours: float
    workers: int

    def __str__(self) -> str:
        family = f"{self.alpha:g}/{len(self.claims)}"
        heads = (
            "",
            "sd (95 %)",
            "by split, seed, episode",
            f"splits at {self.alpha:g}",
            f"splits at {family} (95 %)",
            f"power at {family} (95 %)",
        )
        rows = [heads, *(_row(claim) for claim in self.claims)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        pilot = min(claim.num_splits for claim in self.claims)
        low, high = _sd_interval(1.0, pilot)
        return "\n".join(
            [
                f"To find {self.delta:g} points with {100 * self.goal:.0f} % power; the grid has {self.num_splits} "
                f"class splits, and {pilot} of them are known.",
                "",
                *lines,
                "",
                f"{pilot} splits say little of a standard deviation: the true one may be {low:.1f} to {high:.1f} times "
                "as large, and the columns with (95 %) show what follows.",
                f"Left: {self.num_runs} runs, about {self.hours:.1f} hours with {self.workers} side by side; a "
                "forecast from the runs that are over.",
            ]
        )


def pilot(grid: Grid, num_splits: int = PILOT_SPLITS) -> Grid:
    """Return the part of a grid that a plan is made of: its first class splits.

    Run it in the folder of the grid, where its runs then count as done.

    Args:
        grid: The comparison that is planned.
        num_splits: Class splits of the pilot, at least 2.

    Raises:
        ValueError: If the grid has fewer class splits than that.
    """
    check_count(num_splits=num_splits)
    if not 2 <= num_splits <= len(grid.splits):
        raise ValueError(
            f"Expected a pilot of at least 2 and at most all {len(grid.splits)} class splits of the grid "
            f"(got {num_splits}). Raise 'splits' in the grid."
        )
    return replace(grid, splits=grid.splits[:num_splits])


def plan_comparison(
    results: Results, delta: float = DELTA, *, power: float = POWER, workers: int | None = None
) -> ComparisonPlan:
    """Plan a comparison from the class splits that are finished.

    Args:
        results: Of the whole grid, of which a pilot is finished.
        delta: Points that are worth finding, positive.
        power: Probability of finding them, between alpha and 1.
        workers: Runs side by side; as many as the cores have room for when not given.

    Raises:
        ValueError: If a hypothesis has fewer than two finished class splits, or an argument is out of range.
    """
    check_positive(delta=delta)
    grid = results.grid
    places: list[str | None] = [None] if grid.protocol.pooled else [part.label for part in grid.parts]
    pairs = [(hypothesis, part) for part in places for hypothesis in grid.protocol.hypotheses]
    if not pairs:
        raise ValueError("Expected a grid with a hypothesis (got none). Name one under 'hypotheses'.")
    claims = tuple(_claim(results, hypothesis, part, len(pairs), delta, power) for hypothesis, part in pairs)
    threads = next(iter(grid.jobs.values())).config.run.threads
    workers = num_workers(workers, threads)
    hours = _seconds_left(results) / 3600 / workers
    alpha, num_runs = grid.protocol.alpha, len(results.missing)
    return ComparisonPlan(delta, power, len(grid.splits), alpha, claims, num_runs, hours, workers)


def _claim(
    results: Results, hypothesis: Hypothesis, part: str | None, num_claims: int, delta: float, goal: float
) -> ClaimPlan:
    pair, protocol = (hypothesis.arm, hypothesis.reference), results.grid.protocol
    found = results.pooled_differences(*pair) if part is None else results.differences(part, *pair)
    if len(found) < 2:
        place = "all parts" if part is None else f"'{part}'"
        raise ValueError(
            f"Expected at least 2 finished class splits for '{hypothesis}' on {place} (got {len(found)}). "
            "Run the pilot first, or see why its runs failed."
        )
    sd = float(np.std(list(found.values()), ddof=1))
    interval = _sd_interval(sd, len(found))
    is_one_sided = hypothesis.kind == "not below"
    # A one-sided test has the power of a two-sided one at twice its level, but for what lies far on the other side.
    distance, sides = (protocol.margin, 2) if is_one_sided else (delta, 1)
    alone, in_family = sides * protocol.alpha, sides * protocol.alpha / num_claims
    num_splits = max(2, len(results.grid.splits))

    def needed(sd: float, alpha: float) -> int:
        return splits_needed(sd, distance, alpha=alpha, power=goal)

    def reached(sd: float, alpha: float) -> float:
        return power_of(sd, distance, num_splits, alpha=alpha)

    low, high = interval
    return ClaimPlan(
        hypothesis,
        part,
        len(found),
        sd,
        interval,
        _components(results, hypothesis, part, list(found)),
        needed(sd, alone),
        needed(sd, in_family),
        (needed(low, in_family), needed(high, in_family)),
        reached(sd, alone),
        reached(sd, in_family),
        (reached(high, in_family), reached(low, in_family)),
    )


def _sd_interval(sd: float, num_splits: int) -> tuple[float, float]:
    """The chi-square interval of a standard deviation."""
    free, tail = num_splits - 1, (1 - LEVEL) / 2
    return sd * math.sqrt(free / chdtri(free, tail)), sd * math.sqrt(free / chdtri(free, 1 - tail))


def _components(
    results: Results, hypothesis: Hypothesis, part: str | None, splits: list[int | str]
) -> VarianceComponents | None:
    parts = [found.label for found in results.grid.parts] if part is None else [part]
    tables = [_table(results, hypothesis, label, split) for label in parts for split in splits]
    if len({table.shape for table in tables}) > 1 or tables[0].shape[1] < 2:
        return None
    stacked = np.stack(tables).reshape(len(parts), len(splits), *tables[0].shape)
    return variance_components(stacked.mean(axis=0))


def _table(results: Results, hypothesis: Hypothesis, part: str, split: int | str) -> Array:
    """Differences in points by seed and episode; a floor, which has one seed, stands against every one."""
    arms = (results.chosen[part, arm, split] for arm in (hypothesis.arm, hypothesis.reference))
    first, second = (_episodes(records) for records in arms)
    return first - second


def _episodes(records: Mapping[int, Record]) -> Array:
    return np.stack([records[seed].episodes for seed in sorted(records)])


def _seconds_left(results: Results) -> float:
    """What the missing runs take if they are like those of their arm and part, else of their arm, else any."""
    known: dict[tuple[str, ...], list[float]] = {}
    for cell, record in results.records.items():
        for key in _likenesses(cell):
            known.setdefault(key, []).append(record.timing["seconds"])
    means = {key: float(np.mean(seconds)) for key, seconds in known.items()}
    return sum(next(means[key] for key in _likenesses(cell) if key in means) for cell in results.missing)


def _likenesses(cell: Cell) -> tuple[tuple[str, ...], ...]:
    return (cell.arm, cell.part), (cell.arm,), ()


def _row(claim: ClaimPlan) -> tuple[str, ...]:
    place = "" if claim.part is None else f" ({claim.part})"
    return (
        f"{claim.hypothesis}{place}",
        f"{claim.sd:.2f} ({claim.sd_interval[0]:.2f} to {claim.sd_interval[1]:.2f})",
        "" if claim.components is None else _deviations(claim.components),
        str(claim.needed),
        f"{claim.needed_in_family} ({claim.needed_interval[0]} to {claim.needed_interval[1]})",
        f"{claim.power_in_family:.2f} ({claim.power_interval[0]:.2f} to {claim.power_interval[1]:.2f})",
    )


def _deviations(components: VarianceComponents) -> str:
    variances = (components.split, components.seed, components.episode)
    return ", ".join("-" if variance is None else f"{math.sqrt(variance):.2f}" for variance in variances)
