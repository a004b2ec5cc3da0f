"""The quick form of the study of optimizers, and its page."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from benchmarks.optimizers import page_of
from fgsam.registry import OPTIMIZERS
from tests.benchmarks.measure import Measure


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
    lines = page_of(rows, dict.fromkeys(OPTIMIZERS, 1.0), "the command").splitlines()
    # With two splits the interval is t(0.975, 1) = 12.706 times half the distance.
    assert "| adam | 66.0 ± 76.2 | +0.0 ± 0.0 | 2 | 0 | 1.00 | 20.0 |" in lines
    assert "| sam | 67.0 ± 76.2 | +1.0 ± 0.0 | 2 | 0 | 1.00 | 20.0 |" in lines
    assert "| sgd |  |  | 0 | 1 | 1.00 | nan |" in lines
