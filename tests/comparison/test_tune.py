from __future__ import annotations

import sys
import time
from dataclasses import replace

import pytest
import yaml

from fgsam.comparison import tune as tune_module
from fgsam.comparison.executors.inline import Inline
from fgsam.comparison.executors.processes import Processes
from fgsam.comparison.grid import Tuned
from fgsam.comparison.grid_source import load_grid
from fgsam.comparison.results import Results
from fgsam.comparison.study import Study
from fgsam.comparison.tune import read_log, run_search, tune
from fgsam.engine.banks import build_bank
from fgsam.engine.config import ConfigError
from fgsam.engine.interrupts import Interrupted
from fgsam.engine.validate import validate
from tests.comparison.grids import own_graph, small_grid

RANGES = {
    "optimizer.lr": {"low": 1e-3, "high": 1e-1, "log": True},
    "encoder.hidden": {"low": 2, "high": 8},
    "optimizer.base": ["adam", "adamw"],
}

ARMS = [{"method": "gpn", "optimizer": ["sam", "fgsam"]}, {"method": ["raw_lr", "sgc_lr"]}]


def searched(**changes):
    return small_grid(**{"arms": ARMS, "splits": 2, "candidates": RANGES, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tuned")


@pytest.fixture(scope="module")
def tuned(folder):
    """A tuned grid; the search would have ended at the first look at a test bank."""
    with pytest.MonkeyPatch.context() as patch:
        _forbid_tests(patch)
        return tune(searched(), 3, folder)


def _forbid_tests(patch):
    def forbidden(*arguments, **options):
        raise AssertionError("a test bank was opened")

    patch.setattr("fgsam.engine.data.Data.test_bank", property(forbidden))
    patch.setattr("fgsam.engine.data.Data.test", forbidden)

    def build(config, graph, split, sampler, part, folder):
        return forbidden() if part == "test_bank" else build_bank(config, graph, split, sampler, part, folder)

    patch.setattr("fgsam.engine.data.build_bank", build)
    patch.setattr("fgsam.engine.node_data.NodeData.test", forbidden)


def test_the_guard_against_tests_would_be_heard(monkeypatch, tmp_path):
    _forbid_tests(monkeypatch)
    states = [state for _, state in Study(tmp_path, small_grid(splits=1)).run(Inline())]
    assert {state.error for state in states} == {"AssertionError: a test bank was opened"}


def test_every_split_takes_the_best_trial_of_its_own(tuned, folder):
    log = read_log(folder)
    units = {(trial.part, trial.arm, trial.split) for trial in log}
    assert units == {("synthetic", arm, split) for arm in ("gpn/sam", "gpn/fgsam") for split in (0, 1)}
    for unit in units:
        trials = [trial for trial in log if (trial.part, trial.arm, trial.split) == unit]
        assert [trial.number for trial in trials] == [0, 1, 2]
        assert {trial.state for trial in trials} == {"complete"}
        best = max(trials, key=lambda trial: trial.val_accuracy)
        assert dict(tuned.settings[unit].values) == best.values
        assert (tuned.settings[unit].bank,) == best.banks
    assert len({trial.banks for trial in log}) == 2


def test_settings_come_from_the_ranges(tuned, folder):
    for trial in read_log(folder):
        assert 1e-3 <= trial.values["optimizer.lr"] <= 1e-1
        assert trial.values["encoder.hidden"] in range(2, 9)
        assert trial.values["optimizer.base"] in ("adam", "adamw")
        assert trial.seconds > 0
    assert len({trial.values["optimizer.lr"] for trial in read_log(folder)}) > 4


def test_arms_with_the_same_ranges_begin_with_the_same_settings(tuned, folder):
    first = {(trial.split, trial.arm): trial.values for trial in read_log(folder) if trial.number == 0}
    assert first[0, "gpn/sam"] == first[0, "gpn/fgsam"] != first[1, "gpn/sam"]


def test_floors_choose_from_as_many_settings(tuned):
    for cell in tuned.cells():
        if cell.arm in ("raw_lr", "sgc_lr"):
            assert tuned.job(cell, root=".").config.method.num_trials == 3


def test_a_number_that_a_floor_was_given_stays(tmp_path):
    arms = [{"method": "gpn", "optimizer": "adam"}, {"method": {"name": "raw_lr", "num_trials": 2}, "label": "floor"}]
    candidates = {"optimizer.lr": {"low": 0.1, "high": 0.2}}
    found = tune(searched(arms=arms, splits=1, candidates=candidates), 1, tmp_path)
    [cell] = [cell for cell in found.cells() if cell.arm == "floor"]
    assert found.job(cell, root=".").config.method.num_trials == 2


def test_the_written_grid_is_the_one_that_is_returned(tuned, folder):
    read = load_grid(folder / "tuned.yaml")
    assert read.settings == tuned.settings
    assert list(read.cells()) == list(tuned.cells())
    for cell in tuned.cells():
        assert read.job(cell, root=".").config.content() == tuned.job(cell, root=".").config.content()


def test_the_runs_have_the_validation_accuracy_of_the_search(tuned, folder, tmp_path):
    study = Study(tmp_path, tuned)
    assert all(state.is_finished for _, state in study.run(Inline()))
    results = Results.read(study)
    log = {(trial.part, trial.arm, trial.split, str(trial.values)): trial.val_accuracy for trial in read_log(folder)}
    for unit, chosen in tuned.settings.items():
        if "gpn" in unit[1]:
            [record] = results.chosen[unit].values()
            assert record.val_accuracy == log[(*unit, str(chosen.values))]


def test_a_setting_of_another_split_is_refused_at_once(tuned, folder, tmp_path):
    more = replace(tuned, splits=(0, 1, 2))
    with pytest.raises(
        ValueError, match=r"of class split 2 \(there is none\)\. That of another split may .*'fgsam tune'"
    ):
        Study(tmp_path, more)
    content = yaml.safe_load((folder / "tuned.yaml").read_text())
    content["splits"] = 3
    (tmp_path / "more.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(
        ConfigError, match=r"Expected a setting of 'gpn/sam' on 'synthetic' that was chosen on the valid"
    ):
        load_grid(tmp_path / "more.yaml")


def test_a_setting_that_was_passed_to_another_split_by_hand_is_refused(tuned, tmp_path):
    units = [("synthetic", "gpn/sam", split) for split in (0, 1)]
    settings = {**tuned.settings, units[1]: tuned.settings[units[0]]}
    study = Study(tmp_path, replace(tuned, settings=settings))
    assert all(state.is_finished for _, state in study.run(Inline()))
    with pytest.raises(
        ValueError, match=r"for class split 1 to be chosen on the validation bank of that split \(it was"
    ):
        Results.read(study)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"split": 7}, r"Expected a part, an arm and a class split of this grid \(got"),
        ({"values": {"optimizer.lr": -1.0}}, r"Expected values that a run of 'gpn/sam' can have \(got"),
        ({"values": {"optimizer.speed": 1.0}}, r"Expected values that a run of 'gpn/sam' can have \(got"),
        ({"values": {"speed.lr": 1.0}}, r"Expected values that a run of 'gpn/sam' can have \(got"),
    ],
    ids=str,
)
def test_faults_of_settings_are_told_with_their_line(change, text, tuned, folder, tmp_path):
    content = yaml.safe_load((folder / "tuned.yaml").read_text())
    content["settings"][0] |= change
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=rf"{text}[\s\S]*bad.yaml, line \d+"):
        load_grid(tmp_path / "bad.yaml")


