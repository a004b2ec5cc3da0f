"""How the command line shows rows."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

PLAIN_WIDTH = 200
"""Columns of a table that goes into a file or a pipe, where nothing can be folded nicely."""


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, numeric: Sequence[str] = ()) -> None:
    """Print a table on standard output.

    Args:
        columns: Heads of the columns.
        rows: One value a column each; ``None`` shows as a dash.
        numeric: Columns that are aligned to the right.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in numeric else "left", overflow="fold")
    for row in rows:
        # Text, not markup: a value such as [1, 2] must not be taken for a style.
        table.add_row(*(Text("-" if value is None else str(value)) for value in row))
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else PLAIN_WIDTH).print(table)


def summary(entry: Any) -> str:
    """Return the first sentence of a docstring."""
    text = inspect.cleandoc(entry.__doc__ or "").partition("\n\n")[0]
    return " ".join(text.split()).rstrip(".").replace("``", "")


def paper(entry: Any) -> str | None:
    """Return the source that a docstring names, on one line."""
    found = re.search(r"^Source:\n((?:[ ]{4}.*\n?)+)", inspect.cleandoc(entry.__doc__ or ""), re.MULTILINE)
    return " ".join(found.group(1).split()).replace("``", "") if found else None


def percent(score: float, half_width: float | None = None) -> str:
    """Write a score between 0 and 1 in percent.

    Example:
        >>> percent(0.7251, 0.0042)
        '72.51 ± 0.42 %'
    """
    return f"{100 * score:.2f} %" if half_width is None else f"{100 * score:.2f} ± {100 * half_width:.2f} %"
