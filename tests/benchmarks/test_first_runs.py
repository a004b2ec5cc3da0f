"""The quick form of the first runs, and their page."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.first_runs import FLOORS, METHODS, OPTIMIZERS, SETTINGS
from benchmarks.first_runs_report import write_report
from tests.benchmarks.measure import Measure


def row_of(
    split: int, method: str, optimizer: str, setting: str, accuracy: float, val_accuracy: float
) -> dict[str, Any]:
    return {
        **{"task": "graph 5-way", "split": split, "method": method, "optimizer": optimizer, "setting": setting},
        **{"accuracy": accuracy, "val_accuracy": val_accuracy, "correct": [1, 2], "seconds": 1.0, "num_episodes": 50},
    }


@pytest.mark.slow
def test_first_runs_keeps_a_journal_and_writes_every_episode(measure: Measure, tmp_path: Path):
    runs = ("first_runs", "--quick", "--runs", str(tmp_path / "runs"))
    measure(*runs)
    measure(*runs, "--only-finished", "--out", str(tmp_path / "out"))
    assert "## quick" in (tmp_path / "out" / "first_runs.md").read_text(encoding="utf-8")
    scores = np.load(tmp_path / "out" / "first_runs.npz")
    assert len(scores["runs"]) == len(FLOORS) + len(METHODS) * len(OPTIMIZERS)
    assert scores["correct"].shape == (len(scores["runs"]), 50)


def test_first_runs_page_pairs_by_split_and_chooses_on_validation(tmp_path: Path):
    rows = []
    for split in (0, 1):
        rows += [row_of(split, floor, "-", "tuned", 0.50 + 0.1 * split, 0.5) for floor in FLOORS]
        for setting, method, optimizer in itertools.product(SETTINGS, METHODS, OPTIMIZERS):
            is_best = setting == ("published", "wide")[split]  # on split 1 another setting looks better
            accuracy = 0.60 + 0.1 * split + 0.02 * (setting == "wide") + 0.01 * (optimizer == "sam")
            rows.append(row_of(split, method, optimizer, setting, accuracy, 0.7 if is_best else 0.6))
    write_report(rows, tmp_path)
    lines = (tmp_path / "first_runs.md").read_text(encoding="utf-8").splitlines()
    # With two splits the interval is t(0.975, 1) = 12.706 times half the distance.
    assert "| gpn | adam | 65.0 ± 63.5 | 66.0 ± 76.2 | +11.0 ± 12.7 |  |" in lines
    assert "| gpn | sam | 66.0 ± 63.5 | 67.0 ± 76.2 | +12.0 ± 12.7 | +1.0 ± 0.0 |" in lines
