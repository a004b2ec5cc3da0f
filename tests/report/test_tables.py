from __future__ import annotations

import csv
import io
import math
import re

import numpy as np
import pytest

from fgsam.comparison.grid import Cell, Hypothesis, Part
from fgsam.comparison.power import variance_components
from fgsam.comparison.results import Results
from fgsam.comparison.statistics import SplitMean, mean_over_splits
from fgsam.report.table import Column, Table, latex_text
from fgsam.report.tables import (
    TABLES,
    differences_table,
    findings_table,
    graph_scores,
    ranks_table,
    scores_table,
    settings_table,
    unfinished_table,
    variance_table,
)
from tests.report.made import CANDIDATES, made_results

ARMS = ("gpn/adam", "gpn/sam", "raw_lr")
TWO_PARTS = (Part("cora, k_shot 1", "cora"), Part("citeseer", "citeseer"))


def score(split: int, part: str, arm: str, seed: int, trial: int) -> float:
    """The arms are 2 and -10 points from the first one, give or take half a point by split."""
    return 60.0 + 3 * split + {"gpn/sam": 2 + 0.5 * (split % 2), "raw_lr": -10}.get(arm, 0)


def table(*rows: tuple[object, ...], columns: tuple[Column, ...], notes: tuple[str, ...] = ()) -> Table:
    return Table("made", "Made & tried", columns, rows, notes)  # type: ignore[arg-type]


def row_of(found: Table, name: str) -> dict[str, object]:
    """Values by full heading of the row whose first entry is the name."""
    row = next(row for row in found.rows if row[0] == name)
    return {column.full_heading: value for column, value in zip(found.columns, row, strict=True)}


def test_scores_are_means_over_splits_beside_the_interval_over_episodes():
    row = row_of(scores_table(made_results(score, parts=TWO_PARTS)), "gpn/adam")
    assert row["citeseer: accuracy"] == mean_over_splits([60.0, 63.0, 66.0])
    assert row["citeseer: over episodes"] == pytest.approx(2.0)
    assert row["citeseer: n"] == 3


def test_floors_are_in_every_table_of_scores_and_named_as_such():
    results = made_results(score)
    for found in (scores_table(results), differences_table(results), variance_table(results)):
        assert "raw_lr (floor)" in found.markdown()


def test_differences_are_paired_by_split():
    row = row_of(differences_table(made_results(score)), "gpn/sam")
    assert row["cora: difference"] == mean_over_splits([2.0, 2.5, 2.0])


def test_a_split_that_one_arm_lacks_is_not_paired():
    results = made_results(score, missing=[Cell(1, "cora", "gpn/adam", 0, 0)])
    row = row_of(differences_table(results), "gpn/sam")
    assert (row["cora: difference"], row["cora: n"]) == (SplitMean(2.0, 0.0, 2), 2)
    assert row_of(scores_table(results), "gpn/sam")["cora: n"] == 3


def test_findings_give_a_word_with_its_number_of_splits():
    found = findings_table(made_results(score, splits=6))
    row = row_of(found, "gpn/sam above gpn/adam")
    assert row["verdict"] == "holds, n = 6"
    assert row["wins/ties/losses"] == "6/0/0"
    assert "p < 0.001" not in found.markdown()
    assert "| < 0.001 |" in found.markdown()


def test_equivalence_is_told_with_its_margin():
    def close(split: int, part: str, arm: str, seed: int, trial: int) -> float:
        return 60 + split + (0.1 * (-1) ** split if arm == "gpn/sam" else 0)

    row = row_of(findings_table(made_results(close, splits=8)), "gpn/sam above gpn/adam")
    assert row["verdict"] == "equivalent within 0.5 points, n = 8"


def test_one_split_has_a_mean_and_no_interval():
    results = made_results(score, splits=1)
    assert re.search(r"\| gpn/sam +\| +62.00 \|", scores_table(results).markdown())
    row = row_of(findings_table(results), "gpn/sam above gpn/adam")
    assert row["verdict"] == "undecided, n = 1"
    for text in (kind(results).render(form) for kind in TABLES.values() for form in ("markdown", "csv", "latex")):
        assert not re.search(r"\b(nan|inf)\b", text)


