from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from fgsam.comparison.executors.inline import Inline
from fgsam.comparison.planning import pilot, plan_comparison
from fgsam.comparison.power import power_of, splits_needed, variance_components
from fgsam.comparison.results import Record, Results
from fgsam.comparison.study import Study
from tests.comparison.grids import small_grid
from tests.comparison.test_results import DIGESTS

ARMS = [{"method": "gpn", "optimizer": ["adam", "sam"]}, {"method": "raw_lr"}]
CLAIM = {"hypotheses": ["gpn/sam above gpn/adam"]}


def made(grid, episodes, *, splits, seconds=lambda cell: 1.0):
    """Results of some class splits, in which ``episodes`` tells the accuracy of each test episode of a cell."""
    records, missing = {}, []
    for cell in grid.cells():
        if cell.split not in splits:
            missing.append(cell)
            continue
        found = np.array(episodes(cell), dtype=np.float64)
        known = {"results_version": 1, "digests": DIGESTS}
        timing = {"seconds": seconds(cell)}
        records[cell] = Record(cell, Path("runs"), float(found.mean()), 50.0, found, {}, known, timing, {})
    return Results(grid, records, {}, tuple(missing))


def gains(values):
    """Two episodes, in which SAM is above Adam by the gain of the split, less and more a point."""

    def episodes(cell):
        gain = values[cell.split] if cell.arm == "gpn/sam" else 0.0
        return [50.0 + gain - (cell.arm == "gpn/sam"), 60.0 + gain + (cell.arm == "gpn/sam")]

    return episodes


GAINS = [1.0, 2.0, 3.0]


def test_a_plan_rests_on_the_spread_of_the_pilot():
    grid = small_grid(splits=20, **CLAIM)
    plan = plan_comparison(made(grid, gains(GAINS), splits=range(3)), delta=0.5, workers=2)
    [claim] = plan.claims
    assert (claim.part, claim.num_splits, claim.sd) == ("synthetic", 3, pytest.approx(1.0))
    low, high = (np.sqrt(2 / stats.chi2.ppf(q, 2)) for q in (0.975, 0.025))
    assert claim.sd_interval == pytest.approx((low, high))
    assert (claim.needed, claim.needed_in_family) == (splits_needed(1.0, 0.5), splits_needed(1.0, 0.5))
    assert claim.needed_interval == (splits_needed(low, 0.5), splits_needed(high, 0.5))
    assert claim.power == pytest.approx(power_of(1.0, 0.5, 20))
    assert claim.power_interval == pytest.approx((power_of(high, 0.5, 20), power_of(low, 0.5, 20)))
    assert claim.components == variance_components([[[0.0, 2.0]], [[1.0, 3.0]], [[2.0, 4.0]]])


def test_every_claim_of_the_family_makes_the_level_stricter():
    grid = small_grid(
        splits=20, vary={"episode.k_shot": [1, 2]}, hypotheses=[*CLAIM["hypotheses"], "gpn/sam above raw_lr"]
    )
    plan = plan_comparison(made(grid, gains(GAINS), splits=range(3)), delta=1.0)
    assert [claim.part for claim in plan.claims] == [part.label for part in grid.parts for _ in range(2)]
    for claim in plan.claims:
        assert claim.needed == splits_needed(claim.sd, 1.0, alpha=0.05)
        assert claim.needed_in_family == splits_needed(claim.sd, 1.0, alpha=0.05 / 4)
        assert claim.power_in_family == pytest.approx(power_of(claim.sd, 1.0, 20, alpha=0.05 / 4))


def test_not_below_is_planned_for_equal_arms_and_one_side():
    grid = small_grid(splits=20, hypotheses=["gpn/sam not below gpn/adam"], margin=0.8)
    [claim] = plan_comparison(made(grid, gains(GAINS), splits=range(3)), delta=99.0).claims

    def power(num_splits):
        bound = stats.t.ppf(0.95, num_splits - 1)
        return stats.nct.sf(bound, num_splits - 1, 0.8 * np.sqrt(num_splits))

    assert power(claim.needed) >= 0.8 > power(claim.needed - 1)
    assert claim.power == pytest.approx(power(20), abs=1e-4)


