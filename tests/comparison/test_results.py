from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fgsam.comparison.findings import findings
from fgsam.comparison.results import Record, Results
from fgsam.comparison.verdict import verdicts
from tests.comparison.grids import small_grid

DIGESTS = {"graph": "g", "split": "s", "val_bank": "v", "test_bank": "t"}


def record(cell, accuracy, val_accuracy, **results):
    episodes = np.array([accuracy - 1.0, accuracy + 1.0])
    known = {"results_version": 1, "digests": DIGESTS, **results}
    return Record(cell, Path("runs") / f"{cell.arm}-{cell.trial}", accuracy, val_accuracy, episodes, {}, known, {}, {})


def made(grid, figures, **results):
    """Results in which ``figures`` tells test and validation accuracy of a cell."""
    records = {cell: record(cell, *found, **results) for cell in grid.cells() if (found := figures(cell)) is not None}
    return Results(grid, records, {}, tuple(cell for cell in grid.cells() if cell not in records))


def test_each_split_chooses_its_setting_on_its_own_validation_bank():
    grid = small_grid(candidates={"optimizer.lr": [0.1, 0.2]}, splits=2)
    best = {0: 1, 1: 0}
    # The trial that validation prefers is the worse one in test, so that choosing by test would show.
    found = made(grid, lambda cell: (50.0 - cell.trial, 60.0 + (cell.trial == best[cell.split])))
    assert found.scores(grid.parts[0].label, "gpn/adam") == {0: 49.0, 1: 50.0}


def test_seeds_share_their_choice_and_are_averaged_within_a_split():
    grid = small_grid(candidates={"optimizer.lr": [0.1, 0.2]}, splits=1, seeds=2)
    # Seed 0 alone would choose trial 0, the mean over both seeds chooses trial 1.
    val = {(0, 0): 70.0, (0, 1): 60.0, (1, 0): 69.0, (1, 1): 80.0}
    found = made(grid, lambda cell: (10.0 * cell.trial + cell.seed, val.get((cell.trial, cell.seed), 50.0)))
    assert found.scores(grid.parts[0].label, "gpn/adam") == {0: 10.5}


def test_the_first_of_equal_settings_is_taken():
    grid = small_grid(candidates={"optimizer.lr": [0.1, 0.2]}, splits=1)
    found = made(grid, lambda cell: (float(cell.trial), 70.0))
    assert found.scores(grid.parts[0].label, "gpn/adam") == {0: 0.0}


def test_a_split_whose_trials_are_not_all_there_makes_no_choice():
    grid = small_grid(candidates={"optimizer.lr": [0.1, 0.2]}, splits=2)
    found = made(grid, lambda cell: None if (cell.split, cell.trial) == (1, 1) else (50.0, 60.0))
    assert set(found.scores(grid.parts[0].label, "gpn/adam")) == {0}


def test_a_trial_that_failed_is_not_chosen():
    grid = small_grid(candidates={"optimizer.lr": [0.1, 0.2]}, splits=2)
    found = made(grid, lambda cell: None if (cell.split, cell.trial) == (1, 1) else (50.0 + cell.trial, 60.0))
    failed = Results(grid, found.records, dict.fromkeys(found.missing, "NonFiniteLossError"), ())
    assert failed.scores(grid.parts[0].label, "gpn/adam") == {0: 50.0, 1: 50.0}


def test_differences_are_paired_by_split():
    grid = small_grid(splits=3)
    scores = {("gpn/adam", 0): 50.0, ("gpn/adam", 1): 60.0, ("gpn/sam", 1): 63.0, ("gpn/sam", 2): 70.0}
    found = made(grid, lambda cell: (scores[key], 0.0) if (key := (cell.arm, cell.split)) in scores else None)
    assert found.differences(grid.parts[0].label, "gpn/sam", "gpn/adam") == {1: 3.0}