@pytest.mark.parametrize("kind", sorted(TABLES))
def test_every_table_says_what_it_is_about_and_how_complete_it_is(kind: str):
    whole = made_results(score, parts=TWO_PARTS, candidates=CANDIDATES)
    cut = made_results(score, parts=TWO_PARTS, failed={Cell(0, "citeseer", "gpn/sam", 0, 0): "ValueError: no"})
    assert "Complete: all 18 runs are finished." not in TABLES[kind](cut).notes[-1]
    assert "of 18 runs 1 failed and 0 are not over" in TABLES[kind](cut).notes[-1]
    assert TABLES[kind](whole).notes[-1] == "Complete: all 30 runs are finished."


def test_the_estimand_is_one_graph_over_random_class_splits_or_the_mean_of_named_graphs():
    single, pooled = (made_results(score, parts=TWO_PARTS, pooled=pooled) for pooled in (False, True))
    assert "about one graph in one setting, over random class splits" in findings_table(single).notes[0]
    assert "the mean over these graphs (cora, k_shot 1; citeseer)" in findings_table(pooled).notes[0]
    assert row_of(findings_table(pooled), "gpn/sam above gpn/adam")["where"] == "mean over all parts"


def test_splits_of_nodes_are_not_called_class_splits():
    text = "".join(make(made_results(score, task="node_classification")).markdown() for make in TABLES.values())
    assert "node splits" in text
    assert "class splits" not in text
    assert "over nodes" in text


def test_the_family_and_the_test_are_named():
    results = made_results(score, parts=TWO_PARTS, missing=[Cell(s, "citeseer", "gpn/sam", 0, 0) for s in range(3)])
    notes = " ".join(findings_table(results).notes)
    assert "Family: 1 claim, at level 0.05 together" in notes
    assert "1 further claim of the grid cannot be tested yet" in notes
    assert "Student's t test" in notes


def test_components_of_spread_are_those_of_the_episodes():
    def noisy(split: int, part: str, arm: str, seed: int, trial: int) -> float:
        return float(np.random.default_rng([split, seed, len(arm)]).normal(60, 5))

    results = made_results(noisy, splits=4, seeds=2)
    tables = {
        arm: np.stack([np.stack([run.episodes for run in results.chosen["cora", arm, s].values()]) for s in range(4)])
        for arm in ARMS
    }
    rows = {row[1]: row[2:] for row in variance_table(results).rows}
    own = variance_components(tables["gpn/sam"])
    above = variance_components(tables["gpn/sam"] - tables["gpn/adam"])
    floor = variance_components(tables["raw_lr"] - tables["gpn/adam"])  # the floor has one run for both seeds
    for row, found in ((rows["gpn/sam"], own), (rows["gpn/sam"][3:], above), (rows["raw_lr (floor)"][3:], floor)):
        assert found.seed is not None
        assert row[:3] == pytest.approx([math.sqrt(x) for x in (found.split, found.seed, found.episode)])
    assert rows["gpn/adam"][3:] == (None, None, None)


def graphs(number: int, **options: object) -> Results:
    def by_graph(split: int, part: str, arm: str, seed: int, trial: int) -> float:
        return 50 + int(part) + {"gpn/sam": 2, "raw_lr": -3}.get(arm, 0)

    return made_results(by_graph, parts=[Part(str(i), f"graph {i}") for i in range(number)], **options)  # type: ignore[arg-type]


def test_ranks_need_three_arms_and_two_graphs():
    for results in (graphs(1), graphs(4, arms=ARMS[:2])):
        found = ranks_table(results)
        assert found.rows == ()
        assert "three arms and two graphs" in found.notes[0]


def test_ranks_have_a_critical_difference_from_ten_graphs_on():
    few, many = ranks_table(graphs(9)), ranks_table(graphs(10))
    assert [row[0] for row in few.rows] == ["gpn/sam", "gpn/adam", "raw_lr (floor)"]
    assert "no critical difference below 10 graphs" in few.notes[2]
    assert "Critical difference of two average ranks at level 0.05: 1.05" in many.notes[2]


def test_settings_of_one_graph_are_one_graph():
    settings = [Part("cora, k_shot 1", "cora"), Part("cora, k_shot 3", "cora")]

    def by_setting(split: int, part: str, arm: str, seed: int, trial: int) -> float:
        return score(split, part, arm, seed, trial) + (10 if part.endswith("3") else 0)

    found = graph_scores(made_results(by_setting, parts=settings))
    assert found == pytest.approx(np.array([[68.0, 68 + 6.5 / 3, 58.0]]))


