"""What a training step of each arm takes, and what arms have learned after equal work and equal time.

Runs of a grid share the machine with each other, so their own seconds say little. Here all arms of a part take turns,
step by step, in one process with as many threads as the config says.
"""

from __future__ import annotations

import json
import logging
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fgsam.checks import check_count, check_share
from fgsam.comparison.grid import Cell, Grid, Job, Part
from fgsam.comparison.results import Record, Results
from fgsam.comparison.statistics import SplitMean, mean_over_splits
from fgsam.engine.build import Entries, build_optimizer
from fgsam.engine.config_model import FewShotConfig, RunConfig
from fgsam.engine.inputs import build_inputs
from fgsam.engine.record import RunDirectory, content_hash, fingerprint, make_folder
from fgsam.engine.seeding import own_random_state
from fgsam.engine.setup import Setup, pinned
from fgsam.engine.stopwatch import STAGES, Stopwatch, fair_clock, interleaved, period_of
from fgsam.engine.train import NonFiniteLossError
from fgsam.files import write_atomically
from fgsam.optim.base import Counts

FORMAT = "fgsam-times 1"
FILE = "times.json"

STEPS = 20
"""Steps that are averaged before the median is taken, for rules whose steps differ."""

SHARES = (0.25, 0.5, 1.0)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ArmTime:
    """What a training step of one arm takes on one part; an episode, unless it learns from several at once.

    Attributes:
        part: Label of the part.
        arm: Label of the arm.
        ms: Milliseconds, the median over blocks of 20 steps of their mean; validation is not in it.
        low: Lower quartile of the blocks.
        high: Upper quartile.
        stages: Share of each stage in it, see ``fgsam.engine.stopwatch.STAGES``; empty where work is done on a device.
    """

    part: str
    arm: str
    ms: float
    low: float
    high: float
    stages: Mapping[str, float]


Times = Sequence[ArmTime]
"""What ``measure_times`` found."""


@dataclass(frozen=True)
class BudgetScore:
    """What one arm has learned when it has used up a budget that all arms have.

    Attributes:
        part: Label of the part.
        arm: Label of the arm.
        share: The budget, as a share of the largest that every arm has used up.
        budget: The same in gradient evaluations, or in seconds of training.
        val_accuracy: Best validation accuracy so far in percent, the mean over class splits; None where some run has
            not been validated by then.
    """

    part: str
    arm: str
    share: float
    budget: float
    val_accuracy: SplitMean | None


def measure_times(
    grid: Grid, *, num_blocks: int = 10, on_part: Callable[[Part], None] = lambda part: None
) -> tuple[ArmTime, ...]:
    """Time the training steps of all trained arms, those of one part in turns.

    Each arm trains from its initial weights on the first class split with the first seed and the first candidate. The
    first 20 steps warm up and do not count. An arm whose training diverges is left out, with a warning.

    Args:
        grid: What to time; nothing is tested or stored.
        num_blocks: Blocks of 20 steps that count, at least 2.
        on_part: Told of every part before it is timed.

    Returns:
        One entry for each part and trained arm, in the order of the grid.

    Raises:
        ValueError: If there are fewer than 2 blocks, or something does not fit a graph.
    """
    check_count(num_blocks=num_blocks)
    if num_blocks < 2:
        raise ValueError(f"Expected 'num_blocks' to be at least 2, for quartiles (got num_blocks={num_blocks})")
    found: list[ArmTime] = []
    for part in grid.parts:
        on_part(part)
        found += _times_of_part(grid, part.label, num_blocks)
    return tuple(found)


def write_times(folder: Path, times: Times) -> None:
    """Write ``times.json`` into the folder of a study, in place of an earlier one.

    Raises:
        OSError: If it cannot be written.
    """
    machine = {name: value for name, value in fingerprint().items() if name != "threads"}  # these are the config's
    content = {"format": FORMAT, "machine": machine, "times": [asdict(time) for time in times]}
    make_folder(folder)
    text = json.dumps({**content, "digest": content_hash(content)}, indent=1) + "\n"
    write_atomically(folder / FILE, text.encode())


def read_times(folder: Path) -> tuple[ArmTime, ...]:
    """Read the times of a study; nothing where they were not measured.

    Raises:
        ValueError: If the file is damaged, or of another version.
    """
    path = folder / FILE
    if not path.is_file():
        return ()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        digest, version = content.pop("digest"), content["format"]
        times = tuple(ArmTime(**time) for time in content["times"])
        is_whole = digest == content_hash(content) and version == FORMAT
    except (ValueError, KeyError, TypeError, AttributeError):
        is_whole = False
    if not is_whole:
        raise ValueError(
            f"Expected {path} to hold times in the format '{FORMAT}' (it is damaged, or of another version). "
            "Delete it, and measure again."
        )
    return times


