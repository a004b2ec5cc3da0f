"""The comparison of advice with a table of results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import advise_check
from benchmarks.advise_check import correlation, gain, loss, outcomes_of, page_of


def row_of(suggestion: str, *scores: float, transfer: float = 0.0) -> dict[str, Any]:
    named = dict(zip(("sam", "fgsam", "fgsam_plus"), scores, strict=True))
    figures = {"transfer": transfer, "cosine": None, "adjusted homophily": 0.5}
    return {"graph": "g", "encoder": "gcn", "suggestion": suggestion, "scores": named, "figures": figures, "notes": []}


def test_scores_are_averaged_over_the_splits_that_all_have():
    rows = [
        {"graph": "g", "encoder": "gcn", "optimizer": name, "split": split, "score": score + split}
        for name, score in (("adam", 9.0), ("sam", 0.1), ("fgsam", 0.2), ("fgsam_plus", 0.3))
        for split in range(2 if name == "fgsam" else 3)
    ]
    rows.append({"graph": "g", "encoder": "gat", "optimizer": "sam", "split": 0, "score": 0.5})
    means = {name: pytest.approx(score + 0.5) for name, score in (("sam", 0.1), ("fgsam", 0.2), ("fgsam_plus", 0.3))}
    assert outcomes_of(rows) == {("g", "gcn"): means}


def test_gain_and_loss_are_those_of_the_scores():
    row = row_of("fgsam", 0.50, 0.52, 0.55)
    assert gain(row) == pytest.approx(0.05)
    assert loss(row) == pytest.approx(3.0)
    assert loss(row_of("fgsam_plus", 0.50, 0.52, 0.55)) == 0


def test_the_page_counts_hits_and_correlates():
    rows = [row_of("sam", 0.5, 0.4 + 0.1 * i, 0.3, transfer=0.1 * i) for i in range(3)]
    page = page_of(rows)
    assert "The suggestion is the best of the three in 2 of 3 pairs." in page
    assert "sam 2, fgsam 2, fgsam_plus 0" in page
    assert "transfer and gain on sam: rank correlation +1.00" in page
    assert "cosine and gain on sam: no rank correlation, 0 pairs" in page


def test_two_pairs_or_equal_figures_have_no_correlation():
    assert correlation([(0.0, 1.0), (1.0, 2.0)]) == "no rank correlation"
    assert correlation([(0.0, 1.0), (0.0, 2.0), (0.0, 3.0)]) == "no rank correlation"
    assert correlation([(0.0, 3.0), (1.0, 2.0), (2.0, 1.0)]).startswith("rank correlation -1.00")


def test_a_missing_table_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("sys.argv", ["advise_check", "--table", str(tmp_path / "none.json")])
    assert advise_check.main() == 2
    assert "Expected the table of scores (got no file" in capsys.readouterr().err


def test_a_table_becomes_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows = [
        {"graph": "synthetic", "encoder": "gcn", "optimizer": name, "split": 0, "score": score}
        for name, score in (("sam", 0.5), ("fgsam", 0.6), ("fgsam_plus", 0.7))
    ]
    table = tmp_path / "table.json"
    table.write_text(json.dumps(rows))
    monkeypatch.setattr("sys.argv", ["advise_check", "--table", str(table), "--out", str(tmp_path), "--seconds", "1"])
    assert advise_check.main() == 0
    page = (tmp_path / "advise_check.md").read_text(encoding="utf-8")
    assert "| synthetic | gcn |" in page
    found = json.loads((tmp_path / "advise_check.json").read_text(encoding="utf-8"))["rows"]
    assert found[0]["suggestion"] in ("sam", "fgsam", "fgsam_plus")
