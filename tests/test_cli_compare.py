from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fgsam.cli import app
from tests.comparison.grids import small_grid


def fgsam(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a grid, its runs and its report."""
    place = tmp_path_factory.mktemp("compare")
    (place / "grid.yaml").write_text(small_grid(splits=2, title="Small").text, encoding="utf-8")
    found = fgsam("compare", place / "grid.yaml", "--folder", place / "study", "--executor", "inline")
    assert found.exit_code == 0, found.stderr
    assert "6 runs in" in found.stderr
    assert "gpn/sam above gpn/adam" in found.stdout
    return place


def test_a_dry_run_counts_and_writes_nothing(done: Path, tmp_path: Path):
    found = fgsam("compare", done / "grid.yaml", "--folder", tmp_path / "none", "--dry-run", "--json")
    figures = json.loads(found.stdout)
    assert (figures["runs"], figures["done"]) == (6, 0)
    assert not (tmp_path / "none").exists()
    again = fgsam("compare", done / "grid.yaml", "--folder", done / "study", "--dry-run", "--json")
    assert json.loads(again.stdout)["done"] == 6


def test_json_holds_findings_and_tables_alone(done: Path):
    found = fgsam("compare", done / "grid.yaml", "--folder", done / "study", "--executor", "inline", "--json")
    content = json.loads(found.stdout)
    assert [finding["hypothesis"] for finding in content["findings"]] == ["gpn/sam above gpn/adam"]
    assert "scores" in content["tables"]


def test_a_report_is_written(done: Path, tmp_path: Path):
    found = fgsam("report", done / "study", "-o", tmp_path / "report")
    assert found.exit_code == 0, found.stderr
    assert (tmp_path / "report" / "index.html").is_file()
    assert (tmp_path / "report" / "tables" / "scores.tex").is_file()


def test_packed_runs_count_as_done_elsewhere(done: Path, tmp_path: Path):
    packed = fgsam("pack", "runs", done / "study", "-o", tmp_path / "runs.npz")
    assert packed.stdout.startswith("Packed 6 runs")
    options = ["--folder", tmp_path / "study", "--executor", "inline", "--resume-from", tmp_path / "runs.npz"]
    found = fgsam("compare", done / "grid.yaml", *options)
    assert found.exit_code == 0, found.stderr
    assert "Took 6 runs" in found.stderr
    for path in (done / "study" / "runs").glob("*/result.json"):
        assert (tmp_path / "study" / "runs" / path.parent.name / "result.json").read_bytes() == path.read_bytes()


def test_predictions_of_another_program_are_scored(done: Path, tmp_path: Path):
    import numpy as np

    from fgsam.comparison.pack import load_pack

    exported = fgsam("pack", "export", done / "study", "-o", tmp_path / "pack.npz")
    assert exported.exit_code == 0, exported.stderr
    pack = load_pack(tmp_path / "pack.npz")
    np.savez(tmp_path / "mine.npz", **{key: split.answers["raw_lr"][0] for key, split in pack.splits.items()})
    found = fgsam("pack", "score", tmp_path / "pack.npz", tmp_path / "mine.npz")
    assert found.exit_code == 0, found.stderr
    assert "raw_lr" in found.stdout


def test_ranges_are_searched_and_the_winners_compared(tmp_path: Path):
    space = {"optimizer.lr": {"low": 0.001, "high": 0.1, "log": True}}
    grid = small_grid(splits=1, arms=[{"method": "gpn", "optimizer": "adam"}], floors=False, candidates=space)
    (tmp_path / "grid.yaml").write_text(grid.text, encoding="utf-8")
    options = ["--folder", tmp_path / "study", "--executor", "inline"]
    found = fgsam("tune", tmp_path / "grid.yaml", "--trials", 2, *options)
    assert found.exit_code == 0, found.stderr
    assert len((tmp_path / "study" / "search.jsonl").read_text().splitlines()) == 2
    assert fgsam("compare", tmp_path / "study" / "tuned.yaml", *options).exit_code == 0


def test_a_pilot_is_planned_with_and_counts_as_done(done: Path):
    options = ["--folder", done / "study", "--executor", "inline", "--splits", 2]
    found = fgsam("plan", done / "grid.yaml", *options)
    assert found.exit_code == 0, found.stderr
    assert "splits say little" in found.stdout


def test_times_are_measured_and_kept(done: Path):
    found = fgsam("time", done / "grid.yaml", "--folder", done / "study", "--blocks", 2)
    assert found.exit_code == 0, found.stderr
    assert "ms a step" in found.stdout
    assert (done / "study" / "times.json").is_file()


def test_failed_runs_are_told_and_started_again(tmp_path: Path):
    far = {"method": "gpn", "optimizer": {"name": "sgd", "lr": 1e30}, "label": "far"}
    (tmp_path / "grid.yaml").write_text(small_grid(splits=1, arms=[far], floors=False).text, encoding="utf-8")
    command = ["compare", tmp_path / "grid.yaml", "--folder", tmp_path / "study", "--executor", "inline"]
    found = fgsam(*command)
    assert found.exit_code == 1
    assert "NonFiniteLossError" in found.stderr
    assert "--retry-failed" in found.stderr
    assert fgsam(*command, "--retry-failed").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "compare/smok"], "Did you mean"),
        (["compare", "compare/smoke", "--executor", "proceses", "--folder", "{}"], "Did you mean 'processes'"),
        (["compare", "compare/smoke", "--address", "tcp://a:1", "--folder", "{}"], "Expected no --address"),
        (["compare", "compare/smoke", "--executor", "inline", "--workers", "2", "--folder", "{}"], "no --workers"),
        (["compare", "compare/smoke", "--resume-from", "{}/none.npz", "--folder", "{}"], "none.npz"),
        (["report", "{}", "-o", "{}/out"], "there is no grid.yaml"),
        (["pack", "score", "{}/none.npz", "{}/none.npz"], "none.npz"),
        (["pack", "export", "{}", "-o", "{}/out"], "there is no grid.yaml"),
    ],
)
def test_wrong_commands_have_one_clear_message(tmp_path: Path, arguments: list[str], message: str):
    found = fgsam(*(text.format(tmp_path) for text in arguments))
    assert found.exit_code == 2, found.output
    assert message in found.stderr
    assert "Traceback" not in found.output
    assert not (tmp_path / "runs").exists()
