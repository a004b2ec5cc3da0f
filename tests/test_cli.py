from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from fgsam import cli
from fgsam.cli import app
from fgsam.engine.checkpoint import MAGIC
from tests.processes import Job

TINY = [
    *("dataset.num_nodes=600", "dataset.num_classes=12", "dataset.num_features=100", "dataset.words_per_node=20"),
    *("episode.n_way=2", "episode.k_shot=2", "episode.num_query=3"),
    *("train.num_episodes=20", "train.val_every=10", "train.val_episodes=10", "evaluate.num_episodes=20"),
]


def call(*args: str) -> Result:
    return CliRunner().invoke(app, list(args))


def run_tiny(folder: Path, *args: str) -> Result:
    return call("run", *TINY, f"run.root={folder}/runs", *args)


def result_of(folder: Path, *args: str) -> dict[str, object]:
    done = run_tiny(folder, "--json", *args)
    assert done.exit_code == 0, done.stderr
    content: dict[str, object] = json.loads(done.stdout)
    return content


def fault_of(*args: str, folder: Path) -> str:
    done = run_tiny(folder, *args)
    assert done.exit_code == 2, (done.exit_code, done.stdout, done.exception)
    assert "Traceback" not in done.stderr
    assert done.stderr.rpartition("Error: ")[1]
    return done.stderr


def own_graph(folder: Path, **changes: np.ndarray) -> Path:
    rng = np.random.default_rng(0)
    labels = np.arange(12).repeat(20)
    arrays = {
        "x": rng.random((240, 16), dtype=np.float32),
        "edge_index": rng.integers(0, 240, (2, 900)),
        "labels": labels,
        "directed": np.asarray(False),
    }
    path = folder / "graph.npz"
    np.savez(path, **{**arrays, **changes})
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    return result_of(tmp_path_factory.mktemp("cli"))


def test_json_has_every_promised_key(finished: dict[str, object]):
    promised = (
        "test_accuracy test_interval val_accuracy ms_per_episode peak_memory_mb num_episodes weights_digest run_dir"
    )
    assert {*promised.split(), "config", "floors"} <= set(finished)
    assert 0 <= finished["test_accuracy"] <= 1  # type: ignore[operator]
    assert Path(str(finished["run_dir"])).is_dir()
    assert finished["config"]["optimizer"]["name"] == "fgsam_plus"  # type: ignore[index]


def test_floors_are_tested_on_the_same_episodes(finished: dict[str, object]):
    floors = finished["floors"]
    assert set(floors) == {"raw_lr", "sgc_lr", "sgc_prototype"}  # type: ignore[call-overload]
    banks = set()
    for directory in [finished["run_dir"], *(floor["run_dir"] for floor in floors.values())]:  # type: ignore[attr-defined]
        result = json.loads((Path(str(directory)) / "result.json").read_text())
        banks.add(result["results"]["digests"]["test_bank"])
    assert len(banks) == 1


def test_a_run_ends_in_a_table_with_the_floors_and_the_place(finished: dict[str, object]):
    folder = Path(str(finished["run_dir"])).parent
    done = call("run", *TINY, f"run.root={folder}")
    assert done.exit_code == 0, done.stderr
    for text in ("test accuracy", "ms an episode", "±", "raw_lr", "sgc_lr", "sgc_prototype", "2-way 2-shot"):
        assert text in done.stdout
    assert f"Saved in {finished['run_dir']}" in done.stdout


def test_uneven_queries_and_missing_validation_classes_are_said(finished: dict[str, object], tmp_path: Path):
    even = call("run", *TINY, f"run.root={Path(str(finished['run_dir'])).parent}")
    assert "balanced" not in even.stdout
    assert "no validation classes" not in even.stdout
    rng = np.random.default_rng(0)
    path = own_graph(tmp_path, labels=rng.permutation(np.arange(4).repeat(60)))
    episode = ["episode.n_way=2", "episode.k_shot=2", "episode.num_query=5", "episode.query_imbalance=2"]
    train = ["train.num_episodes=10", "train.val_episodes=5", "evaluate.num_episodes=5"]
    done = call("run", f"dataset.path={path}", f"run.root={tmp_path}/runs", *episode, *train)
    assert done.exit_code == 0, done.stderr
    assert "balanced accuracy" in done.stdout
    assert "The split has no validation classes: weights and settings were chosen on training classes." in done.stdout


