from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from fgsam.comparison.executors.inline import Inline
from fgsam.comparison.executors.processes import Processes
from fgsam.comparison.results import Results
from fgsam.comparison.study import State, Study, read_state, run_task, write_state
from fgsam.data import own
from fgsam.engine.interrupts import Interrupted
from fgsam.locks import try_lock
from fgsam.optim.sam import SAM
from tests.comparison.grids import own_graph, small_grid


def finished(folder, grid, executor=None):
    study = Study(folder, grid)
    return study, dict(study.run(executor or Inline()))


def results_of(study: Study) -> dict[str, str]:
    """The result of each run, times left out."""
    found = {}
    for path in sorted((study.folder / "runs").glob("*/result.json")):
        content = json.loads(path.read_text())
        found[path.parent.name] = json.dumps([content["results"], content["digest"]], sort_keys=True)
    return found


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("study"), small_grid())[0]


def test_every_cell_has_a_finished_run(done):
    results = Results.read(done)
    assert set(results.records) == set(done.grid.cells())
    assert not results.failed
    assert not results.missing
    assert len(results_of(done)) == 9


def test_finished_runs_keep_their_weights_and_no_checkpoint(done):
    for record in Results.read(done).records.values():
        trained = {"weights.fgsam", "log.jsonl"} if record.results["is_trained"] else set()
        assert {path.name for path in record.directory.iterdir()} == {"config.yaml", "lock", "result.json", *trained}


def test_finished_runs_are_only_read(done, monkeypatch):
    monkeypatch.setattr("fgsam.engine.run.execute", None)
    assert {state.run for _, state in done.run(Inline())} == set(results_of(done))


def test_a_larger_grid_computes_what_is_new(done, tmp_path, monkeypatch):
    shutil.copytree(done.folder, tmp_path / "study")
    started = []
    study = Study(tmp_path / "study", small_grid(splits=4))
    states = dict(study.run(Inline(), on_start=started.append))
    assert {cell.split for cell in started} == {3}
    assert len(states) == 12


def test_processes_and_inline_give_the_same_bits(done, tmp_path):
    study, _ = finished(tmp_path, small_grid(), Processes(workers=2))
    assert results_of(study) == results_of(done)


def test_a_failed_run_is_recorded_and_stops_no_other(tmp_path):
    bad = {"method": "gpn", "optimizer": {"name": "sgd", "lr": 1e30}, "label": "far"}
    grid = small_grid(arms=[bad, {"method": "gpn", "optimizer": "adam"}], splits=1, floors=False)
    study, states = finished(tmp_path, grid)
    errors = {cell.arm: state.error for cell, state in states.items()}
    assert errors["gpn/adam"] is None
    assert "NonFiniteLossError" in errors["far"]
    assert Results.read(study).failed == {cell: errors["far"] for cell in states if cell.arm == "far"}


def test_failed_runs_are_started_again_on_demand(tmp_path):
    study = Study(tmp_path, small_grid(splits=1))
    (tmp_path / "cells").mkdir()
    for task in study.tasks.values():
        write_state(tmp_path, task.key, State(None, "OSError: full disk", 1.0))
    assert all(state.error for _, state in study.run(Inline()))
    assert all(state.is_finished for _, state in study.run(Inline(), retry_failed=True))


def test_a_run_under_way_elsewhere_is_left_to_its_launcher(tmp_path):
    study = Study(tmp_path, small_grid(splits=1))
    task = next(iter(study.tasks.values()))
    (tmp_path / "cells").mkdir()
    with open(tmp_path / "cells" / f"{task.key}.lock", "a") as file:
        assert try_lock(file)
        assert not isinstance(run_task(task), State)
    assert isinstance(run_task(task), State)


def test_a_result_that_was_deleted_is_computed_again(done, tmp_path):
    shutil.copytree(done.folder, tmp_path / "study")
    study = Study(tmp_path / "study", done.grid)
    cell = next(iter(study.tasks))
    shutil.rmtree(study.folder / "runs" / study.state(cell).run)
    assert study.state(cell) is None
    assert len(Results.read(study).missing) == 1
    started = []
    list(study.run(Inline(), on_start=started.append))
    assert started == [cell]
    assert results_of(study) == results_of(done)


def test_a_damaged_note_counts_as_not_done(done, tmp_path):
    shutil.copytree(done.folder, tmp_path / "study")
    study = Study(tmp_path / "study", done.grid)
    task = next(iter(study.tasks.values()))
    path = study.folder / "cells" / f"{task.key}.json"
    path.write_text(path.read_text().replace("gpn", "gpm"))
    assert read_state(study.folder, task.key) is None


def test_runs_of_other_files_or_objects_are_other_runs(tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        own.save(own_graph(seed=seed), tmp_path / f"{name}.npz")
    study = Study(tmp_path, small_grid(graphs=[str(tmp_path / "a.npz"), str(tmp_path / "b.npz")], splits=1))
    assert len({task.key for task in study.tasks.values()}) == len(study.tasks) == 6

    def rule(size):
        class Own(SAM):
            def __init__(self, params, base, *, lr):
                super().__init__(params, base, rho=size, lr=lr)

        return Own

    arms = [{"method": "gpn", "optimizer": rule(size), "label": str(size)} for size in (0.1, 5.0)]
    study = Study(tmp_path, small_grid(arms=arms, splits=1, floors=False))
    assert len({task.key for task in study.tasks.values()}) == 2


def test_a_changed_file_is_computed_again(tmp_path):
    own.save(own_graph(), tmp_path / "a.npz")
    grid = small_grid(graphs=[str(tmp_path / "a.npz")], splits=1, arms=[{"method": "raw_lr"}])
    finished(tmp_path / "study", grid)
    cell = next(grid.cells())
    assert Study(tmp_path / "study", grid).state(cell) is not None
    own.save(own_graph(seed=1), tmp_path / "a.npz")
    assert Study(tmp_path / "study", grid).state(cell) is None


def test_objects_are_never_taken_from_notes(tmp_path):
    grid = small_grid(graphs=[own_graph()], splits=1, arms=[{"method": "raw_lr"}])
    study, states = finished(tmp_path, grid)
    started = []
    list(study.run(Inline(), on_start=started.append))
    assert len(started) == len(states) == 1


def test_an_interrupt_keeps_what_is_there(tmp_path, monkeypatch):
    import fgsam.engine.run as engine

    execute, calls = engine.execute, []

    def stopped(*args, **kwargs):
        calls.append(args)
        if len(calls) == 3:
            raise Interrupted("Stopped.")
        return execute(*args, **kwargs)

    monkeypatch.setattr(engine, "execute", stopped)
    study = Study(tmp_path, small_grid(splits=2))
    with pytest.raises(Interrupted, match="the same command goes on"):
        list(study.run(Inline()))
    assert len(results_of(study)) == 2
    monkeypatch.undo()
    assert all(state.is_finished for _, state in study.run(Inline()))


def test_equal_runs_of_two_cells_are_one(tmp_path):
    grid = small_grid(
        splits=1, arms=[{"method": "raw_lr", "label": "one"}, {"method": "raw_lr", "label": "two"}], floors=False
    )
    study, states = finished(tmp_path, grid)
    assert len({state.run for state in states.values()}) == 1
    assert np.isclose(*[record.accuracy for record in Results.read(study).records.values()])