def test_a_grid_with_ranges_is_not_run(tmp_path):
    with pytest.raises(
        ValueError, match=r"settings that can be run \(got ranges for 'gpn/sam'\)\. Search for them first"
    ):
        Study(tmp_path, searched())


def test_a_grid_without_ranges_is_not_tuned(tmp_path):
    with pytest.raises(
        ValueError, match=r"Expected ranges among the candidates .*From a list, 'fgsam compare' chooses"
    ):
        tune(small_grid(), 2, tmp_path)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"low": 1.0, "high": 0.1}, "'low' is to be below 'high'"),
        ({"low": 0, "high": 1, "log": True}, "above 0 with 'log'"),
        ({"low": 1.0}, "high"),
        ({"low": -1.0, "high": 1.0}, r"optimizer\.lr"),
    ],
    ids=str,
)
def test_faults_of_ranges_are_told(values, text):
    with pytest.raises(ConfigError, match=text):
        searched(candidates={"optimizer.lr": values})


def test_ranges_of_one_arm_alone_are_not_fair():
    arms = [{"method": "gpn", "optimizer": "adam", "candidates": {"optimizer.lr": {"low": 0.1, "high": 0.2}}}]
    with pytest.raises(
        ConfigError, match=r"as many candidates for every trained arm.*\(got gpn/adam ranges, gpn/sam 1\)"
    ):
        searched(arms=[*arms, {"method": "gpn", "optimizer": "sam"}], candidates=None)


