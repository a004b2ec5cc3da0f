from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from fgsam.comparison.executors.inline import Inline
from fgsam.comparison.move import FORMAT, pack_study, unpack_study
from fgsam.comparison.results import Results
from fgsam.comparison.sealed import read_sealed, write_sealed
from fgsam.comparison.study import State, Study, read_state, write_state
from fgsam.comparison.times import ArmTime, read_times, write_times
from fgsam.engine.record import content_hash
from fgsam.report.comparison import Comparison
from tests.comparison.grids import small_grid


def results_of(study):
    """The result of each run, times left out."""
    files = sorted((study.folder / "runs").glob("*/result.json"))
    return {path.parent.name: json.loads(path.read_text())["results"] for path in files}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    study = Study(tmp_path_factory.mktemp("done"), small_grid())
    list(study.run(Inline()))
    return study


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A study that was left after four of nine runs."""
    study = Study(tmp_path_factory.mktemp("half"), small_grid())
    running = study.run(Inline())
    for _ in range(4):
        next(running)
    running.close()
    return study


@pytest.fixture(scope="module")
def file(half, tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "half.npz"
    assert pack_study(half.folder, path) == 4
    return path


def arrays_of(file):
    return read_sealed(file, FORMAT, way_out="")[0]


def repacked(file, path, change):
    arrays = arrays_of(file)
    ends = np.cumsum(arrays["sizes"]).tolist()
    parts = [part.tobytes() for part in np.split(arrays["content"], ends[:-1])]
    contents = change(dict(zip(arrays["names"].tolist(), parts, strict=True)))
    joined = np.frombuffer(b"".join(contents.values()), np.uint8)
    sizes = np.array([len(content) for content in contents.values()])
    write_sealed(path, FORMAT, {"names": np.array(list(contents)), "sizes": sizes, "content": joined})
    return path


def test_a_moved_study_runs_the_rest_only_and_ends_with_the_same_bits(done, half, file, tmp_path):
    moved = unpack_study(file, tmp_path / "study")
    assert (set(moved.added), moved.kept) == (set(results_of(half)), ())
    study, started = Study(tmp_path / "study", small_grid()), []
    finished = {cell for cell in study.tasks if study.state(cell) is not None}
    assert len(finished) == 4
    states = dict(study.run(Inline(), on_start=started.append))
    assert set(started) == set(study.tasks) - finished
    assert all(state.is_finished for state in states.values())
    assert results_of(study) == results_of(done)
    assert len(Results.read(study).records) == 9


def test_all_files_of_a_finished_run_arrive(half, file, tmp_path):
    unpack_study(file, tmp_path)
    assert (tmp_path / "grid.yaml").read_bytes() == (half.folder / "grid.yaml").read_bytes()
    runs = [path for path in half.folder.glob("runs/*/*") if path.name not in ("lock", "checkpoint.fgsam")]
    runs = [path for path in runs if path.parent.name != "banks"]
    assert {path.name for path in runs} == {"config.yaml", "log.jsonl", "weights.fgsam", "result.json"}
    for path in runs:
        assert (tmp_path / path.relative_to(half.folder)).read_bytes() == path.read_bytes()


def test_weights_can_stay_behind(half, file, tmp_path):
    pack_study(half.folder, tmp_path / "light.npz", weights=False)
    assert (tmp_path / "light.npz").stat().st_size < file.stat().st_size
    unpack_study(tmp_path / "light.npz", tmp_path / "study")
    assert not list((tmp_path / "study").glob("runs/*/weights.fgsam"))
    assert sum(Study(tmp_path / "study", small_grid()).state(cell) is not None for cell in small_grid().cells()) == 4


def test_losses_can_stay_behind_and_validations_do_not(done, tmp_path):
    for losses, name in ((True, "all.npz"), (False, "light.npz")):
        pack_study(done.folder, tmp_path / name, weights=False, losses=losses)
    assert (tmp_path / "light.npz").stat().st_size < (tmp_path / "all.npz").stat().st_size
    unpack_study(tmp_path / "light.npz", tmp_path / "study")
    study = Study(tmp_path / "study", small_grid())
    logs = sorted(done.folder.glob("runs/*/log.jsonl"))
    assert logs
    for log in logs:
        lines = [line for line in log.read_text().splitlines() if "loss" not in json.loads(line)]
        assert (study.folder / log.relative_to(done.folder)).read_text().splitlines() == lines != []
    assert results_of(study) == results_of(done)
    tables = [Comparison(Results.read(one)).table("budgets") for one in (done, study)]
    assert tables[0] == tables[1]


def test_measured_times_go_along_and_those_that_are_there_stay(done, tmp_path):
    shutil.copytree(done.folder, tmp_path / "timed")
    times = (ArmTime("tiny", "protonet/adam", 1.0, 0.9, 1.1, {}),)
    write_times(tmp_path / "timed", times)
    pack_study(tmp_path / "timed", tmp_path / "file.npz", weights=False)
    unpack_study(tmp_path / "file.npz", tmp_path / "study")
    assert read_times(tmp_path / "study") == times
    write_times(tmp_path / "study", ())
    unpack_study(tmp_path / "file.npz", tmp_path / "study")
    assert read_times(tmp_path / "study") == ()
    bad = repacked(tmp_path / "file.npz", tmp_path / "bad.npz", lambda contents: {**contents, "times.json": b"{}"})
    with pytest.raises(ValueError, match="to hold times in the format"):
        unpack_study(bad, tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"sizes": np.array([3])},
        {"sizes": np.array([-1, 1])},
        {"names": np.array([1, 2])},
        {"content": np.zeros((1, 2), np.uint8)},
        {"more": np.zeros(1)},
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(file, tmp_path, changes):
    write_sealed(tmp_path / "bad.npz", FORMAT, {**arrays_of(file), **changes})
    with pytest.raises(ValueError, match=r"Expected '.*bad.npz' to hold"):
        unpack_study(tmp_path / "bad.npz", tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_finished_runs_stay_and_the_others_are_filled_in(done, file, half, tmp_path):
    shutil.copytree(done.folder, tmp_path / "study")
    study = Study(tmp_path / "study", done.grid)
    first, second, *_ = (cell for cell in study.tasks if half.state(cell) is not None)
    kept = study.folder / "runs" / study.state(first).run / "result.json"
    content = json.loads(kept.read_text())
    kept.write_text(json.dumps({**content, "timing": {"mine": 1}}))
    before = kept.read_bytes()
    lost = study.folder / "runs" / study.state(second).run
    (lost / "result.json").unlink()
    moved = unpack_study(file, study.folder)
    assert kept.read_bytes() == before
    assert moved.added == (lost.name,)
    assert len(moved.kept) == 3
    assert not (lost / "checkpoint.fgsam").exists()
    assert results_of(study) == results_of(done)
    assert unpack_study(file, study.folder).added == ()


def test_a_run_that_has_failed_here_counts_as_done_afterwards(half, file, tmp_path):
    study = Study(tmp_path, small_grid())
    (tmp_path / "cells").mkdir()
    for task in study.tasks.values():
        write_state(tmp_path, task.key, State(None, "OSError: full disk", 1.0))
    unpack_study(file, tmp_path)
    assert sum(study.state(cell).is_finished for cell in study.tasks) == 4


def test_a_folder_without_finished_runs_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"to hold finished runs of a comparison \(there are none\)"):
        pack_study(tmp_path, tmp_path / "file.npz")
    assert not (tmp_path / "file.npz").exists()


def test_a_damaged_run_is_not_packed(half, tmp_path):
    shutil.copytree(half.folder, tmp_path / "study")
    result = next((tmp_path / "study").glob("runs/*/result.json"))
    result.write_text(result.read_text().replace('"test_accuracy": 0.', '"test_accuracy": 0.9'))
    with pytest.raises(ValueError, match="to match its own digest"):
        pack_study(tmp_path / "study", tmp_path / "file.npz")


@pytest.mark.parametrize(
    "name",
    [
        "../escaped",
        "/tmp/escaped",
        "runs/../../result.json",
        "runs/./result.json",
        "runs/a/../result.json",
        "runs/a/b/result.json",
        "runs/a/config.yaml\n",
        "runs/a/lock",
        "cells/0123456789abcdef.lock",
        "cells/../grid.yaml",
        "runs/times.json",
    ],
)
def test_other_names_are_refused_before_anything_is_written(file, tmp_path, name):
    bad = repacked(file, tmp_path / "bad.npz", lambda contents: {**contents, name: b"x"})
    with pytest.raises(ValueError, match="to hold files of a study and nothing else"):
        unpack_study(bad, tmp_path / "to" / "study")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.npz"]


def altered(change):
    """A change of the results of one run, with a digest that fits."""

    def apply(contents):
        name = next(name for name in contents if name.endswith("result.json"))
        content = json.loads(contents[name])
        change(content["results"])
        content["digest"] = content_hash(content["results"])
        return {**contents, name: json.dumps(content).encode()}

    return apply


def without(ending):
    return lambda contents: {name: content for name, content in contents.items() if not name.endswith(ending)}


def cell_elsewhere(contents):
    name = next(name for name in contents if name.startswith("cells/"))
    content = {**json.loads(contents[name]), "run": "../../elsewhere"}
    content.pop("digest")
    return {**contents, name: json.dumps({**content, "digest": content_hash(content)}).encode()}


def damaged(contents):
    name = next(name for name in contents if name.endswith("result.json"))
    return {**contents, name: contents[name].replace(b'"test_accuracy": 0.', b'"test_accuracy": 0.9')}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (damaged, "to match its own digest"),
        (altered(lambda results: results.update(results_version=0)), r"of results_version 1 \(got 0\)"),
        (without("config.yaml"), "to hold the config of this run"),
        (without("result.json"), "got no result.json"),
        (cell_elsewhere, "a whole run for each cell"),
        (lambda contents: {"grid.yaml": contents["grid.yaml"]}, "a whole run for each cell"),
    ],
)
def test_whole_files_with_bad_runs_are_refused_before_anything_is_written(file, tmp_path, change, reason):
    bad = repacked(file, tmp_path / "bad.npz", change)
    with pytest.raises(ValueError, match=reason) as caught:
        unpack_study(bad, tmp_path / "study")
    assert "bad.npz" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.npz"]


def test_damaged_files_are_refused(file, tmp_path):
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 4
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"to match its own digest .* pack the study again"):
        unpack_study(tmp_path / "bad.npz", tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_a_run_without_a_cell_here_is_read_by_its_key(half, file, tmp_path):
    unpack_study(file, tmp_path)
    for path in half.folder.glob("cells/*.json"):
        assert read_state(tmp_path, path.stem) == read_state(half.folder, path.stem)
