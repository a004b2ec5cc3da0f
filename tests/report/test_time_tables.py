from __future__ import annotations

import pytest

from fgsam.comparison.times import ArmTime
from fgsam.report.comparison import Comparison
from fgsam.report.time_tables import TIME_TABLES, budgets_table, times_table
from tests.comparison.test_times import LOOKS, TIMES, logged
from tests.report.made import made_results


def test_times_stand_beside_their_ratio_to_the_reference():
    times = [ArmTime("cora", "gpn/adam", 4.0, 3.0, 6.0, {}), ArmTime("cora", "gpn/sam", 7.0, 6.5, 8.0, {})]
    table = times_table(made_results(lambda *cell: 60.0), times)
    assert table.rows == (("cora", "gpn/adam", 4.0, 3.0, 6.0, 1.0), ("cora", "gpn/sam", 7.0, 6.5, 8.0, 1.75))
    assert table.columns[-1].heading == "times gpn/adam"


def test_without_the_time_of_the_reference_there_is_no_ratio():
    (row,) = times_table(made_results(lambda *cell: 60.0), [ArmTime("cora", "gpn/sam", 7.0, 6.5, 8.0, {})]).rows
    assert row == ("cora", "gpn/sam", 7.0, 6.5, 8.0, None)


def test_times_of_other_grids_in_the_folder_are_not_shown():
    times = [ArmTime("nell", "gpn/adam", 4.0, 3.0, 6.0, {}), ArmTime("cora", "maml/adam", 7.0, 6.5, 8.0, {})]
    assert times_table(made_results(lambda *cell: 60.0), times).rows == ()


def test_budgets_of_gradients_and_seconds_are_rows_of_one_table(tmp_path):
    results = logged(tmp_path, LOOKS)
    table = budgets_table(results, TIMES)
    # 8 gradients are 8 steps of Adam and 4 of SAM; 16 ms are 8 steps of Adam and 5 of SAM.
    assert [row[:3] for row in table.rows] == [
        ("synthetic", "gpn/adam", "8 gradient evaluations"),
        ("synthetic", "gpn/sam", "8 gradient evaluations"),
        ("synthetic", "gpn/adam", "0.016 seconds"),
        ("synthetic", "gpn/sam", "0.016 seconds"),
    ]
    assert [column.heading for column in table.columns[3:]] == ["25%", "50%", "100%"]
    assert [value and round(value.mean, 9) for value in table.rows[0][3:]] == [40.0, 50.0, 70.0]
    assert [value and round(value.mean, 9) for value in table.rows[1][3:]] == [None, 50.0, 60.0]
    assert len(budgets_table(results, ()).rows) == 2


@pytest.mark.parametrize("kind", sorted(TIME_TABLES))
def test_without_measurements_and_logs_there_are_no_rows(kind):
    table = TIME_TABLES[kind](made_results(lambda *cell: 60.0), ())
    assert table.rows == ()
    assert table.notes[-1] == "Complete: all 9 runs are finished."


def test_a_comparison_has_both_and_its_report_shows_what_has_rows(tmp_path):
    assert "| gpn/sam  |      3.00 |" in Comparison(logged(tmp_path / "one", LOOKS), TIMES).table("times")
    assert "8 gradient evaluations" in Comparison(logged(tmp_path / "more", LOOKS), TIMES).table("budgets")
    found = Comparison(made_results(lambda *cell: 60.0), [ArmTime("cora", "gpn/adam", 4.0, 3.0, 6.0, {})])
    page = found.report(tmp_path / "report").read_text()
    assert (tmp_path / "report" / "tables" / "times.tex").is_file()
    assert "Time of a training step" in page
    assert "equal budgets" not in page
