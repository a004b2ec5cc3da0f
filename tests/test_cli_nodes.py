from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fgsam.cli import app

TINY = [
    "task=node_classification",
    *("dataset.num_nodes=300", "dataset.num_classes=4", "dataset.num_features=60", "dataset.words_per_node=12"),
    *("optimizer.name=fgsam", "train.num_steps=10"),
]


def call(folder: Path, *args: str) -> Result:
    return CliRunner().invoke(app, [*args, f"run.root={folder}/runs"])


def test_a_run_ends_in_a_table_and_evaluates_again(tmp_path: Path):
    done = call(tmp_path, "run", *TINY)
    assert done.exit_code == 0, done.stderr
    assert "message passing" in done.stdout
    assert "Drawn split 0 of synthetic: 180 nodes train, 60 choose, 60 test" in " ".join(done.stdout.split())
    (directory,) = [path for path in (tmp_path / "runs").iterdir() if path.name != "banks"]
    again = CliRunner().invoke(app, ["evaluate", str(directory)])
    assert again.exit_code == 0, again.stderr
    assert "The stored weights give the stored result." in again.stdout
    assert "nodes" in again.stdout


def test_json_is_one_object_with_the_figures(tmp_path: Path):
    content = json.loads(call(tmp_path, "run", *TINY, "--json").stdout)
    wanted = {"task", "test_accuracy", "test_interval", "val_accuracy", "metric", "split", "num_nodes", "ms_per_step"}
    assert wanted <= set(content)
    assert content["floors"] == {}
    assert content["config"]["task"] == "node_classification"


def test_a_dry_run_writes_nothing_and_names_the_steps(tmp_path: Path):
    done = call(tmp_path, "run", *TINY, "--dry-run")
    assert "training steps at most" in done.stdout
    assert "task: node_classification" in done.stdout
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["episode.n_way=3"], "Expected no 'episode.n_way' with task=node_classification"),
        (["train.batch_size=5000"], "at most the number of training nodes (got batch_size=5000, 180 nodes)"),
        (["dataset.split_kind=public"], "Set dataset.split_kind=drawn"),
        (["--floors"], "Expected no --floors with task=node_classification"),
        (["method.name=sgc_lr"], "of task=few_shot"),
    ],
)
def test_what_does_not_fit_is_one_message_and_exit_code_2(args: list[str], expected: str, tmp_path: Path):
    done = call(tmp_path, "run", *TINY, *args)
    assert done.exit_code == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "runs").glob("synthetic*")) == []
