"""Quick forms of the measurements that kill processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks.measure import Measure


@pytest.mark.slow
def test_compare_kills_finds_the_tables_of_the_undisturbed_comparison(measure: Measure, tmp_path: Path):
    measure("compare_kills", "--quick", "--out", str(tmp_path))
    page = (tmp_path / "compare_kills.md").read_text()
    assert page.count("same bits |") == 4
    assert "DIFFERENT" not in page


@pytest.mark.slow
def test_kill_resume_finds_the_results_of_the_undisturbed_run(measure: Measure, tmp_path: Path):
    # The first moment of this seed comes so soon that even a short run is still at work.
    small = ("--kills", "1", "--pairs", "0", "--episodes", "200", "--seed", "31")
    measure("kill_resume", *small, "--json", str(tmp_path / "figures.json"))
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["kills"] == [1, 1]
    assert figures["folders_without_partial_files"] == [1, 1]
