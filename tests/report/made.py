"""Results without runs: records made of numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from fgsam.comparison.grid import Arm, Cell, Grid, Hypothesis, Part, Protocol
from fgsam.comparison.results import Record, Results

NUM_EPISODES = 4
CANDIDATES = ({"optimizer.lr": 0.01}, {"optimizer.lr": 0.1})

Score = Callable[[int, str, str, int, int], float]
"""Accuracy in percent of a class split, a part, an arm, a seed and a trial."""


def made_results(
    score: Score,
    *,
    arms: Sequence[str] = ("gpn/adam", "gpn/sam", "raw_lr"),
    parts: Sequence[Part] = (Part("cora", "cora"),),
    splits: int = 3,
    seeds: int = 1,
    candidates: Sequence[Mapping[str, object]] = ({},),
    hypotheses: Sequence[Hypothesis] = (Hypothesis("gpn/sam", "gpn/adam"),),
    failed: Mapping[Cell, str] | None = None,
    missing: Sequence[Cell] = (),
    folder: Path = Path("runs"),
    task: str = "few_shot",
    **protocol: object,
) -> Results:
    """The best validation accuracy is that of the last trial; arms without a slash are floors."""
    made = [
        Arm(label, {}, tuple(candidates) if "/" in label else ({},), is_trained="/" in label, line=line)
        for line, label in enumerate(arms)
    ]
    rules = Protocol(tuple(hypotheses), arms[0], **protocol)  # type: ignore[arg-type]
    grid = Grid("Made", tuple(parts), tuple(made), tuple(range(splits)), tuple(range(seeds)), rules, {})
    failed = failed or {}
    records = {}
    for cell in grid.cells():
        if cell not in failed and cell not in missing:
            accuracy = score(int(cell.split), cell.part, cell.arm, cell.seed, cell.trial)
            records[cell] = _record(cell, accuracy, folder, task)
    return Results(grid, records, dict(failed), tuple(missing))


def _record(cell: Cell, accuracy: float, folder: Path, task: str) -> Record:
    name = f"{cell.part}-{cell.arm}-{cell.split}-{cell.seed}-{cell.trial}".replace("/", "-").replace(" ", "")
    spread = np.arange(NUM_EPISODES) - (NUM_EPISODES - 1) / 2
    return Record(
        cell=cell,
        directory=folder / "runs" / name,
        accuracy=accuracy,
        val_accuracy=50.0 + cell.trial,
        episodes=accuracy + spread,
        config={} if task == "few_shot" else {"task": task},
        results={"test_interval": 0.02, "results_version": 1, "digests": {}},
        timing={"seconds": 1.0},
        versions={"fgsam": "0.1.0", "torch": "2.13.0", "torch-geometric": "2.8.1"},
    )
