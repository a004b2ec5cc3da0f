from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fgsam.comparison import times as times_module
from fgsam.comparison.executors.inline import Inline
from fgsam.comparison.results import Record, Results
from fgsam.comparison.study import Study
from fgsam.comparison.times import (
    FILE,
    ArmTime,
    accuracy_at_equal_gradients,
    accuracy_at_equal_seconds,
    gradients_per_step,
    measure_times,
    read_times,
    write_times,
)
from fgsam.engine import stopwatch
from fgsam.engine.config import load_config
from fgsam.engine.episode_task import EpisodeTask
from fgsam.optim.base import SharpnessAware
from fgsam.registry import OPTIMIZERS
from tests.comparison.grids import SHORT, own_graph, small_grid
from tests.comparison.test_results import DIGESTS

TIMES = (
    ArmTime("synthetic", "gpn/adam", 2.0, 1.5, 2.5, {"forward": 0.25, "update": 0.75}),
    ArmTime("synthetic", "gpn/sam", 3.0, 2.5, 4.5, {}),
)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The passes so far, which a clock in place of the machine's counts as a second each."""
    seen: list[str] = []
    loss = EpisodeTask.loss

    def counted(self, method, field, batch):
        seen.append("pass")
        return loss(self, method, field, batch)

    monkeypatch.setattr(EpisodeTask, "loss", counted)
    for module in (stopwatch, times_module):
        monkeypatch.setattr(module, "fair_clock", lambda device: lambda: float(len(seen)))
    return seen


def test_a_time_is_the_mean_over_a_period_of_its_own_steps(passes):
    grid = small_grid(arms=[{"method": "gpn", "optimizer": ["adam", "sam", "fgsam_plus"]}, {"method": "raw_lr"}])
    found = measure_times(grid, num_blocks=2)
    # One pass; two; and three in every second step, one in the others.
    assert {time.arm: (time.low, time.ms, time.high) for time in found} == {
        "gpn/adam": (1000.0, 1000.0, 1000.0),
        "gpn/sam": (2000.0, 2000.0, 2000.0),
        "gpn/fgsam_plus": (2000.0, 2000.0, 2000.0),
    }
    assert len(passes) == 3 * times_module.STEPS * (1 + 2 + 2)
    stages = {time.arm: {name: share for name, share in time.stages.items() if share} for time in found}
    assert stages == {
        "gpn/adam": {"forward": 1.0},
        "gpn/sam": {"forward": 1.0},
        "gpn/fgsam_plus": {"forward": 0.25, "peer": 0.75},
    }


def test_every_part_is_timed_and_tested_on_nothing(monkeypatch):
    monkeypatch.setattr("fgsam.engine.data.Data.test_bank", property(lambda data: pytest.fail("test bank was made")))
    monkeypatch.setattr(times_module, "STEPS", 1)
    told = []
    grid = small_grid(vary={"episode.k_shot": [1, 2]})
    parts = [part.label for part in grid.parts]
    found = measure_times(grid, num_blocks=3, on_part=lambda part: told.append(part.label))
    assert [(time.part, time.arm) for time in found] == [
        (part, arm) for part in parts for arm in ("gpn/adam", "gpn/sam")
    ]
    assert told == parts
    for time in found:
        assert 0 < time.low <= time.ms <= time.high
        assert sum(time.stages.values()) == pytest.approx(1.0)


def test_objects_are_timed_and_the_random_state_stays(monkeypatch):
    monkeypatch.setattr(times_module, "STEPS", 1)
    state = torch.random.get_rng_state()
    found = measure_times(small_grid(graphs=[own_graph()], arms=[{"method": "gpn", "optimizer": "adam"}]), num_blocks=2)
    assert [(time.part, time.arm) for time in found] == [("own", "gpn/adam")]
    assert torch.equal(torch.random.get_rng_state(), state)