LR = {"optimizer.lr": {"low": 1e-3, "high": 1e-1, "log": True}}
ONE = {"arms": [{"method": "gpn", "optimizer": "adam"}], "candidates": LR, "splits": 1, "floors": False}


def test_a_search_that_was_stopped_goes_on_as_if_it_had_not(tmp_path, monkeypatch):
    whole = tune(searched(**ONE), 4, tmp_path / "whole")
    calls = []

    def stopping(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise Interrupted("Stopped.")
        return validate(*arguments, **options)

    monkeypatch.setattr(tune_module, "validate", stopping)
    with pytest.raises(Interrupted, match="the same command goes on"):
        tune(searched(**ONE), 4, tmp_path / "halves")
    halves = tune(searched(**ONE), 4, tmp_path / "halves")
    assert len(calls) == 5
    assert halves.settings == whole.settings
    logs = [[(trial.values, trial.val_accuracy) for trial in read_log(tmp_path / name)] for name in ("whole", "halves")]
    assert logs[0] == logs[1]


def test_a_finished_search_is_only_read(tmp_path, monkeypatch):
    first = tune(searched(**ONE), 2, tmp_path)
    monkeypatch.setattr(tune_module, "validate", None)
    assert tune(searched(**ONE), 2, tmp_path).settings == first.settings


def test_a_failed_trial_counts_and_is_told(tmp_path, monkeypatch):
    calls = []

    def failing(*arguments, **options):
        calls.append(1)
        if len(calls) % 2:
            raise RuntimeError("diverged")
        return validate(*arguments, **options)

    monkeypatch.setattr(tune_module, "validate", failing)
    tune(searched(**ONE), 3, tmp_path)
    log = read_log(tmp_path)
    assert [(trial.state, trial.error) for trial in log] == [
        ("failed", "RuntimeError: diverged"),
        ("complete", None),
        ("failed", "RuntimeError: diverged"),
    ]
    assert log[0].val_accuracy is None


def test_a_search_without_any_result_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(tune_module, "validate", None)
    with pytest.raises(
        ValueError, match=r"Expected a trial of 'gpn/adam' on 'synthetic', class split 0, with a result"
    ):
        tune(searched(**ONE), 2, tmp_path)


def test_a_trial_whose_worker_died_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(tune_module, "HEARTBEAT", 1)
    monkeypatch.setattr(tune_module, "GRACE", 1)
    optuna = tune_module._optuna()
    (tmp_path / "search").mkdir()
    address = f"sqlite:///{tmp_path / 'search.db'}"
    storage = tune_module._storage(address)
    [search] = tune_module._searches(searched(**ONE), 2, tmp_path, address)
    study = optuna.create_study(storage=storage, study_name=search.name, direction="maximize")
    with pytest.warns(UserWarning, match="Heartbeat of storage"):
        dead = study.ask({"optimizer.lr": optuna.distributions.FloatDistribution(1e-3, 1e-1, log=True)})
    storage.record_heartbeat(dead._trial_id)
    time.sleep(2.5)
    trials = run_search(search)
    assert [trial.number for trial in trials] == [1, 2]
    assert trials[0].values == dead.params
    assert study.trials[0].state.name == "FAIL"


def test_seeds_are_averaged(tmp_path, monkeypatch):
    seen = []

    def seeded(config, **options):
        seen.append(config.train.seed)
        return replace(validate(config, **options), accuracy=0.2 + 0.4 * config.train.seed)

    monkeypatch.setattr(tune_module, "validate", seeded)
    tune(searched(**ONE, seeds=2), 1, tmp_path)
    assert seen == [0, 1]
    assert read_log(tmp_path)[0].val_accuracy == pytest.approx(40.0)


def test_objects_are_searched(tmp_path):
    grid = searched(**ONE, graphs=[own_graph()])
    found = tune(grid, 1, tmp_path)
    assert list(found.settings) == [("own", "gpn/adam", 0)]


def test_workers_search_the_same(tmp_path):
    inline = tune(searched(**{**ONE, "splits": 2}), 1, tmp_path / "inline")
    side_by_side = tune(searched(**{**ONE, "splits": 2}), 1, tmp_path / "workers", executor=Processes(workers=2))
    assert side_by_side.settings == inline.settings


def test_without_optuna_the_way_out_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'fgsam\[hpo\]'"):
        tune(searched(), 1, tmp_path)


OTHER = {"name": "synthetic", "num_nodes": 400, "num_classes": 9, "num_features": 40, "words_per_node": 10}


def test_settings_may_come_from_graphs_outside_the_table(tmp_path):
    table = searched(**{**ONE, "splits": 2})
    outside = searched(**{**ONE, "splits": 3, "seeds": 2, "graphs": [OTHER]})
    tuned = tune(table, 2, tmp_path, outside=outside)
    log = read_log(tmp_path)
    assert [(trial.part, trial.split, trial.number) for trial in log] == [("all", "all", 0), ("all", "all", 1)]
    best = max(log, key=lambda trial: trial.val_accuracy)
    assert set(tuned.settings) == {("synthetic", "gpn/adam", split) for split in (0, 1)}
    assert {tuple(found.values.items()) for found in tuned.settings.values()} == {tuple(best.values.items())}
    assert len(best.banks) == 3
    assert {found.graphs for found in tuned.settings.values()} == {best.graphs}
    assert load_grid(tmp_path / "tuned.yaml").settings == tuned.settings
    study = Study(tmp_path / "study", tuned)
    assert all(state.is_finished for _, state in study.run(Inline()))
    assert len(Results.read(study).records) == 2


def test_a_graph_of_the_table_is_not_outside_of_it(tmp_path):
    grid = searched(**ONE)
    with pytest.raises(ValueError, match=r"Expected other graphs outside the table \(got 'synthetic' .* in both\)"):
        tune(grid, 1, tmp_path, outside=grid)
    with pytest.raises(ValueError, match=r"the same arms and ranges \(got none; the table has gpn/adam\)"):
        tune(grid, 1, tmp_path, outside=small_grid(graphs=[OTHER]))


def test_a_setting_that_was_chosen_on_the_same_graph_under_another_name_is_refused(tuned, tmp_path):
    study = Study(tmp_path, small_grid(splits=2))
    assert all(state.is_finished for _, state in study.run(Inline()))
    results = Results.read(study)
    graph = next(iter(results.records.values())).results["digests"]["data"]
    settings = {(cell.part, cell.arm, cell.split): Tuned({}, graphs=(graph,)) for cell in study.grid.cells()}
    with pytest.raises(
        ValueError, match=r"to be chosen on other graphs, or on its own validation bank \(it was chosen on"
    ):
        Results.read(Study(tmp_path, replace(study.grid, settings=settings)))