def gradients_per_step(config: RunConfig, objects: Mapping[str, Any], num_queries: int) -> float:
    """Count the gradient evaluations of a training step, the mean over a period of the rule.

    A gradient of the GNN, one of the peer and a product of the Hessian count alike, and so does a forward pass without
    gradient. The inner steps of learners that adapt are not counted. A rule that goes by what it meets counts with its
    longest step.

    Args:
        config: Names the rule and its options.
        objects: What stands in place of what the config names.
        num_queries: Queries of a batch, which some rules divide.
    """
    entries = Entries.load(config, **{part: value for part, value in objects.items() if part != "graph"})
    rule = build_optimizer(config, nn.Linear(2, 2), entries)
    longest, shortest = (_evaluations(counts) for counts in rule.counts(num_queries))
    period = period_of(rule, num_queries)
    mean = longest if period is None else (longest + (period - 1) * shortest) / period
    return mean * config.train.batches_per_step


def accuracy_at_equal_gradients(results: Results, shares: Sequence[float] = SHARES) -> tuple[BudgetScore, ...]:
    """Compare the trained arms after equally many gradient evaluations, by their validation accuracy.

    The largest budget of a part is one that every arm has used up in its longest training. A run that has stopped
    before, because validation no longer improved, keeps its best score. See :func:`gradients_per_step` for what counts.

    Args:
        results: Finished runs; their logs are read.
        shares: Budgets as shares of the largest one, above 0 and at most 1.

    Returns:
        For each part one entry for each share and arm with finished runs whose rule says what it takes.

    Raises:
        ValueError: If a share is out of range.
    """
    prices: dict[tuple[str, str, int], float | None] = {}
    told: set[str] = set()

    def price(part: str, arm: str, record: Record) -> float | None:
        key = part, arm, record.cell.trial
        if key not in prices:
            prices[key] = _price(results.grid, record)
        if prices[key] is None and arm not in told:
            told.add(arm)
            logger.warning("Gradients of '%s' are not counted: its rule wants more than a plain module", arm)
        return prices[key]

    return _at_equal_budgets(results, price, shares)


def accuracy_at_equal_seconds(
    results: Results, times: Times, shares: Sequence[float] = SHARES
) -> tuple[BudgetScore, ...]:
    """Compare the trained arms after equal time, by their validation accuracy.

    The time of a run is its number of steps times the measured time of one; validation is not in it. Otherwise as
    :func:`accuracy_at_equal_gradients`.

    Args:
        results: Finished runs; their logs are read.
        times: What ``measure_times`` found; arms without a time are left out.
        shares: Budgets as shares of the largest one, above 0 and at most 1.

    Raises:
        ValueError: If a share is out of range.
    """
    seconds = {(time.part, time.arm): time.ms / 1e3 for time in times}

    def price(part: str, arm: str, record: Record) -> float | None:
        return seconds.get((part, arm))

    return _at_equal_budgets(results, price, shares)


_Price = Callable[[str, str, Record], float | None]
"""What a step costs in a run of a part and an arm; None where that is not known."""


class _Runner:
    """One arm that takes a step at a time."""

    def __init__(self, label: str, setup: Setup, clock: Callable[[], float]) -> None:
        self.label = label
        self.watch = Stopwatch(setup.task, clock)
        self.trainer = replace(setup, task=self.watch).trainer()
        self.step = 0
        self.stages: dict[str, float] = defaultdict(float)
        self.error: NonFiniteLossError | None = None

    def __call__(self) -> None:
        if self.error is not None:
            return
        self.step += 1
        try:
            with self.watch.whole():
                self.trainer.learn(self.step)
        except NonFiniteLossError as error:
            self.error = error
        if self.step > STEPS:
            for stage, seconds in self.watch.seconds.items():
                self.stages[stage] += seconds

    def time(self, part: str, steps: Sequence[float], *, has_stages: bool) -> ArmTime:
        blocks = [statistics.mean(steps[i : i + STEPS]) for i in range(0, len(steps), STEPS)]
        low, median, high = statistics.quantiles(blocks, n=4, method="inclusive")
        total = sum(self.stages.values())
        shares = {stage: self.stages[stage] / total for stage in STAGES} if has_stages else {}
        return ArmTime(part, self.label, median, low, high, shares)


