"""One table in the forms that papers and programs read: Markdown, CSV, LaTeX and plain values."""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from fgsam.checks import check_choice
from fgsam.comparison.statistics import SplitMean

Kind = Literal["text", "count", "number", "interval", "difference", "half_width", "p"]
Value = str | int | float | SplitMean | None

NOTHING = "–"  # noqa: RUF001  what is printed where there is no value
LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    NOTHING: "--",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
}


@dataclass(frozen=True)
class Column:
    """A heading, and what kind of values stands below it.

    Attributes:
        heading: What the values are.
        kind: ``text``, ``count``, ``number`` with two digits, ``interval`` and ``difference`` for a mean with its
            half-width, the latter with its sign, ``half_width`` alone, or ``p`` for a p-value.
        group: Heading that neighbouring columns share, empty for none.
    """

    heading: str
    kind: Kind = "text"
    group: str = ""

    @property
    def full_heading(self) -> str:
        """The heading with that of its group."""
        return f"{self.group}: {self.heading}" if self.group else self.heading

    def text(self, value: Value) -> str:
        """Write a value for a reader, on one line.

        Example:
            >>> Column("accuracy", "interval").text(SplitMean(71.238, 1.5, 5))
            '71.24 ± 1.50'
            >>> Column("p", "p").text(0.0002)
            '< 0.001'
        """
        if value is None:
            return NOTHING
        if isinstance(value, str):
            return " ".join(value.split())
        if isinstance(value, SplitMean):
            mean = f"{value.mean:+.2f}" if self.kind == "difference" else f"{value.mean:.2f}"
            return f"{mean} ± {value.half_width:.2f}" if math.isfinite(value.half_width) else mean
        if not math.isfinite(value):
            return NOTHING
        if self.kind == "p":
            return f"{value:.3f}" if value >= 0.0005 else "< 0.001"
        return {"count": f"{value}", "half_width": f"± {value:.2f}"}.get(self.kind, f"{value:.2f}")