def test_an_arm_that_diverges_is_left_out(monkeypatch, caplog):
    monkeypatch.setattr(times_module, "STEPS", 2)
    wild = {"name": "sam", "base": "sgd", "lr": 1e30, "weight_decay": 1.0}
    arms = [{"label": "wild", "method": "gpn", "optimizer": wild}, {"method": "gpn", "optimizer": "sam"}]
    assert [time.arm for time in measure_times(small_grid(arms=arms), num_blocks=2)] == ["gpn/sam"]
    assert "No time of 'wild' on 'synthetic': Stopped in episode" in caplog.text


def test_a_grid_of_floors_has_no_times():
    assert measure_times(small_grid(arms=[{"method": "raw_lr"}])) == ()


def test_one_block_has_no_quartiles():
    with pytest.raises(ValueError, match=r"'num_blocks' to be at least 2, for quartiles \(got num_blocks=1\)"):
        measure_times(small_grid(), num_blocks=1)


def test_times_are_kept_beside_the_runs(tmp_path):
    assert read_times(tmp_path) == ()
    write_times(tmp_path / "study", TIMES)
    assert read_times(tmp_path / "study") == TIMES


@pytest.mark.parametrize("change", [("2.0", "1.0"), ("fgsam-times 1", "fgsam-times 2"), ("{", ""), ('"ms"', '"us"')])
def test_times_that_were_changed_are_refused(change, tmp_path):
    write_times(tmp_path, TIMES)
    file = tmp_path / FILE
    file.write_text(file.read_text().replace(*change, 1))
    with pytest.raises(ValueError, match=r"times.json to hold times in the format .* Delete it, and measure again"):
        read_times(tmp_path)


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        ({"name": "adam"}, 1),
        ({"name": "sam"}, 2),
        ({"name": "fgsam"}, 2),
        ({"name": "fgsam_plus"}, 2),
        ({"name": "fgsam_plus", "refresh_every": 4}, 1.5),
        ({"name": "looksam", "refresh_every": 5}, 1.2),
        ({"name": "aesam"}, 2),
        ({"name": "sassha", "hessian_every": 4}, 2.25),
        ({"name": "zeroth_order_tilted_sam", "num_samples": 3}, 6),
    ],
    ids=str,
)
def test_gradient_evaluations_are_averaged_over_the_period(optimizer, expected):
    config = load_config(values={**SHORT, "optimizer": optimizer})
    assert gradients_per_step(config, {}, 8) == expected


def test_a_step_of_several_episodes_counts_each():
    config = load_config(values={"train": {"num_episodes": 8, "episodes_per_step": 4}, "optimizer": {"name": "sam"}})
    assert gradients_per_step(config, {}, 8) == 8


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_every_rule_has_a_price(name):
    assert gradients_per_step(load_config(values={"optimizer": {"name": name}}), {}, 8) >= 1


def logged(tmp_path: Path, looks: dict[str, list[list[float]]], **changes) -> Results:
    """Results of two splits whose runs validated at steps 2, 4, 6, ... with the accuracies of their arm."""
    grid = small_grid(splits=2, **changes)
    records = {}
    for cell in grid.cells():
        folder = tmp_path / f"{cell.arm}-{cell.split}".replace("/", "-")
        folder.mkdir(parents=True)
        if cell.arm in looks:
            lines = [
                {"step": 2 * i, "val_accuracy": value, "seconds": 99.0}
                for i, value in enumerate(looks[cell.arm][cell.split], 1)
            ]
            text = "".join(json.dumps(line) + "\n" for line in [{"step": 1, "loss": 0.5}, *lines])
            (folder / "log.jsonl").write_text(text)
        known = {"results_version": 1, "digests": DIGESTS, "num_queries": 8}
        records[cell] = Record(cell, folder, 50.0, 50.0, np.array([50.0]), {}, known, {}, {})
    return Results(grid, records, {}, ())