def _times_of_part(grid: Grid, part: str, num_blocks: int) -> list[ArmTime]:
    jobs = {arm.label: _first_job(grid, part, arm.label) for arm in grid.arms if arm.is_trained}
    if not jobs:
        return []
    first = next(iter(jobs.values())).config
    with pinned(first), own_random_state(torch.device(first.run.device)):
        device = torch.device(first.run.device)
        runners = [_Runner(label, _setup(job), fair_clock(device)) for label, job in jobs.items()]
        rounds = num_blocks * STEPS
        found = interleaved({runner: runner for runner in runners}, device=device, rounds=rounds, warm_up=STEPS)
    for runner in runners:
        if runner.error is not None:
            logger.warning("No time of '%s' on '%s': %s", runner.label, part, runner.error)
    is_host = device.type == "cpu"
    return [runner.time(part, found[runner], has_stages=is_host) for runner in runners if runner.error is None]


def _setup(job: Job) -> Setup:
    objects = dict(job.objects)
    data = build_inputs(job.config, objects.pop("graph", None))
    return Setup.of(job.config, data, Entries.load(job.config, **objects))


def _first_job(grid: Grid, part: str, arm: str) -> Job:
    return grid.job(Cell(grid.splits[0], part, arm, grid.seeds[0], 0), root=".")


def _evaluations(counts: Counts) -> int:
    return max(counts.forwards, counts.backwards) + counts.peer + counts.products


def _price(grid: Grid, record: Record) -> float | None:
    """Gradient evaluations of a step of a run; a batch of nodes is taken to be large.

    None for a rule of the user's that cannot be made for a plain module: it may look for parts of the method.
    """
    job = grid.job(record.cell, root=".")
    num_queries = record.results.get("num_queries", 10**6)
    is_episode = isinstance(job.config, FewShotConfig) and isinstance(num_queries, int)
    try:
        return gradients_per_step(job.config, job.objects, num_queries if is_episode else 10**6)
    except Exception as error:  # a user's rule may fail in any way
        logger.debug("No gradients of '%s' are counted: %s", record.cell.arm, error)
        return None


def _at_equal_budgets(results: Results, price: _Price, shares: Sequence[float]) -> tuple[BudgetScore, ...]:
    for share in shares:
        check_share(share=share)
    scores = []
    for part in results.grid.parts:
        curves = {arm.label: _curves(results, part.label, arm.label, price) for arm in results.grid.arms}
        curves = {label: found for label, found in curves.items() if found}
        if not curves:
            continue
        most = min(max(curve.most for split in found for curve in split) for found in curves.values())
        for share in shares:
            for label, found in curves.items():
                means = [_mean([curve.best(share * most) for curve in split]) for split in found]
                known = [mean for mean in means if mean is not None]
                score = mean_over_splits(known) if len(known) == len(means) else None
                scores.append(BudgetScore(part.label, label, share, share * most, score))
    return tuple(scores)


@dataclass(frozen=True)
class _Curve:
    """Validations of one run: what had been spent, what weights were chosen by, and the accuracy in percent."""

    looks: tuple[tuple[float, float, float], ...]
    most: float

    def best(self, budget: float) -> float | None:
        """Accuracy of the best weights so far; None before the first validation."""
        # A budget is a product of numbers that were divided before.
        known = [(score, -spent, accuracy) for spent, score, accuracy in self.looks if spent <= budget * (1 + 1e-9)]
        return max(known)[2] if known else None


def _curves(results: Results, part: str, arm: str, price: _Price) -> list[list[_Curve]]:
    """The runs of a trained arm, by class split and seed; splits whose price or log is missing are left out."""
    if not results.grid.arm(arm).is_trained:
        return []
    found = []
    for split in results.grid.splits:
        records = results.chosen.get((part, arm, split), {}).values()
        curves = [_curve(record, price(part, arm, record) if _has_log(record) else None) for record in records]
        if curves and all(curve.looks for curve in curves):
            found.append(curves)
    return found


def _has_log(record: Record) -> bool:
    """Tell whether there is one: runs that came from another machine may have none."""
    return RunDirectory(record.directory).log.is_file()


def _curve(record: Record, price: float | None) -> _Curve:
    if price is None:
        return _Curve((), 0.0)
    path = RunDirectory(record.directory).log
    metric = f"val_{record.results.get('metric', 'accuracy')}"
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    looks = [(line["step"] * price, line[metric], 100 * line["val_accuracy"]) for line in lines if metric in line]
    return _Curve(tuple(looks), max((spent for spent, _, _ in looks), default=0.0))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.mean(known) if len(known) == len(values) else None