def test_a_learner_below_a_floor_is_called_so(finished: dict[str, object]):
    folder = Path(str(finished["run_dir"])).parent
    done = call("run", *TINY, f"run.root={folder}")
    best_floor = max(floor["test_accuracy"] for floor in finished["floors"].values())  # type: ignore[attr-defined]
    assert ("is below the floor" in done.stdout) == (finished["test_accuracy"] < best_floor)


def test_floors_can_be_left_out(tmp_path: Path):
    assert result_of(tmp_path, "--no-floors", "method.name=protonet")["floors"] == {}


def test_a_floor_is_a_run_of_its_own(tmp_path: Path):
    found = result_of(tmp_path, "method.name=sgc_lr")
    assert set(found["floors"]) == {"raw_lr", "sgc_prototype"}  # type: ignore[call-overload]
    assert found["weights_digest"] is None


def test_evaluate_repeats_the_stored_result(finished: dict[str, object]):
    done = call("evaluate", str(finished["run_dir"]))
    assert done.exit_code == 0, done.stderr
    assert "The stored weights give the stored result." in done.stdout


def test_dry_run_names_the_directory_and_writes_nothing(finished: dict[str, object], tmp_path: Path):
    folder = tmp_path / "none"
    done = call("run", *TINY, f"run.root={folder}", "--dry-run")
    assert done.exit_code == 0, done.stderr
    assert "n_way: 2" in done.stdout
    assert "training episodes at most" in done.stdout
    assert str(folder / Path(str(finished["run_dir"])).name) in done.stdout
    assert not folder.exists()


def test_dry_run_prints_one_json_object(tmp_path: Path):
    done = run_tiny(tmp_path, "--dry-run", "--json")
    assert set(json.loads(done.stdout)) == {"run_dir", "num_episodes", "config"}


def test_config_show_names_value_source_and_meaning():
    done = call("config", "show", "coauthor_cs/gpn", "episode.n_way=2")
    assert done.exit_code == 0, done.stderr
    lines = {
        line.split()[0]: " ".join(line.split()[1:]) for line in done.stdout.splitlines() if "." in line.split("  ")[0]
    }
    assert lines["episode.n_way"] == "2 command line classes in an episode"
    assert lines["dataset.name"].startswith("coauthor_cs file named graph")
    assert lines["episode.k_shot"].startswith("3 default")


@pytest.mark.parametrize("verb", ["optimizers", "methods"])
def test_tables_list_every_entry(verb: str):
    from fgsam.registry import METHODS, OPTIMIZERS

    done = call(verb)
    assert done.exit_code == 0, done.stderr
    for name in {"optimizers": OPTIMIZERS, "methods": METHODS}[verb]:
        assert name in done.stdout.split()


def test_all_faults_of_a_config_are_shown(tmp_path: Path):
    text = fault_of("method.name=gnp", "train.patience=0", "episode.n_wya=3", folder=tmp_path)
    assert "got 3 faults" in text
    assert "Did you mean 'gpn'" in text
    assert "'train.patience' to be greater than or equal to 1" in text
    assert "Did you mean 'n_way'" in text


def test_two_configs_are_too_many(tmp_path: Path):
    assert "Expected one config and overrides" in fault_of("quickstart", "coauthor_cs/gpn", folder=tmp_path)


def test_an_unknown_config_file_is_named(tmp_path: Path):
    assert "Did you mean 'quickstart'" in fault_of("quickstrat", folder=tmp_path)


