"""The quick form of the simulation, and its model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.simulation import CELLS, MOST_REJECTIONS, Errors, errors, keeps_bounds
from tests.benchmarks.measure import Measure


@pytest.mark.slow
def test_simulation_has_a_row_for_each_model(measure: Measure, tmp_path: Path):
    measure("simulation", "--quick", "--out", str(tmp_path))
    page = (tmp_path / "statistics.md").read_text(encoding="utf-8")
    assert page.count("\n| exponential | ") + page.count("\n| lognormal | ") == 6
    assert all(f"\n| {ratio:g} | {num_splits} | " in page for shape, ratio, num_splits in CELLS if shape == "normal")


def test_seeds_of_a_split_are_no_units_and_bounds_are_kept():
    found = errors("normal", 2.0, 5, 4000, np.random.default_rng(0))
    assert found.rejected == pytest.approx(0.05, abs=0.014)  # four standard errors
    assert found.above + found.below == pytest.approx(found.rejected)
    assert found.covered == pytest.approx(1 - found.rejected)
    assert found.flipped == 0
    assert 0.2 < found.by_seed < found.by_episode
    skewed = errors("lognormal", 2.0, 5, 4000, np.random.default_rng(0))
    assert skewed.below > 0.07 > 0.02 > skewed.above

    def kept(rejected: float, covered: float, shape: str = "normal") -> bool:
        return keeps_bounds({(shape, 1.0, 5): Errors(rejected, 0.0, 0.0, covered, 0.0, 0.0, 0.0)})

    assert kept(MOST_REJECTIONS, 0.94)
    assert not kept(MOST_REJECTIONS + 1e-4, 0.95)
    assert not kept(0.05, 0.939)
    assert kept(1.0, 0.0, "lognormal")