LOOKS = {"gpn/adam": [[0.5, 0.7, 0.6, 0.9], [0.3, 0.3, 0.1, 0.5]], "gpn/sam": [[0.6, 0.8, 1.0, 1.0], [0.4, 0.4]]}


def means(scores):
    return {
        (score.arm, score.share, score.budget): score.val_accuracy and round(score.val_accuracy.mean, 9)
        for score in scores
    }


def test_arms_are_compared_after_equally_many_gradients(tmp_path):
    # Adam has used 8 gradients after its 8 steps, SAM after 4; one run of SAM stopped there and keeps what it has.
    scores = accuracy_at_equal_gradients(logged(tmp_path, LOOKS), shares=(0.25, 0.5, 1.0))
    assert means(scores) == {
        ("gpn/adam", 0.25, 2.0): 40.0,
        ("gpn/sam", 0.25, 2.0): None,
        ("gpn/adam", 0.5, 4.0): 50.0,
        ("gpn/sam", 0.5, 4.0): 50.0,
        ("gpn/adam", 1.0, 8.0): 70.0,
        ("gpn/sam", 1.0, 8.0): 60.0,
    }


class Picky(SharpnessAware):
    """A rule that wants a part of the method."""

    def __init__(self, model, base=torch.optim.Adam, **options):
        super().__init__(model.encoder.parameters(), base, **options)

    def direction(self, gnn, peer):
        return gnn()


@pytest.mark.parametrize("error", [RuntimeError, AssertionError])
def test_a_rule_that_cannot_be_made_breaks_no_table(error, tmp_path, monkeypatch):
    results = logged(tmp_path, LOOKS)
    monkeypatch.setattr(times_module, "build_optimizer", lambda *given: (_ for _ in ()).throw(error))
    assert accuracy_at_equal_gradients(results) == ()


def test_a_rule_that_wants_a_part_of_the_method_has_no_number_of_gradients(tmp_path, caplog):
    arms = [{"method": "gpn", "optimizer": "adam"}, {"label": "picky", "method": "gpn", "optimizer": Picky}]
    looks = {"gpn/adam": LOOKS["gpn/adam"], "picky": LOOKS["gpn/sam"]}
    scores = accuracy_at_equal_gradients(logged(tmp_path, looks, arms=arms))
    assert {score.arm for score in scores} == {"gpn/adam"}
    assert caplog.text.count("Gradients of 'picky' are not counted") == 1


def test_arms_are_compared_after_equal_seconds(tmp_path):
    # 8 steps of 2 ms and of 3 ms: 16 ms are 8 steps of Adam and 5 of SAM.
    scores = accuracy_at_equal_seconds(logged(tmp_path, LOOKS), TIMES, shares=(1.0,))
    assert means(scores) == {("gpn/adam", 1.0, 0.016): 70.0, ("gpn/sam", 1.0, 0.016): 60.0}


def test_arms_without_times_or_logs_are_left_out(tmp_path):
    results = logged(tmp_path, {"gpn/sam": LOOKS["gpn/sam"]})
    assert {score.arm for score in accuracy_at_equal_gradients(results)} == {"gpn/sam"}
    assert accuracy_at_equal_seconds(results, TIMES[:1]) == ()


def test_a_share_above_one_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"'share' to be above 0 and at most 1 \(got share=2\)"):
        accuracy_at_equal_gradients(logged(tmp_path, LOOKS), shares=(2,))


def test_finished_runs_are_compared(tmp_path):
    grid = small_grid(splits=2)
    study = Study(tmp_path, grid)
    assert all(state.is_finished for _, state in study.run(Inline()))
    results = Results.read(study)
    whole = [score for score in accuracy_at_equal_gradients(results) if score.share == 1.0]
    assert [(score.arm, score.budget) for score in whole] == [("gpn/adam", 4.0), ("gpn/sam", 4.0)]
    assert all(score.val_accuracy.num_splits == 2 for score in whole)
