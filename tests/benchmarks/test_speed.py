"""Quick forms of the measurements of time: that they run and what they write, not what they find."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.compile import ARMS
from benchmarks.graph_file import save_graph
from benchmarks.learner_steps import STAGES
from benchmarks.optimizer_step import RIVALS
from fgsam.data.load import load_graph
from fgsam.registry import OPTIMIZERS
from tests.benchmarks.measure import Measure, measure_in_fresh_process


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
    assert {row["optimizer"] for row in found["whole_steps"]} == set(OPTIMIZERS)
    assert {row["arm"] for row in found["rows"]} == set(RIVALS)
    assert all(0 < row["ms_q25"] <= row["ms_median"] <= row["ms_q75"] for row in found["rows"])
    assert all(f"| {name} |" in page.read_text(encoding="utf-8") for name in OPTIMIZERS)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compile_measures_both_arms(measure: Measure, tmp_path: Path):
    measure("compile", "--quick", "--out", str(tmp_path))
    rows = json.loads((tmp_path / "compile.json").read_text(encoding="utf-8"))["rows"]
    assert [(row["optimizer"], row["arm"]) for row in rows] == [("fgsam", arm) for arm in ARMS]
    assert "python -m benchmarks compile" in (tmp_path / "compile.md").read_text(encoding="utf-8")
