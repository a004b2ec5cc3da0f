"""Quick forms of the measurements: that they run and what they write, not what they find."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.__main__ import NAMES, main
from benchmarks.compile import ARMS
from benchmarks.first_runs import FLOORS, METHODS, OPTIMIZERS, SETTINGS
from benchmarks.first_runs_report import write_report
from benchmarks.graph_file import save_graph
from benchmarks.headline import GRIDS as HEADLINE_GRIDS
from benchmarks.headline import grid_named
from benchmarks.learner_steps import STAGES
from benchmarks.learners import page_of as learners_page
from benchmarks.optimizer_step import RIVALS
from benchmarks.optimizers import page_of
from benchmarks.own_learner import page_of as own_learner_page
from benchmarks.paper_grids import GRIDS, QUICK, levelled, run_cut, section
from benchmarks.simulation import CELLS, MOST_REJECTIONS, Errors, errors, keeps_bounds
from fgsam.comparison.grid import Grid
from fgsam.comparison.grid_source import load_grid
from fgsam.comparison.results import Results
from fgsam.data.load import load_graph
from fgsam.registry import METHODS as LEARNERS
from fgsam.registry import OPTIMIZERS as RULES

ROOT = Path(__file__).parents[1]


Measure = Callable[..., str]


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Measure:
    """``python -m benchmarks`` in this process; returns what it prints."""
    monkeypatch.chdir(ROOT)

    def run(*arguments: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
        assert main() == code
        return capsys.readouterr().out

    return run


def measure_in_fresh_process(*arguments: str) -> str:
    """What ``python -m benchmarks`` prints."""
    command = [sys.executable, "-m", "benchmarks", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_a_name_the_measurements_are_listed(measure: Measure):
    listed = measure_in_fresh_process()
    assert all(f"  {name} " in listed for name in NAMES)
    assert list(NAMES) == sorted(NAMES)
    assert measure("episode_sped", code=2) == listed


def row_of(
    split: int, method: str, optimizer: str, setting: str, accuracy: float, val_accuracy: float
) -> dict[str, Any]:
    return {
        **{"task": "graph 5-way", "split": split, "method": method, "optimizer": optimizer, "setting": setting},
        **{"accuracy": accuracy, "val_accuracy": val_accuracy, "correct": [1, 2], "seconds": 1.0, "num_episodes": 50},
    }


@pytest.mark.slow
def test_first_runs_keeps_a_journal_and_writes_every_episode(measure: Measure, tmp_path: Path):
    runs = ("first_runs", "--quick", "--runs", str(tmp_path / "runs"))
    measure(*runs)
    measure(*runs, "--only-finished", "--out", str(tmp_path / "out"))
    assert "## quick" in (tmp_path / "out" / "first_runs.md").read_text(encoding="utf-8")
    scores = np.load(tmp_path / "out" / "first_runs.npz")
    assert len(scores["runs"]) == len(FLOORS) + len(METHODS) * len(OPTIMIZERS)
    assert scores["correct"].shape == (len(scores["runs"]), 50)


def test_first_runs_page_pairs_by_split_and_chooses_on_validation(tmp_path: Path):
    rows = []
    for split in (0, 1):
        rows += [row_of(split, floor, "-", "tuned", 0.50 + 0.1 * split, 0.5) for floor in FLOORS]
        for setting, method, optimizer in itertools.product(SETTINGS, METHODS, OPTIMIZERS):
            is_best = setting == ("published", "wide")[split]  # on split 1 another setting looks better
            accuracy = 0.60 + 0.1 * split + 0.02 * (setting == "wide") + 0.01 * (optimizer == "sam")
            rows.append(row_of(split, method, optimizer, setting, accuracy, 0.7 if is_best else 0.6))
    write_report(rows, tmp_path)
    lines = (tmp_path / "first_runs.md").read_text(encoding="utf-8").splitlines()
    # With two splits the interval is t(0.975, 1) = 12.706 times half the distance.
    assert "| gpn | adam | 65.0 ± 63.5 | 66.0 ± 76.2 | +11.0 ± 12.7 |  |" in lines
    assert "| gpn | sam | 66.0 ± 63.5 | 67.0 ± 76.2 | +12.0 ± 12.7 | +1.0 ± 0.0 |" in lines


@pytest.mark.slow
def test_the_study_of_learners_runs_every_one(measure: Measure, tmp_path: Path):
    measure("learners", "--quick", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out"))
    page = (tmp_path / "out" / "learners.md").read_text(encoding="utf-8")
    assert all(f"| {name} | " in page for name in LEARNERS)


def test_sealed_class_splits_need_a_word_and_are_noted(measure: Measure, tmp_path: Path):
    runs = ("learners", "--quick", "--runs", str(tmp_path), "--methods", "raw_lr")
    with pytest.raises(SystemExit, match="2"):
        measure("learners", "--runs", str(tmp_path), "--splits", "10")
    measure(*runs)
    assert not (tmp_path / "readings.jsonl").exists()
    measure(*runs, "--final")
    measure(*runs, "--final")
    readings = [json.loads(line) for line in (tmp_path / "readings.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [reading["methods"] for reading in readings] == [["raw_lr"]] * 2


def test_the_page_of_learners_pairs_by_split_and_keeps_modes_apart():
    def arm(method: str, optimizer: str, *accuracies: float | None) -> list[dict[str, Any]]:
        own = {"graph": "g", "method": method, "optimizer": optimizer, "seconds": 1.0, "ms_per_episode": 2.0}
        return [{**own, "split": split, "accuracy": accuracy} for split, accuracy in enumerate(accuracies)]

    rows = [
        *arm("protonet", "adam", 0.60, 0.70, 0.75),
        *arm("protonet", "fgsam_plus", 0.62, 0.74, None),
        *arm("raw_lr", "-", 0.50, 0.90, 0.70),
        *arm("sgc_lr", "-", 0.80, 0.80, 0.85),
        *arm("sgc_kmeans", "-", 0.90, 0.90, 0.90),
    ]
    lines = learners_page(rows, "command").splitlines()
    assert [line for line in lines if line.startswith("Best")] == ["Best floor: `sgc_lr`.", "Best floor: `sgc_kmeans`."]
    # With two splits the interval is t(0.975, 1) = 12.706 times half the distance.
    assert "| protonet | fgsam_plus | 68.0 ± 76.2 | -12.0 ± 76.2 | +3.0 ± 12.7 | 2, 1 lost | 2.0 |" in lines
    assert "| sgc_kmeans | - | 90.0 ± 0.0 |  |  | 3 | 2.0 |" in lines


@pytest.mark.slow
def test_the_own_learner_meets_its_floor_with_equal_and_unequal_queries(measure: Measure, tmp_path: Path):
    measure("own_learner", "--quick", "--out", str(tmp_path))
    page = (tmp_path / "own_learner.md").read_text(encoding="utf-8")
    assert all(f"| quick | {queries} | 1 | " in page for queries in ("equal", "unequal"))


def test_the_page_of_the_own_learner_pairs_by_split():
    def row(split: int, optimizer: str, accuracy: float | None) -> dict[str, Any]:
        own = {"graph": "nell", "queries": "equal", "split": split, "optimizer": optimizer}
        return {**own, "accuracy": accuracy, "seconds": 1.0}

    figures = {"-": (0.80, 0.84, 0.90), "adam": (0.82, 0.88, None), "fgsam_plus": (0.81, 0.87, 0.91)}
    page = own_learner_page([row(i, name, figures[name][i]) for i in range(3) for name in figures], "command")
    # With two splits the interval is t(0.975, 1) = 12.706 times half the distance.
    assert "| nell | equal | 2 | 82.0 ± 25.4 | 85.0 ± 38.1 | +3.0 ± 12.7 |" in page
    assert page.endswith("| -1.0 ± 0.0 |\n")


@pytest.mark.slow
def test_the_first_study_goes_on_from_a_pack(measure: Measure, tmp_path: Path):
    pack = ("headline", "--quick", "--only", "primary", "--packs", str(tmp_path / "packs"))
    measure(*pack, "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "first"))
    measure(*pack, "--finished", "--runs", str(tmp_path / "moved"), "--out", str(tmp_path / "second"))
    pages = [(tmp_path / name / "headline.md").read_text().split("\n## FGSAM")[1] for name in ("first", "second")]
    assert pages[0] == pages[1]
    assert "Complete: all 38 runs are finished." in pages[0]
    assert "| gpn/fgsam_plus not below gpn/fgsam | mean over all parts | undecided, n = 2" in pages[0]


HEADLINE_SETTINGS = {"primary": 4, "exploratory": 2, "released_fgsam_plus": 1, "released_fgsam": 1}


@pytest.mark.parametrize("name", list(HEADLINE_GRIDS))
def test_the_grids_of_the_first_study_are_whole(name: str):
    grid = grid_named(name, is_quick=False)
    assert [part.graph for part in grid.parts] == ["coauthor_cs", "corafull_derived", "clothing20", "nell"]
    assert len(grid.splits) == (20 if name == "primary" else 10)
    assert {len(arm.candidates) for arm in grid.arms if arm.is_trained} == {HEADLINE_SETTINGS[name]}
    assert len(grid.protocol.hypotheses) == (3 if name == "primary" else 0)
    assert grid.protocol.pooled


def test_the_claims_of_the_first_study_are_the_named_ones():
    grid = grid_named("primary", is_quick=False)
    assert [str(claim) for claim in grid.protocol.hypotheses] == [
        "gpn/fgsam above gpn/adam",
        "gpn/fgsam above gpn/sam",
        "gpn/fgsam_plus not below gpn/fgsam",
    ]
    assert grid.protocol.test == "t"


@pytest.mark.slow
def test_compare_kills_finds_the_tables_of_the_undisturbed_comparison(measure: Measure, tmp_path: Path):
    measure("compare_kills", "--quick", "--out", str(tmp_path))
    page = (tmp_path / "compare_kills.md").read_text()
    assert page.count("same bits |") == 4
    assert "DIFFERENT" not in page


@pytest.mark.slow
def test_kill_resume_finds_the_results_of_the_undisturbed_run(measure: Measure, tmp_path: Path):
    # The first moment of this seed comes so soon that even a short run is still at work.
    small = ("--kills", "1", "--pairs", "0", "--episodes", "200", "--seed", "31")
    measure("kill_resume", *small, "--json", str(tmp_path / "figures.json"))
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["kills"] == [1, 1]
    assert figures["folders_without_partial_files"] == [1, 1]


@pytest.mark.slow
def test_episode_speed_has_a_row_for_each_path_and_optimizer(measure: Measure, tmp_path: Path):
    # 70 classes, because the measurement takes the class split of the graph at its default size.
    save_graph(load_graph("synthetic", num_nodes=1100, num_features=200, words_per_node=20), tmp_path / "graph.npz")
    small = ("episode_speed", "--graph-file", str(tmp_path / "graph.npz"))
    measure(*small, "--rounds", "2", "--no-memory", "--json", str(tmp_path / "rows.json"))
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    cells = {(row["path"], row["optimizer"]) for row in rows}
    assert len(rows) == len(cells) == 3 * 4
    assert all(0 < row["ms_q25"] <= row["ms_median"] <= row["ms_q75"] for row in rows)
    # What a fresh process for the memory of one row prints, in MiB.
    assert 50 < float(measure_in_fresh_process(*small, "--memory-of", "gpn:full_dense:fgsam")) < 5000


@pytest.mark.slow
def test_episode_speed_shows_the_stages_of_every_kind_of_learner(measure: Measure, tmp_path: Path):
    save_graph(load_graph("synthetic", num_nodes=1100, num_features=100, words_per_node=20), tmp_path / "graph.npz")
    small = ("episode_speed", "--graph-file", str(tmp_path / "graph.npz"), "--rounds", "2")
    names = ["protonet", "maml", "linear_probe", "raw_lr"]
    files = ("--json", str(tmp_path / "rows.json"), "--markdown", str(tmp_path / "page.md"))
    measure(*small, *files, "--methods", *names)
    found = json.loads((tmp_path / "rows.json").read_text())
    rows = {row["method"]: row for row in found["rows"]}
    assert list(rows) == names
    for row in (rows[name] for name in names[:3]):
        assert set(row["share"]) == set(STAGES)
        assert sum(row["share"].values()) == pytest.approx(1, abs=1e-3)
        assert min(row["share"].values()) > 0
        assert sum(row["stage_ms"].values()) == pytest.approx(row["fgsam"]["ms_median"], rel=0.5)
    # Ten inner steps are forward; on a metric both ways through the net count alike.
    assert rows["maml"]["share"]["forward"] > rows["protonet"]["share"]["forward"]
    assert rows["maml"]["score"]["ms_median"] > rows["protonet"]["score"]["ms_median"]
    assert rows["raw_lr"]["fit_seconds"] > 0
    assert set(found["maml_by_path"]) == {"full_dense", "field", "ratio"}
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert all(f"| {name} |" in page for name in names)
    with pytest.raises(ValueError, match="Expected a known method"):
        measure(*small, "--methods", "protonett")


@pytest.mark.slow
@pytest.mark.dataset
def test_first_start_measures_both_starts_in_fresh_processes(
    measure: Measure, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("benchmarks.first_start.WARM_UP", 0)
    small = ("first_start", "--graph", "texas", "--rounds", "1", "--json", str(tmp_path / "rows.json"))
    measure(*small, "--markdown", str(tmp_path / "page.md"))
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert [row["start"] for row in rows] == ["first", "second"]
    assert all(0 < row["seconds"][1] < 60 and row["import_mb"][1] <= row["peak_mb"][1] for row in rows)
    assert "| texas | second | " in (tmp_path / "page.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_optimizer_step_has_a_row_for_each_rule_and_rival(measure: Measure, tmp_path: Path):
    page = tmp_path / "step.md"
    measure("optimizer_step", "--quick", "--json", str(tmp_path / "step.json"), "--markdown", str(page))
    found = json.loads((tmp_path / "step.json").read_text())
    assert {row["optimizer"] for row in found["whole_steps"]} == set(RULES)
    assert {row["arm"] for row in found["rows"]} == set(RIVALS)
    assert all(0 < row["ms_q25"] <= row["ms_median"] <= row["ms_q75"] for row in found["rows"])
    assert all(f"| {name} |" in page.read_text(encoding="utf-8") for name in RULES)


@pytest.mark.slow
def test_optimizers_keeps_a_journal_and_counts_exact_zeros(measure: Measure, tmp_path: Path):
    some = ("optimizers", "--quick", "--runs", str(tmp_path / "runs"), "--optimizers", "adam", "safe")
    first = measure(*some)
    before = (tmp_path / "runs" / "rows.jsonl").read_text(encoding="utf-8")
    assert measure(*some, "--out", str(tmp_path / "out")) == ""
    assert (tmp_path / "runs" / "rows.jsonl").read_text(encoding="utf-8") == before
    written = (tmp_path / "out" / "optimizers.md").read_text(encoding="utf-8") + "\n"
    assert written.partition("\nGPN, ")[2] == first.partition("\nGPN, ")[2] != ""
    sparse = [row for row in map(json.loads, before.splitlines()) if row["optimizer"] == "safe"]
    assert sparse
    assert all(row["zeros"] == round(0.8 * row["weights"]) for row in sparse)


def test_optimizers_page_pairs_by_split_and_chooses_the_rate_on_validation():
    rows = []
    for split, (name, rate) in itertools.product((0, 1), itertools.product(("adam", "sam"), (0.005, 0.001))):
        is_best = rate == (0.005, 0.001)[split]  # the rate that validation takes is another on split 1
        accuracy = 0.60 + 0.1 * split + 0.02 * (rate == 0.001) + 0.01 * (name == "sam")
        cell = {"graph": "coauthor_cs", "split": split, "optimizer": name, "rate": rate, "sparsity": 0.0, "noise": 0.0}
        scores = {"accuracy": accuracy, "val_accuracy": 0.7 if is_best else 0.6, "zeros": 0, "weights": 10}
        rows.append({**cell, **scores, "seconds": 2.0, "ms_per_episode": 20.0})
    lost = {"graph": "coauthor_cs", "split": 0, "optimizer": "sgd", "rate": 0.5, "sparsity": 0.0, "noise": 0.0}
    rows.append({**lost, "accuracy": None, "seconds": 0.0})
    lines = page_of(rows, dict.fromkeys(RULES, 1.0), "the command").splitlines()
    # With two splits the interval is t(0.975, 1) = 12.706 times half the distance.
    assert "| adam | 66.0 ± 76.2 | +0.0 ± 0.0 | 2 | 0 | 1.00 | 20.0 |" in lines
    assert "| sam | 67.0 ± 76.2 | +1.0 ± 0.0 | 2 | 0 | 1.00 | 20.0 |" in lines
    assert "| sgd |  |  | 0 | 1 | 1.00 | nan |" in lines


@pytest.mark.slow
def test_every_arm_of_the_papers_grids_runs_and_no_accuracy_is_shown(
    measure: Measure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FGSAM_DATA", str(tmp_path / "empty"))
    measure("paper_grids", "--quick", "--out", str(tmp_path))
    assert os.environ["FGSAM_DATA"] == str(tmp_path / "empty")
    page = (tmp_path / "paper_grids.md").read_text(encoding="utf-8")
    rows = [
        f"| {' | '.join(arm.label.split('/'))} | " for name in GRIDS for arm in load_grid(name).arms if arm.is_trained
    ]
    assert len(rows) == 16 + 9
    assert all(f"{row}runs | runs | runs |" in page for row in rows)
    assert page.count("| runs | runs | runs |") == len(rows) + 2 * len(FLOORS)
    assert "%" not in page
    assert not re.search(r"\d\.\d", page)


def test_a_cell_of_the_papers_grids_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("benchmarks.paper_grids.run_grid", lambda grid, folder, **options: Failing(grid))
    lines = section(run_cut(GRIDS[1], tmp_path, QUICK))
    assert lines[0].startswith("| learner | optimizer | corafull 5-way 3-shot | fsnc_dblp 5-way 3-shot |")
    assert lines[2] == "| gpn | adam | ValueError: no \\| file | not run | not run |"


class Failing:
    """What a comparison found of which one run has failed and no other was begun."""

    def __init__(self, grid: Grid) -> None:
        first, *others = grid.cells()
        self.results = Results(grid, {}, {first: "ValueError: no | file"}, tuple(others))


def test_levelled_classes_have_enough_nodes():
    assert levelled(np.array([0, 1, 1, 1, 1, 2]), 2).tolist() == [0, 0, 2, 1, 1, 2]


@pytest.mark.slow
def test_simulation_has_a_row_for_each_model(measure: Measure, tmp_path: Path):
    measure("simulation", "--quick", "--out", str(tmp_path))
    page = (tmp_path / "statistics.md").read_text(encoding="utf-8")
    assert page.count("\n| exponential | ") + page.count("\n| lognormal | ") == 6
    assert all(f"\n| {ratio:g} | {num_splits} | " in page for shape, ratio, num_splits in CELLS if shape == "normal")


def test_seeds_of_a_split_are_no_units_and_bounds_are_kept():
    found = errors("normal", 2.0, 5, 4000, np.random.default_rng(0))
    assert found.rejected == pytest.approx(0.05, abs=0.014)  # four standard errors
    assert found.above + found.below == pytest.approx(found.rejected)
    assert found.covered == pytest.approx(1 - found.rejected)
    assert found.flipped == 0
    assert 0.2 < found.by_seed < found.by_episode
    skewed = errors("lognormal", 2.0, 5, 4000, np.random.default_rng(0))
    assert skewed.below > 0.07 > 0.02 > skewed.above

    def kept(rejected: float, covered: float, shape: str = "normal") -> bool:
        return keeps_bounds({(shape, 1.0, 5): Errors(rejected, 0.0, 0.0, covered, 0.0, 0.0, 0.0)})

    assert kept(MOST_REJECTIONS, 0.94)
    assert not kept(MOST_REJECTIONS + 1e-4, 0.95)
    assert not kept(0.05, 0.939)
    assert kept(1.0, 0.0, "lognormal")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compile_measures_both_arms(measure: Measure, tmp_path: Path):
    measure("compile", "--quick", "--out", str(tmp_path))
    rows = json.loads((tmp_path / "compile.json").read_text(encoding="utf-8"))["rows"]
    assert [(row["optimizer"], row["arm"]) for row in rows] == [("fgsam", arm) for arm in ARMS]
    assert "python -m benchmarks compile" in (tmp_path / "compile.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_node_classification_keeps_a_journal_and_measures_times_once(measure: Measure, tmp_path: Path):
    out = ("--out", str(tmp_path / "out"))
    study = ("node_classification", "--quick", "--runs", str(tmp_path / "runs"))
    measure(*study, *out)
    page = (tmp_path / "out" / "node_classification.md").read_text(encoding="utf-8")
    assert page.count("| quick | fgsam - ") == 2
    written = json.loads((tmp_path / "out" / "node_classification.json").read_text(encoding="utf-8"))
    assert set(written["times"]["quick"]) == {"adam", "sam", "fgsam", "fgsam_plus"}
    assert {row["split"] for row in written["rows"]} == {0, 1}
    measure(*study, "--only-finished", *out)
    again = json.loads((tmp_path / "out" / "node_classification.json").read_text(encoding="utf-8"))
    assert (again["rows"], again["times"]) == (written["rows"], written["times"])
