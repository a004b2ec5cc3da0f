from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fgsam.cli import app

ROOT = Path(__file__).parents[1]
SHORT = sorted(path for path in (ROOT / "examples").glob("*.py") if path.stem != "own_graph")
"""All but the one that writes a page of the docs."""


def example(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def without_measured_figures(page: str) -> list[str]:
    """The lines of a page; those of the last command, a run, without digits, progress and the width of columns."""
    fixed, command, run = page.rpartition("$ fgsam run")
    run = re.sub(r"-[0-9a-f]{12}\b|\d[\d.,:]*|[─ ]+", " ", run)
    return [*(fixed + command).splitlines(), *(line for line in run.splitlines() if not line.startswith("Episode"))]


def test_the_transcript_in_the_docs_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def execute(folder: Path, words: list[str]) -> str:
        return CliRunner(env={"COLUMNS": "100", "NO_COLOR": "1"}).invoke(app, words[1:]).output

    page = example("own_graph").transcript(tmp_path, execute)
    kept = (ROOT / "docs/own_graph_transcript.md").read_text(encoding="utf-8")
    assert without_measured_figures(page) == without_measured_figures(kept)
    assert page.count("Error: ") == 4
    assert "test accuracy" in page


@pytest.mark.parametrize("path", SHORT, ids=lambda path: path.stem)
def test_an_example_is_short_and_listed(path: Path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 60
    listed = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    assert f"| [{path.name}]({path.name}) |" in listed


@pytest.mark.dataset
@pytest.mark.usefixtures("data_root")
def test_fgsam_in_a_plain_loop_learns_cora():
    assert example("pyg_loop").main(num_epochs=30) > 0.7


@pytest.mark.dataset
@pytest.mark.usefixtures("data_root")
def test_fgsam_plus_beats_the_largest_class_of_a_heterophilic_graph():
    accuracy, num_gnn_passes = example("heterophilic").main(num_epochs=20)
    assert accuracy > 0.3  # the largest class has 27 %
    assert num_gnn_passes == 10


def test_own_episodes_beat_chance_on_new_classes():
    assert example("own_episodes").main(num_episodes=30) > 0.8


def test_fields_of_a_large_graph_hold_a_fraction_of_a_full_pass():
    field, full = example("large_graph").main(num_nodes=5000, num_steps=2, batch_size=8)
    assert 0 < field < full / 5


def test_a_method_of_plain_numpy_is_scored_beside_every_arm_of_a_pack():
    found = example("score_a_pack").main(num_episodes=5)
    assert [str(finding.hypothesis) for finding in found.findings] == [
        f"yours above {arm}" for arm in ("gpn/adam", "gpn/fgsam", "raw_lr", "sgc_prototype")
    ]
    scores = found.scores["synthetic"]
    assert min(scores["yours"].values()) > 50  # guessing
    assert abs(found.findings[2].mean.mean) < 3  # logistic regression on the same features


@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.* is deprecated")
@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
def test_a_lightning_module_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("lightning")
    monkeypatch.chdir(tmp_path)
    assert example("lightning_module").main() < 0.8  # half of what it begins with
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_two_processes_of_fabric_end_with_equal_bits(tmp_path: Path):
    pytest.importorskip("lightning")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "examples" / "fabric_two_processes.py")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert sorted(re.findall(r"rank \d: equal weights", done.stdout)) == [f"rank {i}: equal weights" for i in (0, 1)]