def test_pooled_differences_average_parts_where_all_are_there():
    grid = small_grid(vary={"episode.k_shot": [1, 3]}, splits=2)
    first, second = (part.label for part in grid.parts)
    gains = {(first, 0): 1.0, (second, 0): 3.0, (first, 1): 5.0}

    def figures(cell):
        gain = gains.get((cell.part, cell.split))
        return None if gain is None else (50.0 + gain * (cell.arm == "gpn/sam"), 0.0)

    assert made(grid, figures).pooled_differences("gpn/sam", "gpn/adam") == {0: 2.0}


@pytest.mark.parametrize("other", [{"results_version": 2}, {"digests": {**DIGESTS, "test_bank": "another"}}])
def test_runs_that_cannot_be_compared_are_refused(other):
    grid = small_grid(splits=1)
    found = made(grid, lambda cell: (50.0, 50.0))
    cell = next(cell for cell in grid.cells() if cell.arm == "gpn/sam")
    found.records[cell] = record(cell, 50.0, 50.0, **other)
    with pytest.raises(ValueError, match="Expected runs of one"):
        found._check_pairing()


def test_hypotheses_make_one_family():
    grid = small_grid(vary={"episode.k_shot": [1, 3]}, splits=5, hypotheses=["gpn/sam above gpn/adam"] * 1)
    gains = [0.6, 1.1, 0.2, 0.9, 0.7]
    found = findings(made(grid, lambda cell: (50.0 + gains[cell.split] * (cell.arm == "gpn/sam"), 0.0)))
    assert [finding.part for finding in found] == [part.label for part in grid.parts]
    assert found[0].verdict == verdicts([f.test for f in found], [f.within for f in found])[0]
    assert found[0].verdict.p_adjusted == pytest.approx(2 * found[0].test.p_value)
    assert found[0].wins == (5, 0, 0)
    assert found[0].mean.mean == pytest.approx(0.7)


def test_pooled_hypotheses_are_tested_once():
    grid = small_grid(vary={"episode.k_shot": [1, 3]}, splits=5, pooled=True)
    found = findings(made(grid, lambda cell: (50.0 + cell.split * (cell.arm == "gpn/sam"), 0.0)))
    assert [(finding.part, str(finding.hypothesis)) for finding in found] == [(None, "gpn/sam above gpn/adam")]


def test_not_below_is_tested_with_the_margin_of_the_grid():
    grid = small_grid(splits=5, hypotheses=["gpn/sam not below gpn/adam"], margin=2.0)
    gains = [-0.6, -1.1, -0.2, -0.9, -0.7]
    (finding,) = findings(made(grid, lambda cell: (50.0 + gains[cell.split] * (cell.arm == "gpn/sam"), 0.0)))
    assert (finding.test.margin, finding.test.alternative, finding.verdict.word) == (2.0, "greater", "holds")


def test_claims_that_cannot_be_tested_yet_count_in_the_family():
    grid = small_grid(vary={"episode.k_shot": [1, 3]}, splits=5)
    gains = [0.6, 1.1, 0.2, 0.9, 0.7]

    def figures(cell):
        is_done = cell.part == grid.parts[0].label
        return (50.0 + gains[cell.split] * (cell.arm == "gpn/sam"), 0.0) if is_done else None

    (finding,) = findings(made(grid, figures))
    assert finding.verdict.p_adjusted == pytest.approx(2 * finding.test.p_value)


def test_a_test_that_takes_more_splits_waits_for_them():
    grid = small_grid(splits=9, test="wilcoxon")
    assert findings(made(grid, lambda cell: (50.0, 0.0) if cell.split < 8 else None)) == []
    assert len(findings(made(grid, lambda cell: (50.0 + cell.split, 0.0)))) == 1


def test_without_results_nothing_is_claimed():
    grid = small_grid()
    assert findings(made(grid, lambda cell: None)) == []


def test_one_split_decides_nothing():
    grid = small_grid(splits=1)
    (finding,) = findings(made(grid, lambda cell: (50.0 + 5 * (cell.arm == "gpn/sam"), 0.0)))
    assert finding.verdict.word == "undecided"
    assert np.isinf(finding.detectable)
