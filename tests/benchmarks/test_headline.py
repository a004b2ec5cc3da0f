"""The first study: its grids, its claims, and its quick form."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.headline import GRIDS, grid_named
from tests.benchmarks.measure import Measure


@pytest.mark.slow
def test_the_first_study_goes_on_from_a_pack(measure: Measure, tmp_path: Path):
    pack = ("headline", "--quick", "--only", "primary", "--packs", str(tmp_path / "packs"))
    measure(*pack, "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "first"))
    measure(*pack, "--finished", "--runs", str(tmp_path / "moved"), "--out", str(tmp_path / "second"))
    pages = [(tmp_path / name / "headline.md").read_text().split("\n## FGSAM")[1] for name in ("first", "second")]
    assert pages[0] == pages[1]
    assert "![Differences by class split](headline/primary_differences.svg)" in pages[0]
    assert (tmp_path / "second" / "headline" / "primary_differences.svg").is_file()
    assert "Complete: all 38 runs are finished." in pages[0]
    assert "| gpn/fgsam_plus not below gpn/fgsam | mean over all parts | undecided, n = 2" in pages[0]


SETTINGS = {"primary": 4, "exploratory": 2, "released_fgsam_plus": 1, "released_fgsam": 1}


@pytest.mark.parametrize("name", list(GRIDS))
def test_the_grids_of_the_first_study_are_whole(name: str):
    grid = grid_named(name, is_quick=False)
    assert [part.graph for part in grid.parts] == ["coauthor_cs", "corafull_derived", "clothing20", "nell"]
    assert len(grid.splits) == (20 if name == "primary" else 10)
    assert {len(arm.candidates) for arm in grid.arms if arm.is_trained} == {SETTINGS[name]}
    assert len(grid.protocol.hypotheses) == (3 if name == "primary" else 0)
    assert grid.protocol.pooled


def test_the_claims_of_the_first_study_are_the_named_ones():
    grid = grid_named("primary", is_quick=False)
    assert [str(claim) for claim in grid.protocol.hypotheses] == [
        "gpn/fgsam above gpn/adam",
        "gpn/fgsam above gpn/sam",
        "gpn/fgsam_plus not below gpn/fgsam",
    ]
    assert grid.protocol.test == "t"
