from __future__ import annotations

import io

import pytest
from rich.console import Console

from fgsam.comparison.board import Board
from fgsam.comparison.grid import Cell
from fgsam.comparison.study import State

CELLS = [Cell(split, "graph", arm, 0, 0) for split in range(4) for arm in ("gpn/adam", "maml/adam")]


def drawn(board: Board) -> str:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(board.table())
    return console.export_text()


def test_runs_are_counted_by_arm():
    board = Board(CELLS, "none")
    for cell in CELLS[:3]:
        board.start(cell)
    board.end(CELLS[0], State("run", None, 1.0, 0.61))
    board.end(CELLS[1], State(None, "NonFiniteLossError: loss nan", 1.0))
    lines = {line.split()[1]: line.split()[2:] for line in drawn(board).splitlines() if "/adam" in line}
    assert lines["gpn/adam"] == ["1", "1", "4", "61.0", "%"]
    assert lines["maml/adam"] == ["1", "4"]
    assert "2 of 8 runs, 1 failed" in str(board)


def test_the_forecast_follows_the_kind_of_run(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("fgsam.comparison.board.time.monotonic", lambda: now[0])
    board = Board(CELLS, "none")
    assert board.seconds_left is None
    for cell, seconds in ((CELLS[0], 2.0), (CELLS[1], 10.0)):
        board.start(cell)
        board.end(cell, State("run", None, seconds, 0.5))
    now[0] = 6.0  # two workers: twelve seconds of work in six
    assert board.seconds_left == pytest.approx((3 * 2 + 3 * 10) / 2)


def test_lines_come_seldom_and_at_the_end(capsys):
    board = Board(CELLS[:3], "lines")
    for cell in CELLS[:3]:
        board.start(cell)
        board.end(cell, State("run", None, 1.0, 0.5))
    assert capsys.readouterr().err == "3 of 3 runs\n"
