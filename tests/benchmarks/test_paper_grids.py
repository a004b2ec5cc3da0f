"""The cells of the paper's grids on generated files."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks.first_runs import FLOORS
from benchmarks.paper_grids import GRIDS, QUICK, levelled, run_cut, section
from fgsam.comparison.grid import Grid
from fgsam.comparison.grid_source import load_grid
from fgsam.comparison.results import Results
from tests.benchmarks.measure import Measure


@pytest.mark.slow
def test_every_arm_of_the_papers_grids_runs_and_no_accuracy_is_shown(
    measure: Measure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FGSAM_DATA", str(tmp_path / "empty"))
    measure("paper_grids", "--quick", "--out", str(tmp_path))
    assert os.environ["FGSAM_DATA"] == str(tmp_path / "empty")
    page = (tmp_path / "paper_grids.md").read_text(encoding="utf-8")
    rows = [
        f"| {' | '.join(arm.label.split('/'))} | " for name in GRIDS for arm in load_grid(name).arms if arm.is_trained
    ]
    assert len(rows) == 16 + 9
    assert all(f"{row}runs | runs | runs |" in page for row in rows)
    assert page.count("| runs | runs | runs |") == len(rows) + 2 * len(FLOORS)
    assert "%" not in page
    assert not re.search(r"\d\.\d", page)


def test_a_cell_of_the_papers_grids_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("benchmarks.paper_grids.run_grid", lambda grid, folder, **options: Failing(grid))
    lines = section(run_cut(GRIDS[1], tmp_path, QUICK))
    assert lines[0].startswith("| learner | optimizer | corafull 5-way 3-shot | fsnc_dblp 5-way 3-shot |")
    assert lines[2] == "| gpn | adam | ValueError: no \\| file | not run | not run |"


class Failing:
    """What a comparison found of which one run has failed and no other was begun."""

    def __init__(self, grid: Grid) -> None:
        first, *others = grid.cells()
        self.results = Results(grid, {}, {first: "ValueError: no | file"}, tuple(others))


def test_levelled_classes_have_enough_nodes():
    assert levelled(np.array([0, 1, 1, 1, 1, 2]), 2).tolist() == [0, 0, 2, 1, 1, 2]
