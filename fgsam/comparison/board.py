"""How far a comparison is: a live table on a terminal, sparse lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal

import numpy as np

from fgsam.comparison.grid import Cell
from fgsam.comparison.study import State

if TYPE_CHECKING:
    from rich.table import Table

LINE_SECONDS = 10.0

BoardKind = Literal["auto", "table", "lines", "none"]


class Board:
    """Counts the runs of a comparison and forecasts the time that is left.

    Args:
        cells: All runs.
        kind: ``"table"`` for a terminal, ``"lines"``, ``"none"``, or ``"auto"`` to find out.

    Example:
        >>> cells = [Cell(split, "graph", "gpn/sam", 0, 0) for split in range(3)]
        >>> board = Board(cells, "none")
        >>> board.start(cells[0])
        >>> board.end(cells[0], State("run", None, 2.0))
        >>> str(board).partition(",")[0]
        '1 of 3 runs'
    """

    def __init__(self, cells: Iterable[Cell], kind: BoardKind = "auto") -> None:
        self.cells = tuple(cells)
        self.states: dict[Cell, State] = {}
        self.running: set[Cell] = set()
        self.kind = ("table" if sys.stderr.isatty() else "lines") if kind == "auto" else kind
        self._begun = time.monotonic()
        self._told = self._begun
        self._worked = 0.0

    def start(self, cell: Cell) -> None:
        """Note that a run is under way."""
        self.running.add(cell)
        self._show()

    def end(self, cell: Cell, state: State) -> None:
        """Note that a run is over."""
        if cell in self.running:
            self.running.remove(cell)
            self._worked += state.seconds
        self.states[cell] = state
        self._show()

    def shown(self) -> AbstractContextManager[object]:
        """Show the board while the context lasts."""
        if self.kind != "table":
            return nullcontext()
        from rich.console import Console
        from rich.live import Live

        return Live(get_renderable=self.table, console=Console(stderr=True), refresh_per_second=2, transient=True)

    @property
    def seconds_left(self) -> float | None:
        """Seconds that the rest takes, from what runs of the same kind took and the pace so far; None before any."""
        known: dict[tuple[str, str], list[float]] = defaultdict(list)
        for cell, state in self.states.items():
            if state.is_finished:
                known[cell.part, cell.arm].append(state.seconds)
        if not known or not self._worked:
            return None
        everywhere = float(np.mean([second for seconds in known.values() for second in seconds]))
        left = sum(
            float(np.mean(known.get((cell.part, cell.arm), [everywhere])))
            for cell in self.cells
            if cell not in self.states
        )
        return left * (time.monotonic() - self._begun) / self._worked

    def table(self) -> Table:
        """The runs of each arm: done, under way, failed, and the best accuracy on validation so far."""
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, title=str(self), title_justify="left", pad_edge=False)
        for column in ("part", "arm", "done", "running", "failed", "of", "best validation so far"):
            table.add_column(column, justify="left" if column in ("part", "arm") else "right", overflow="fold")
        total = Counter((cell.part, cell.arm) for cell in self.cells)
        done = Counter((cell.part, cell.arm) for cell, state in self.states.items() if state.is_finished)
        failed = Counter((cell.part, cell.arm) for cell, state in self.states.items() if not state.is_finished)
        running = Counter((cell.part, cell.arm) for cell in self.running)
        best: dict[tuple[str, str], float] = {}
        for cell, state in self.states.items():
            if state.val_accuracy is not None:
                best[cell.part, cell.arm] = max(state.val_accuracy, best.get((cell.part, cell.arm), 0.0))
        for key, number in total.items():
            counts = [str(count[key] or "") for count in (done, running, failed)]
            table.add_row(*key, *counts, str(number), f"{100 * best[key]:.1f} %" if key in best else "")
        return table

    def __str__(self) -> str:
        num_failed = sum(not state.is_finished for state in self.states.values())
        parts = [f"{len(self.states)} of {len(self.cells)} runs"]
        parts += [f"{num_failed} failed"] if num_failed else []
        if len(self.states) < len(self.cells) and (left := self.seconds_left) is not None:
            parts.append(f"about {told_seconds(left)} left")
        return ", ".join(parts)

    def _show(self) -> None:
        now = time.monotonic()
        is_last = len(self.states) == len(self.cells)
        if self.kind == "lines" and (now - self._told >= LINE_SECONDS or is_last):
            self._told = now
            print(self, file=sys.stderr)


def told_seconds(seconds: float) -> str:
    """Tell a duration in its natural unit.

    Example:
        >>> told_seconds(40), told_seconds(400), told_seconds(40_000)
        ('40 s', '7 min', '11 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.0f} h"