def test_pooled_claims_average_the_parts():
    grid = small_grid(splits=5, vary={"episode.k_shot": [1, 2]}, pooled=True, **CLAIM)
    first = grid.parts[0].label

    def episodes(cell):
        gain = (4.0 if cell.part == first else -2.0) * cell.split * (cell.arm == "gpn/sam")
        return [50.0 + gain, 50.0 + gain]

    [claim] = plan_comparison(made(grid, episodes, splits=range(3))).claims
    assert claim.part is None
    assert claim.sd == pytest.approx(1.0)
    assert claim.components == variance_components([[[0.0, 0.0]], [[1.0, 1.0]], [[2.0, 2.0]]])


def test_seeds_are_told_from_splits_and_a_floor_stands_against_each():
    grid = small_grid(splits=3, seeds=2, hypotheses=["gpn/sam above raw_lr"])

    def episodes(cell):
        return [50.0 + cell.seed, 52.0 + cell.split] if cell.arm == "gpn/sam" else [50.0, 50.0]

    [claim] = plan_comparison(made(grid, episodes, splits=range(3))).claims
    table = [[[seed, 2.0 + split] for seed in range(2)] for split in range(3)]
    assert claim.components == variance_components(table)
    assert claim.components.num_seeds == 2


@pytest.mark.parametrize("lengths", [[1, 1, 1], [2, 3, 2]], ids=str)
def test_without_equal_episodes_there_are_no_components(lengths):
    found = made(small_grid(splits=3, **CLAIM), lambda cell: [50.0 + cell.split] * lengths[cell.split], splits=range(3))
    [claim] = plan_comparison(found).claims
    assert claim.components is None


def test_arms_that_never_differ_need_two_splits():
    [claim] = plan_comparison(made(small_grid(**CLAIM), gains([0.0] * 3), splits=range(3))).claims
    assert (claim.sd, claim.needed, claim.power) == (0.0, 2, 1.0)


def test_the_hours_are_those_of_like_runs_divided_among_workers():
    grid = small_grid(splits=5, seeds=2, **CLAIM)
    prices = {"gpn/adam": 900.0, "gpn/sam": 1800.0, "raw_lr": 360.0}
    plan = plan_comparison(made(grid, gains(GAINS), splits=range(3), seconds=lambda cell: prices[cell.arm]), workers=2)
    # Two splits are left, each with two seeds of the learners and one of the floor.
    assert plan.num_runs == 10
    assert plan.hours == pytest.approx(2 * (2 * 900 + 2 * 1800 + 360) / 3600 / 2)


def test_a_plan_can_be_read():
    text = str(plan_comparison(made(small_grid(splits=20, **CLAIM), gains(GAINS), splits=range(3)), workers=2))
    assert text.startswith("To find 0.5 points with 80 % power; the grid has 20 class splits, and 3 of them are known.")
    assert "gpn/sam above gpn/adam (synthetic)  1.00 (0.52 to 6.28)" in text
    assert "the true one may be 0.5 to 6.3 times as large" in text
    assert "Left: 51 runs" in text
    assert "a forecast from the runs that are over" in text


def test_the_mean_difference_of_a_pilot_is_not_told():
    plan = plan_comparison(made(small_grid(**CLAIM), gains([776.0, 777.0, 778.0]), splits=range(3)), workers=2)
    assert "77" not in str(plan)


def test_a_pilot_with_one_split_is_refused():
    found = made(small_grid(**CLAIM), gains(GAINS), splits=range(1))
    with pytest.raises(
        ValueError, match=r"at least 2 finished class splits for 'gpn/sam above gpn/adam' on 'synthetic' "
    ):
        plan_comparison(found)


def test_a_grid_without_a_claim_is_refused():
    with pytest.raises(ValueError, match="Expected a grid with a hypothesis"):
        plan_comparison(made(small_grid(hypotheses=[]), gains(GAINS), splits=range(3)))


@pytest.mark.parametrize("num_splits", [1, 4])
def test_a_pilot_has_some_of_the_splits(num_splits):
    assert pilot(small_grid(splits=5)).splits == (0, 1, 2)
    with pytest.raises(
        ValueError, match=rf"at least 2 and at most all 3 class splits of the grid \(got {num_splits}\)"
    ):
        pilot(small_grid(), num_splits)


def test_the_runs_of_a_pilot_are_part_of_the_comparison(tmp_path):
    grid = small_grid(splits=4, **CLAIM)
    cells = [cell for cell, _ in Study(tmp_path, pilot(grid, 2)).run(Inline())]
    assert {cell.split for cell in cells} == {0, 1}
    study = Study(tmp_path, grid)
    plan = plan_comparison(Results.read(study))
    assert plan.claims[0].num_splits == 2
    assert plan.num_runs == 6
    assert plan.hours > 0