def test_a_missing_option_value_is_a_usage_error():
    done = call("run", "--jsn")
    assert done.exit_code == 2
    assert "No such option" in done.stderr


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("episode.n_way=9", "at least 2 * n_way = 18 classes with k_shot + num_query = 5 nodes"),
        ("episode.num_query=400", "k_shot + num_query = 402 nodes"),
        ("episode.n_way=five", "'episode.n_way' to be a valid integer (got episode.n_way='five')"),
        ("optimiser.lr=1", "Did you mean 'optimizer'"),
        ("optimizer.name=fgsamm", "Did you mean 'fgsam'"),
        ("optimizer.rho=-1", "'rho' to be at least 0"),
        ("optimizer.lr=.inf", "'optimizer.lr' to be a finite number"),
        ("encoder.dropout=2", "'dropout' to be between 0 and 1"),
        ("encoder.hidden=1000000000000", "Expected the run to fit into memory"),
        ("encoder.name=no_such_module:Net", "'no_such_module:Net' to be importable (No module named"),
        ("dataset.split=nope", "one of the class splits of 'synthetic' (got 'nope'). There are 0 to 19."),
        ("lr=0.1", "Did you mean optimizer.lr=0.1?"),
        ("dataset.homophily=3", "'homophily' to be between 0 and 1"),
    ],
)
def test_a_value_that_does_not_fit_is_named(override: str, message: str, tmp_path: Path):
    text = fault_of(override, folder=tmp_path)
    assert "Expected" in text
    assert message in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edge_index": np.array([[0, 240], [1, 2]])}, "'edge_index' to name nodes 0..239 (got edge 1: 240 -> 2)"),
        ({"x": np.full((240, 16), np.nan, dtype=np.float32)}, "finite numbers in 'x'"),
        ({"x": np.full((240, 16), np.inf, dtype=np.float32)}, "(got inf at [0, 0]). Replace NaN and infinite values"),
        ({"labels": np.arange(12).repeat(19)}, "'labels' to hold one class a node (got shape [228] for 240 nodes)"),
        ({"x": np.array([{}] * 240)}, "never unpickled"),
    ],
)
def test_a_broken_own_graph_is_named(changes: dict[str, np.ndarray], message: str, tmp_path: Path):
    path = own_graph(tmp_path, **changes)
    done = call("run", f"dataset.path={path}", f"run.root={tmp_path}/runs", *TINY[4:])
    assert done.exit_code == 2, done.exception
    assert message in done.stderr


def test_an_own_graph_runs(tmp_path: Path):
    done = call("run", f"dataset.path={own_graph(tmp_path)}", f"run.root={tmp_path}/runs", "--no-floors", *TINY[4:])
    assert done.exit_code == 0, done.stderr


def test_a_missing_own_graph_is_named(tmp_path: Path):
    done = call("run", f"dataset.path={tmp_path}/none.npz", f"run.root={tmp_path}/runs")
    assert done.exit_code == 2
    assert f"{tmp_path}/none.npz" in done.stderr


@pytest.mark.parametrize(
    ("net", "optimizer", "message"),
    [
        ("CoupledNet", "adam", "or pass allow_inexact=True, which is recorded in the results"),
        ("CoupledNet", "fgsam", "rows depend on unrelated ones through norm (PairNorm)"),
        ("CachedNet", "adam", "got cached=True in 'conv' (GCNConv)). Build them with cached=False"),
        ("WeighedTwiceNet", "adam", "conv (GCNConv), which normalises them a second time"),
        ("DifferenceNet", "fgsam", "well-defined peer MLP (got 'module.conv', a EdgeConv)"),
        ("ChebNet", "fgsam_plus", "use K=1, TAGConv or GCNConv. Or train with an optimizer that needs no peer"),
    ],
)
def test_a_module_that_cannot_be_used_is_refused(net: str, optimizer: str, message: str, tmp_path: Path):
    text = fault_of(f"encoder.name=tests.nets:{net}", f"optimizer.name={optimizer}", folder=tmp_path)
    assert message in text


def test_a_dry_run_finds_the_same_faults(tmp_path: Path):
    assert "well-defined peer MLP" in fault_of("--dry-run", "encoder.name=tests.nets:ChebNet", folder=tmp_path)
    assert not (tmp_path / "runs").exists()


