from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest

from fgsam.comparison.grid import Cell, Part
from fgsam.comparison.times import ArmTime
from fgsam.report.comparison import Comparison, load_comparison
from tests.report.made import CANDIDATES, made_results

TIMES = [ArmTime("cora", "gpn/adam", 4.0, 3.0, 6.0, {})]


def score(split: int, part: str, arm: str, seed: int, trial: int) -> float:
    return 60.0 + 3 * split + {"gpn/sam": 2 + 0.5 * (split % 2), "raw_lr": -10}.get(arm, 0) + 0.25 * trial + seed


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_frame_has_a_row_for_each_run_that_counts():
    part = Part("cora, k_shot 3", "cora", {"episode.k_shot": 3})
    frame = Comparison(made_results(score, parts=[part], candidates=CANDIDATES, seeds=2)).to_frame()
    assert len(frame) == 3 * (2 + 2 + 1)
    row = frame[(frame.arm == "gpn/sam") & (frame.split == 1) & (frame.seed == 1)].iloc[0]
    assert row.trial == 1
    assert row.accuracy == 66.75
    assert row.val_accuracy == 51.0
    assert row.interval == pytest.approx(2.0)
    assert row["optimizer.lr"] == 0.1
    assert row["episode.k_shot"] == 3
    assert row.run.endswith("gpn-sam-1-1-1")
    assert frame[frame.arm == "raw_lr"]["optimizer.lr"].isna().all()


def test_a_unit_with_an_unfinished_trial_is_not_in_the_frame():
    frame = Comparison(
        made_results(score, candidates=CANDIDATES, missing=[Cell(0, "cora", "gpn/sam", 0, 0)])
    ).to_frame()
    assert sorted(frame[frame.arm == "gpn/sam"].split) == [1, 2]


def test_without_pandas_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def refused(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "pandas":
            raise ImportError
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refused)
    with pytest.raises(RuntimeError, match=r"pip install 'fgsam\[report\]'"):
        Comparison(made_results(score)).to_frame()


def test_the_text_for_a_terminal_has_scores_verdicts_and_what_is_missing():
    text = str(Comparison(made_results(score, missing=[Cell(0, "cora", "gpn/sam", 0, 0)])))
    assert "| gpn/adam       |   63.00 ± 7.45 |" in text
    assert "raw_lr (floor)" in text
    assert "gpn/sam above gpn/adam, cora: undecided, n = 2." in text
    assert "of 9 runs 0 failed and 1 are not over" in text
    assert max(map(len, text.splitlines())) < 160


@pytest.mark.parametrize(("kind", "format"), [("score", "markdown"), ("scores", "excel")])
def test_an_unknown_table_or_format_is_an_error(kind: str, format: str):
    with pytest.raises(ValueError, match="Expected"):
        Comparison(made_results(score)).table(kind, format)


def test_an_unknown_figure_is_an_error():
    with pytest.raises(ValueError, match="accuracy"):
        Comparison(made_results(score)).figure("pie")


def test_the_report_is_a_folder_of_tables_figures_findings_and_a_page(tmp_path: Path):
    page = Comparison(made_results(score)).report(tmp_path / "deep" / "report")
    names = set(files_of(page.parent))
    assert {"index.html", "findings.json", "tables/scores.md", "tables/findings.csv", "tables/ranks.tex"} <= names
    assert {"figures/accuracy.svg", "figures/differences.png"} <= names
    assert "figures/time.svg" not in names
    content = json.loads((page.parent / "findings.json").read_text())
    assert content["format"] == "fgsam-comparison 1"
    (finding,) = content["findings"]
    assert finding["hypothesis"] == "gpn/sam above gpn/adam"
    assert finding["differences"] == {"0": 2.0, "1": 2.5, "2": 2.0}
    assert content["tables"]["scores"]["rows"][0]["cora: accuracy"] == 63.0


def test_two_reports_of_the_same_results_are_equal_byte_for_byte(tmp_path: Path):
    for name in ("first", "second"):
        Comparison(made_results(score)).report(tmp_path / name)
    assert files_of(tmp_path / "first") == files_of(tmp_path / "second")


def test_a_report_replaces_its_own_files_and_no_others(tmp_path: Path):
    Comparison(made_results(score), TIMES).report(tmp_path)
    assert (tmp_path / "figures" / "time.svg").is_file()
    (tmp_path / "figures" / "own.png").write_bytes(b"mine")
    Comparison(made_results(score)).report(tmp_path)
    assert not (tmp_path / "figures" / "time.svg").exists()
    assert (tmp_path / "figures" / "own.png").read_bytes() == b"mine"


def test_a_folder_without_a_comparison_is_an_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="fgsam compare"):
        load_comparison(tmp_path)