@dataclass(frozen=True)
class Table:
    """Rows of values with a heading, and below them what a reader must know.

    Attributes:
        name: Of its files.
        heading: What it shows.
        columns: One for each value of a row.
        rows: Values; None where there is none.
        notes: Sentences.
    """

    name: str
    heading: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]
    notes: tuple[str, ...]

    def only(self, *headings: str) -> Table:
        """Return the table with the columns of these headings, without notes."""
        kept = [i for i, column in enumerate(self.columns) if column.heading in headings]
        rows = tuple(tuple(row[i] for i in kept) for row in self.rows)
        return replace(self, columns=tuple(self.columns[i] for i in kept), rows=rows, notes=())

    def render(self, form: str) -> str:
        """Return the table as ``markdown``, ``csv`` or ``latex``.

        Raises:
            ValueError: If there is no such form.
        """
        check_choice(FORMS, format=form)
        return {"markdown": self.markdown, "csv": self.csv, "latex": self.latex}[form]()

    def markdown(self) -> str:
        """Return heading, table and notes in GitHub's Markdown, with columns that line up in plain text too."""
        parts = [f"### {_markdown(self.heading)}"]
        if self.rows:
            parts.append(self.grid())
        return "\n\n".join([*parts, *map(_markdown, self.notes)]) + "\n"

    def grid(self) -> str:
        """Return the table alone in Markdown."""
        cells = [[_markdown(column.full_heading) for column in self.columns]]
        for row in self.rows:
            cells.append([_markdown_cell(*pair) for pair in zip(self.columns, row, strict=True)])
        widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
        is_left = [column.kind == "text" for column in self.columns]
        rule = ["-" * width if left else "-" * (width - 1) + ":" for width, left in zip(widths, is_left, strict=True)]
        lines = [
            [cell.ljust(width) if left else cell.rjust(width) for cell, width, left in zip(*parts, strict=True)]
            for parts in ((line, widths, is_left) for line in cells)
        ]
        return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]])

    def csv(self) -> str:
        """Return the values with ten digits; a mean and its half-width are two columns. There are no notes."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(self._names())
        writer.writerows(self._flat_rows())
        return buffer.getvalue()

    def latex(self) -> str:
        """Return a ``table`` that needs the packages booktabs and graphicx, and is never wider than a line."""
        lines = [
            r"% \usepackage{booktabs,graphicx} \usepackage[T1]{fontenc}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex_text(self.heading)}.}}",
            rf"\label{{tab:{self.name}}}",
        ]
        if self.rows:
            lines += [r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%", *self._tabular(), "}"]
        if self.notes:
            lines += [r"\par\medskip", r"\begin{minipage}{\linewidth}\footnotesize"]
            lines += [rf"{latex_text(note)}\par" for note in self.notes]
            lines += [r"\end{minipage}"]
        return "\n".join([*lines, r"\end{table}"]) + "\n"

    def plain(self) -> dict[str, Any]:
        """Return the table as plain values: rows as mappings from heading to value."""
        rows = [dict(zip(self._names(), row, strict=True)) for row in self._flat_rows()]
        return {"heading": self.heading, "rows": rows, "notes": list(self.notes)}

    def _names(self) -> list[str]:
        return [name for column in self.columns for name in _flat_headings(column)]

    def _flat_rows(self) -> Iterator[list[str | int | float | None]]:
        for row in self.rows:
            pairs = zip(self.columns, row, strict=True)
            yield [part for column, value in pairs for part in _flat_values(column, value)]

    def _tabular(self) -> Iterator[str]:
        yield rf"\begin{{tabular}}{{{''.join('l' if column.kind == 'text' else 'r' for column in self.columns)}}}"
        yield r"\toprule"
        if any(column.group for column in self.columns):
            yield from _latex_groups(self.columns)
        yield " & ".join(latex_text(column.heading) for column in self.columns) + r" \\"
        yield r"\midrule"
        for row in self.rows:
            yield " & ".join(_latex_cell(*pair) for pair in zip(self.columns, row, strict=True)) + r" \\"
        yield r"\bottomrule"
        yield r"\end{tabular}"


FORMS = {"markdown": "md", "csv": "csv", "latex": "tex"}
"""Forms of a table and the suffixes of their files."""


def table_of(
    name: str, heading: str, columns: Sequence[Column], rows: Sequence[Sequence[Value]], notes: Sequence[str]
) -> Table:
    """Make a table of lists."""
    return Table(name, heading, tuple(columns), tuple(map(tuple, rows)), tuple(notes))


def latex_text(text: str) -> str:
    r"""Write a text so that LaTeX prints it as it is.

    Example:
        >>> print(latex_text("50 % of gpn/fgsam_plus"))
        50 \% of gpn/fgsam\_plus
    """
    return "".join(LATEX.get(letter, letter) for letter in " ".join(text.split()))


def _latex_cell(column: Column, value: Value) -> str:
    text = column.text(value)
    if column.kind == "text" or text == NOTHING:
        return latex_text(text)
    number = text.replace("±", r"\pm")
    return f"${number}$"


def _latex_groups(columns: Sequence[Column]) -> Iterator[str]:
    headings, rules, start = [], [], 1
    for group, members in itertools.groupby(columns, key=lambda column: column.group):
        size = len(list(members))
        headings.append(rf"\multicolumn{{{size}}}{{{'c' if group else 'l'}}}{{{latex_text(group)}}}")
        if group:
            rules.append(rf"\cmidrule(lr){{{start}-{start + size - 1}}}")
        start += size
    yield " & ".join(headings) + r" \\"
    yield " ".join(rules)


def _markdown_cell(column: Column, value: Value) -> str:
    text = column.text(value)
    return _markdown(text) if column.kind == "text" else text


def _markdown(text: str) -> str:
    escaped = re.sub(r"([\\`*|\[\]~]|[<&](?=\S))", r"\\\1", " ".join(text.split()))
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", escaped)  # within a word it means nothing


def _flat_headings(column: Column) -> list[str]:
    name = column.full_heading
    return [name, f"{name}, half-width"] if column.kind in ("interval", "difference") else [name]


def _flat_values(column: Column, value: Value) -> list[str | int | float | None]:
    found: list[str | int | float | None]
    if column.kind in ("interval", "difference"):
        found = [value.mean, value.half_width] if isinstance(value, SplitMean) else [None, None]
    else:
        assert not isinstance(value, SplitMean)
        found = [value]
    return [_digits(item) if isinstance(item, float) else item for item in found]


def _digits(value: float) -> float | None:
    """Ten digits, without the noise of the last ones."""
    return float(f"{value:.10g}") if math.isfinite(value) else None
