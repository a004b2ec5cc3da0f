"""How the command line shows rows."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

BLOCKS = " ▁▂▃▄▅▆▇█"

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


def kept(entry: Any) -> str | None:
    """Return what an optimizer keeps from step to step beside its base, as its docstring says."""
    prose = " ".join(inspect.cleandoc(entry.__doc__ or "").partition("\nArgs:")[0].split())
    found = re.search(r"\bState: (.+?)(?:[;,.:]\s|[.]?$)", prose)
    return None if found is None or found[1].startswith("none") else found[1].replace("``", "")


def optimizer_table() -> tuple[list[str], list[list[str | None]]]:
    """Return the columns and rows that tell the optimizers apart; ``docs/optimizers.md`` shows the same."""
    from fgsam.registry import OPTIMIZERS

    columns = [
        "name",
        "what it does",
        "passes a step",
        "keeps",
        "a loss a query",
        "peer",
        "equals its base with",
        "source",
    ]
    rows = []
    for name in OPTIMIZERS:
        rule = OPTIMIZERS.load(name)
        neutral = ", ".join(f"{key}={value}" for key, value in (rule.neutral or {}).items()) or None
        queries, peer = "yes" if rule.needs_vectors else None, "yes" if rule.peer == "required" else None
        rows.append([name, summary(rule), rule.passes, kept(rule), queries, peer, neutral, paper(rule)])
    return columns, rows


LESSONS = {
    "episodes": "episodes",
    "base_nodes": "nodes of training classes",
    "all_nodes": "nodes of all classes",
    "unlabelled_nodes": "all nodes, without labels",
}
"""What a learner learns from, in words."""


def learner_table() -> tuple[list[str], list[list[str | None]]]:
    """Return the columns and rows that tell the learners apart; ``docs/learners.md`` shows the same."""
    from fgsam.registry import METHODS

    rows = []
    for name in METHODS:
        method = METHODS.load(name)
        rows.append([name, summary(method), _lesson(method), _evaluation(method), _inductive(method), paper(method)])
    return ["name", "what it does", "trained on", "evaluation reads", "inductive", "source"], rows


def _lesson(method: Any) -> str | None:
    if not method.is_trained:
        return None
    return LESSONS[method.learns_from] + ("" if method.trains_on_edges else ", without edges")


def _evaluation(method: Any) -> str | None:
    if not method.is_trained:
        return None
    reads = "a field an episode" if method.adapts else "every node once"
    return reads + ("" if method.tests_on_edges else ", without edges")


def _inductive(method: Any) -> str:
    if getattr(method, "uses_queries", False):
        return "no: queries together"
    return "no: knows the test classes" if getattr(method, "learns_from", "") == "all_nodes" else "yes"


def percent(score: float, half_width: float | None = None) -> str:
    """Write a score between 0 and 1 in percent.

    Example:
        >>> percent(0.7251, 0.0042)
        '72.51 ± 0.42 %'
    """
    return f"{100 * score:.2f} %" if half_width is None else f"{100 * score:.2f} ± {100 * half_width:.2f} %"


def columns(values: Sequence[float], *, height: int = 6, width: int = 72) -> str:
    """Draw numbers as columns of block characters, the scale on the left.

    Args:
        values: Numbers from 0 on, one a column; where there are more than ``width``, a column shows the largest of
            several.
        height: Lines.
        width: Columns at most.

    Example:
        >>> print(columns([8, 4, 1], height=2))
        8 █
          ██▂
    """
    each = -(-len(values) // width)
    shown = [max(values[start : start + each]) for start in range(0, len(values), each)]
    top = max(shown)
    label = f"{top:,}"
    lines = []
    for line in range(height - 1, -1, -1):
        # Eighths of this line that a column fills; what is there at all shows.
        eighths = [max(8 * height * value / top - 8 * line, 1.0 if value and line == 0 else 0.0) for value in shown]
        bars = "".join(BLOCKS[min(8, round(max(0.0, eighth)))] for eighth in eighths)
        lines.append(f"{label if line == height - 1 else ' ' * len(label)} {bars}".rstrip())
    return "\n".join(lines)