def test_chosen_settings_are_listed_by_split():
    results = made_results(score, candidates=CANDIDATES)
    assert settings_table(results).rows == (
        ("cora", "gpn/adam", "optimizer.lr = 0.01", 0, ""),
        ("cora", "gpn/adam", "optimizer.lr = 0.1", 3, "0, 1, 2"),
        ("cora", "gpn/sam", "optimizer.lr = 0.01", 0, ""),
        ("cora", "gpn/sam", "optimizer.lr = 0.1", 3, "0, 1, 2"),
    )


def test_failed_and_missing_runs_are_listed_with_their_error():
    failed = {Cell(split, "cora", "gpn/sam", 0, 0): f"MemoryError: {split} too large" for split in (0, 2)}
    failed[Cell(1, "cora", "gpn/sam", 0, 0)] = "OSError: full disk"
    results = made_results(score, failed=failed, missing=[Cell(1, "cora", "gpn/adam", 0, 0)])
    assert unfinished_table(results).rows == (
        ("cora", "gpn/sam", "failed: MemoryError: 0 too large", 2, "0, 2"),
        ("cora", "gpn/sam", "failed: OSError: full disk", 1, "1"),
        ("cora", "gpn/adam", "not over", 1, "1"),
    )


def test_no_entry_is_set_apart_as_the_best():
    results = made_results(score, parts=TWO_PARTS)
    for make in TABLES.values():
        assert "**" not in make(results).markdown()
        assert "textbf" not in make(results).latex()


def test_latex_escapes_all_that_it_would_read():
    assert latex_text("a_b & 5 % of #1 {x} ~ ^ \\ $y$ <z>|") == (
        r"a\_b \& 5 \% of \#1 \{x\} \textasciitilde{} \textasciicircum{} \textbackslash{} \$y\$ "
        r"\textless{}z\textgreater{}\textbar{}"
    )


def test_latex_is_a_table_of_booktabs_with_groups():
    columns = (Column("arm"), Column("accuracy", "interval", "k_shot 1"), Column("n", "count", "k_shot 1"))
    text = table(("a_b", SplitMean(1.0, 0.5, 3), 3), ("c", None, 0), columns=columns, notes=("5 % & more",)).latex()
    assert r"\caption{Made \& tried.}" in text
    assert r"\multicolumn{1}{l}{} & \multicolumn{2}{c}{k\_shot 1} \\" in text
    assert r"\cmidrule(lr){2-3}" in text
    assert r"a\_b & $1.00 \pm 0.50$ & $3$ \\" in text
    assert r"c & -- & $0$ \\" in text
    assert r"5 \% \& more\par" in text
    assert re.findall(r"\\(begin|end)\{(\w+)\}", text) == [
        *(("begin", "table"), ("begin", "tabular"), ("end", "tabular")),
        *(("begin", "minipage"), ("end", "minipage"), ("end", "table")),
    ]
    assert text.count("{") == text.count("}")


def test_markdown_shows_names_as_they_are():
    columns = (Column("arm"), Column("p", "p"))
    text = table(("gpn/fgsam_plus|_x_ <b>", 0.0001), columns=columns).grid()
    assert r"gpn/fgsam_plus\|\_x\_ \<b>" in text
    assert "| < 0.001 |" in text
    assert len({len(line) for line in text.splitlines()}) == 1


def test_csv_keeps_the_digits_and_gives_the_half_width_a_column():
    columns = (Column("arm"), Column("accuracy", "interval", "cora"), Column("p", "p"))
    text = table(("a, b", SplitMean(1 / 3, math.inf, 1), 1e-7), ("c", None, None), columns=columns).csv()
    assert list(csv.reader(io.StringIO(text))) == [
        ["arm", "cora: accuracy", "cora: accuracy, half-width", "p"],
        ["a, b", "0.3333333333", "", "1e-07"],
        ["c", "", "", ""],
    ]


def test_an_unknown_form_is_an_error():
    with pytest.raises(ValueError, match="markdown"):
        table(columns=(Column("arm"),)).render("excel")


def test_without_any_finished_run_tables_are_empty_and_say_so():
    everything = [*made_results(score).grid.cells()]
    results = made_results(score, missing=everything, hypotheses=[Hypothesis("gpn/sam", "gpn/adam")])
    assert row_of(scores_table(results), "gpn/sam") == {
        "arm": "gpn/sam",
        "cora: accuracy": None,
        "cora: over episodes": None,
        "cora: n": 0,
    }
    assert findings_table(results).rows == ()
    assert "of 9 runs 0 failed and 9 are not over" in findings_table(results).notes[-1]