def test_a_fault_in_own_code_names_file_and_line_and_how_to_see_more(tmp_path: Path):
    text = fault_of("encoder.name=tests.nets:FailingNet", folder=tmp_path)
    assert re.search(r"nets\.py to run, line \d+ \(got KeyError: 'convs'\)\. Set FGSAM_TRACEBACK=1", text)


@pytest.mark.parametrize(
    ("content", "reason"), [("def x(:", "SyntaxError: invalid syntax"), ("1 / 0", "ZeroDivisionError: division")]
)
def test_own_code_that_cannot_be_imported_is_named(
    content: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    name = f"broken_{len(content)}"
    (tmp_path / f"{name}.py").write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    text = fault_of(f"encoder.name={name}:Net", folder=tmp_path)
    assert f"Expected encoder '{name}:Net' to be importable ({reason}" in text


def test_a_fault_of_the_package_itself_is_not_hidden(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fgsam.cli_tables.summary", {}.__getitem__)
    assert isinstance(call("methods").exception, KeyError)


def test_modules_beside_the_config_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(tmp_path))])
    monkeypatch.setattr(cli, "app", lambda: None)
    monkeypatch.setattr(signal, "signal", lambda *args: None)
    cli.main()
    assert sys.path[-1] == str(tmp_path)


def test_a_terminal_without_the_sign_still_gets_the_table(finished: dict[str, object]):
    folder = Path(str(finished["run_dir"])).parent
    command = [sys.executable, "-m", "fgsam", "run", "--no-floors", *TINY, f"run.root={folder}"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert " ? " in done.stdout


def test_faults_print_nothing_on_standard_output(tmp_path: Path):
    assert run_tiny(tmp_path, "--json", "episode.n_way=9").stdout == ""


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_non_finite_loss_stops_with_the_episode_the_norms_and_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    diverging = ("optimizer.name=sgd", "optimizer.lr=1e30")
    text = fault_of(*diverging, folder=tmp_path)
    assert re.search(r"Stopped in episode \d+ \(classes \[.*\], weight norm inf\): .*gradient norm nan", text)
    assert "No checkpoint was saved before." in text
    monkeypatch.setattr("fgsam.engine.record.SAVE_SECONDS", 0.0)
    text = fault_of(*diverging, folder=tmp_path)
    assert re.search(r"The last good checkpoint is .*checkpoint\.fgsam", text)


@pytest.mark.parametrize("damage", [b"", b"PK nonsense", None])
def test_a_damaged_checkpoint_is_refused(damage: bytes | None, tmp_path: Path):
    directory = Path(str(result_of(tmp_path, "--no-floors")["run_dir"]))
    (directory / "result.json").unlink()
    checkpoint = directory / "checkpoint.fgsam"
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: len(content) // 2] if damage is None else damage)
    text = fault_of("--no-floors", folder=tmp_path)
    expected = "to match its own sha256: it is cut short" if damage is None else "to be a checkpoint of fgsam"
    assert f"Expected {checkpoint} {expected}" in text
    assert "run again" in text


class Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (os.environ["FGSAM_TRAP"],)


def test_a_foreign_checkpoint_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FGSAM_TRAP", str(tmp_path / "sprung"))
    directory = Path(str(result_of(tmp_path, "--no-floors")["run_dir"]))
    (directory / "result.json").unlink()
    checkpoint = directory / "checkpoint.fgsam"
    torch.save({"trainer": Trap()}, checkpoint)
    foreign = checkpoint.read_bytes()
    assert f"Expected {checkpoint} to be a checkpoint of fgsam" in fault_of("--no-floors", folder=tmp_path)
    checkpoint.write_bytes(MAGIC + hashlib.sha256(foreign).hexdigest().encode() + b"\n" + foreign)
    assert "to hold tensors and plain values only" in fault_of("--no-floors", folder=tmp_path)
    assert not (tmp_path / "sprung").exists()


def test_a_changed_result_is_refused(tmp_path: Path):
    directory = Path(str(result_of(tmp_path, "--no-floors")["run_dir"]))
    text = (directory / "result.json").read_text()
    (directory / "result.json").write_text(text.replace('"test_accuracy": 0.', '"test_accuracy": 1.'))
    assert "digest" in fault_of("--no-floors", folder=tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "runs").write_text("a file")
    text = fault_of(folder=tmp_path)
    assert f"Expected '{tmp_path}/runs/banks' to be a folder that can be made" in text
    assert "Choose another run.root." in text


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fgsam.files.os.fsync", full)
    text = fault_of(folder=tmp_path)
    assert "No space left on device" in text
    assert "Free space" in text


def test_evaluate_of_no_run_is_a_fault(tmp_path: Path):
    done = call("evaluate", str(tmp_path / "none"))
    assert done.exit_code == 2
    assert "to be a run directory" in done.stderr
    done = call("evaluate", str(tmp_path))
    assert done.exit_code == 2
    assert "to hold a finished run" in done.stderr


def test_a_traceback_is_shown_on_request(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FGSAM_TRACEBACK", "1")
    with pytest.raises(ValueError, match="Expected a known section"):
        CliRunner().invoke(app, ["run", "a.b=1"], catch_exceptions=False)


def endless_run(root: Path) -> None:
    """What a process does until it is stopped."""
    endless = ("train.num_episodes=1000000", "train.patience=1000000")
    sys.argv = ["fgsam", "run", *TINY, f"run.root={root}", *endless]
    cli.main()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_at_the_next_episode_and_says_how_to_go_on(number: signal.Signals, tmp_path: Path):
    root = tmp_path / "runs"
    job = Job(tmp_path / "output.txt", endless_run, root)
    limit = time.monotonic() + 60
    while not list(root.glob("*/log.jsonl")) and time.monotonic() < limit:
        time.sleep(0.1)
    time.sleep(0.5)
    os.kill(job.process.pid, number)
    assert job.wait(60) == 130
    assert "Run the same command again to go on" in job.text()
    assert "Traceback" not in job.text()


def test_a_callback_hears_of_the_training(tmp_path: Path):
    done = run_tiny(tmp_path, "--no-floors", "--callback", "tensorboard")
    assert done.exit_code == 0, done.output
    assert list(tmp_path.glob("runs/*/tensorboard/events.*"))


def test_an_unknown_callback_is_named(tmp_path: Path):
    done = run_tiny(tmp_path, "--callback", "tensorbord")
    assert done.exit_code == 2
    assert "Did you mean 'tensorboard'" in done.stderr


SMALL = [text for text in TINY if text.startswith("dataset.")]


def test_advice_is_one_json_object():
    done = call("advise", "synthetic", *SMALL, "encoder.hidden=8", "--encoder", "sgc", "--seconds", "1", "--json")
    assert done.exit_code == 2  # sgc has no such option
    assert "encoder.hidden" in done.stderr
    done = call("advise", "synthetic", *SMALL, "--encoder", "sgc", "--seconds", "1", "--json")
    assert done.exit_code == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["encoder"]["name"] == "sgc"
    assert content["suggestion"] in ("sam", "fgsam", "fgsam_plus")
    assert 0 < content["homophily"]["edge"] < 1


def test_advice_ends_in_a_suggestion():
    done = call("advise", "synthetic", *SMALL, "--seconds", "1")
    assert done.exit_code == 0, done.stderr
    assert re.search(r"^Suggested: (sam|fgsam|fgsam_plus)$", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["texs"], "Did you mean 'texas'"),
        (["synthetic", "--encoder", "gcnn"], "Did you mean 'gcn'"),
        (["synthetic", "train.lr=1"], "Expected settings of the encoder or the graph (got 'train.lr=1')"),
        (["synthetic", "--seconds", "0"], "Expected 'seconds' to be positive"),
        (["missing.npz"], "missing.npz"),
    ],
)
def test_advice_on_what_is_not_there_is_a_fault(arguments: list[str], message: str):
    done = call("advise", *arguments)
    assert done.exit_code == 2, (done.exit_code, done.exception)
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_advice_without_labels_is_a_fault(tmp_path: Path):
    done = call("advise", str(own_graph(tmp_path, labels=np.full(240, -1))))
    assert done.exit_code == 2
    assert "labelled nodes" in done.stderr
