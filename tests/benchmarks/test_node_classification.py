"""The quick form of the study of node classification, and its statistics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from benchmarks.node_classification import OPTIMIZERS, chosen_of, difference, holm
from tests.benchmarks.measure import Measure


def arm(*scores: float, test_share: float = 0.5) -> dict[int, dict[str, Any]]:
    return {split: {"score": score, "test_share": test_share} for split, score in enumerate(scores)}


def test_a_difference_is_paired_and_its_plain_p_is_that_of_the_t_test():
    first, second = (0.5, 0.6, 0.72, 0.61), (0.48, 0.61, 0.70, 0.58)
    gap = difference(arm(*first), {**arm(*second), 9: {"score": 0.0}})
    assert gap is not None
    assert gap.mean == pytest.approx(1.5)
    assert gap.p_plain == pytest.approx(stats.ttest_rel(first, second).pvalue)


def test_overlapping_splits_widen_a_difference():
    first, second = (0.5, 0.6, 0.72, 0.61), (0.48, 0.61, 0.70, 0.58)
    plain = difference(arm(*first, test_share=0.0), arm(*second))
    wide = difference(arm(*first, test_share=0.5), arm(*second))
    assert plain is not None
    assert wide is not None
    # Of four splits: (1/4 + 1/2) / (1/4) = 3 times the variance.
    assert wide.half == pytest.approx(3**0.5 * plain.half)
    assert plain.p == pytest.approx(plain.p_plain)
    assert wide.p > wide.p_plain


def test_equal_scores_and_single_splits_give_no_evidence():
    assert difference(arm(0.5), arm(0.4)) is None
    assert difference(arm(0.5, 0.6), arm(0.5, 0.6)) == (0.0, 0.0, 1.0, 1.0)


def test_p_values_are_adjusted_step_by_step():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_settings_are_chosen_on_validation_and_only_whole_splits_count():
    def row(optimizer: str, split: int, setting: int, val_score: float, score: float | None) -> dict[str, Any]:
        own = {"graph": "g", "optimizer": optimizer, "split": split, "setting": setting}
        return {**own, "val_score": val_score, "score": score}

    rows = [row(name, 0, setting, 0.5 + 0.1 * setting, 0.9 - setting) for name in OPTIMIZERS for setting in (0, 1)]
    rows[3] |= {"score": None}  # SAM diverged in its better setting
    rows.append(row("adam", 1, 0, 0.9, 0.9))
    found = chosen_of(rows)["g"]
    assert found["adam"].keys() == {0}
    assert {name: arm[0]["setting"] for name, arm in found.items()} == dict.fromkeys(OPTIMIZERS, 1) | {"sam": 0}
    assert chosen_of([rows[0] | {"val_score": 0.7}, *rows[1:]])["g"]["adam"][0]["setting"] == 0


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
