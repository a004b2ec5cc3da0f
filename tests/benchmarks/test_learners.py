"""Quick forms of the studies of learners, and their pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.learners import page_of as learners_page
from benchmarks.own_learner import page_of as own_learner_page
from fgsam.registry import METHODS
from tests.benchmarks.measure import Measure


@pytest.mark.slow
def test_the_study_of_learners_runs_every_one(measure: Measure, tmp_path: Path):
    measure("learners", "--quick", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out"))
    page = (tmp_path / "out" / "learners.md").read_text(encoding="utf-8")
    assert all(f"| {name} | " in page for name in METHODS)


def test_sealed_class_splits_need_a_word_and_are_noted(measure: Measure, tmp_path: Path):
    runs = ("learners", "--quick", "--runs", str(tmp_path), "--methods", "raw_lr")
    with pytest.raises(SystemExit, match="2"):
        measure("learners", "--runs", str(tmp_path), "--splits", "10")
    measure(*runs)
    assert not (tmp_path / "readings.jsonl").exists()
    measure(*runs, "--final")
    measure(*runs, "--final")
    readings = [json.loads(line) for line in (tmp_path / "readings.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [reading["methods"] for reading in readings] == [["raw_lr"]] * 2


def test_the_page_of_learners_pairs_by_split_and_keeps_modes_apart():
    def arm(method: str, optimizer: str, *accuracies: float | None) -> list[dict[str, Any]]:
        own = {"graph": "g", "method": method, "optimizer": optimizer, "seconds": 1.0, "ms_per_episode": 2.0}
        return [{**own, "split": split, "accuracy": accuracy} for split, accuracy in enumerate(accuracies)]

    rows = [
        *arm("protonet", "adam", 0.60, 0.70, 0.75),
        *arm("protonet", "fgsam_plus", 0.62, 0.74, None),
        *arm("raw_lr", "-", 0.50, 0.90, 0.70),
        *arm("sgc_lr", "-", 0.80, 0.80, 0.85),
        *arm("sgc_kmeans", "-", 0.90, 0.90, 0.90),
    ]
    lines = learners_page(rows, "command").splitlines()
    assert [line for line in lines if line.startswith("Best")] == ["Best floor: `sgc_lr`.", "Best floor: `sgc_kmeans`."]
    # With two splits the interval is t(0.975, 1) = 12.706 times half the distance.
    assert "| protonet | fgsam_plus | 68.0 ± 76.2 | -12.0 ± 76.2 | +3.0 ± 12.7 | 2, 1 lost | 2.0 |" in lines
    assert "| sgc_kmeans | - | 90.0 ± 0.0 |  |  | 3 | 2.0 |" in lines


@pytest.mark.slow
def test_the_own_learner_meets_its_floor_with_equal_and_unequal_queries(measure: Measure, tmp_path: Path):
    measure("own_learner", "--quick", "--out", str(tmp_path))
    page = (tmp_path / "own_learner.md").read_text(encoding="utf-8")
    assert all(f"| quick | {queries} | 1 | " in page for queries in ("equal", "unequal"))


def test_the_page_of_the_own_learner_pairs_by_split():
    def row(split: int, optimizer: str, accuracy: float | None) -> dict[str, Any]:
        own = {"graph": "nell", "queries": "equal", "split": split, "optimizer": optimizer}
        return {**own, "accuracy": accuracy, "seconds": 1.0}

    figures = {"-": (0.80, 0.84, 0.90), "adam": (0.82, 0.88, None), "fgsam_plus": (0.81, 0.87, 0.91)}
    page = own_learner_page([row(i, name, figures[name][i]) for i in range(3) for name in figures], "command")
    # With two splits the interval is t(0.975, 1) = 12.706 times half the distance.
    assert "| nell | equal | 2 | 82.0 ± 25.4 | 85.0 ± 38.1 | +3.0 ± 12.7 |" in page
    assert page.endswith("| -1.0 ± 0.0 |\n")
