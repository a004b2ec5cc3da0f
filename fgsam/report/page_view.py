"""What the page of a comparison shows: tables whose entries know how they sort and which runs they come from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from fgsam.comparison.findings import Finding
from fgsam.comparison.grid import Arm, Grid, Part
from fgsam.comparison.grid_source import entry_name
from fgsam.comparison.results import Results
from fgsam.comparison.statistics import SplitMean
from fgsam.report import words
from fgsam.report.page_plot import Axis, Plot
from fgsam.report.table import Column, Table, Value
from fgsam.report.tables import arm_name, setting_of, told_setting

ORDER = ("findings", "scores", "differences", "ranks", "times", "budgets", "settings", "variance", "unfinished")
NAMES = ("part", "arm", "hypothesis", "where", "setting", "what", "budget")
"""Columns that say what a row is about; all others come from runs."""
BY_PART = ("scores", "differences")
"""Tables with a group of columns for each part, which is too wide for a page."""
MEASURED = ("times",)
"""Tables whose numbers come from measurements of their own and not from runs."""


@dataclass(frozen=True)
class Entry:
    """One cell of a table.

    Attributes:
        text: What it says.
        key: What it is sorted by; None comes last.
        runs: Numbers of the lists of runs behind it.
        word: The verdict that it gives.
        plot: Stands in place of the text.
    """

    text: str
    key: float | str | None = None
    runs: tuple[int, ...] = ()
    word: str | None = None
    plot: Plot | None = None


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        entries: One for each column.
        facets: Values of filters that it belongs to, by the filter's number; a filter that is not here never hides it.
        is_floor: Whether it is about a method without training.
    """

    entries: tuple[Entry, ...]
    facets: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    is_floor: bool = False


@dataclass(frozen=True)
class Heading:
    """The heading of a column; numbers stand to the right and are sorted downwards first."""

    text: str
    is_number: bool


@dataclass(frozen=True)
class PageTable:
    """A table, and the sentences under it."""

    name: str
    heading: str
    columns: tuple[Heading, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Facet:
    """A filter: what it is about, and the values to choose from."""

    label: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class RunLine:
    """One run, as text."""

    split: str
    seed: str
    accuracy: str
    val_accuracy: str
    setting: str
    directory: str


@dataclass(frozen=True)
class RunList:
    """The runs that count for one arm in one part."""

    heading: str
    lines: tuple[RunLine, ...]


@dataclass(frozen=True)
class _Line:
    """A row of a table before it is written, with what it is about; no part means all of them together."""

    values: tuple[Value, ...]
    parts: tuple[Part, ...]
    arms: tuple[Arm, ...]


class View:
    """Everything that the page shows.

    Args:
        results: The runs.
        findings: What they show of each hypothesis.
        tables: Tables by kind.
    """

    def __init__(self, results: Results, findings: Sequence[Finding], tables: Mapping[str, Table]) -> None:
        self._tables = tables
        self.results = results
        self.findings = findings
        self.grid = results.grid
        self.facets = _facets(results.grid)
        self.has_floors = not all(arm.is_trained for arm in results.grid.arms)
        self.has_settings = bool(results.grid.settings) or any(len(arm.candidates) > 1 for arm in results.grid.arms)

    @cached_property
    def tables(self) -> list[PageTable]:
        """All tables with something in them; a sentence is said only once, under the first table that it belongs to."""
        said = {words.completeness_note(self.results)}
        found = []
        for name in ORDER:
            table = self._tables[name]
            if table.rows or name == "ranks":
                notes = tuple(note for note in table.notes if note not in said)
                said.update(notes)
                found.append(self._table(table, notes))
        return found

    @cached_property
    def runs(self) -> list[RunList]:
        """The runs behind the numbers; entries name them by their place in this list."""
        return [
            RunList(f"{arm_name(arm)}, {part.label}", tuple(self._run_lines(part, arm)))
            for part in self.grid.parts
            for arm in self.grid.arms
        ]

    @property
    def summary(self) -> str:
        """How large the comparison is, and how complete."""
        grid = self.grid
        sizes = {
            "arm": len(grid.arms),
            "part": len(grid.parts),
            words.units(self.results).removesuffix("s"): len(grid.splits),
            "seed": len(grid.seeds),
        }
        counts = ", ".join(f"{size} {noun}{'' if size == 1 else 's'}" for noun, size in sizes.items())
        return f"{counts}. {words.completeness_note(self.results)}"

    @property
    def words(self) -> dict[str, str]:
        """What each verdict means."""
        protocol = self.grid.protocol
        margin, alpha = f"{protocol.margin:g} points", f"{protocol.alpha:g}"
        return {
            "holds": f"The adjusted p-value of the hypothesis is below {alpha}.",
            "contradicted": f"That of its opposite is below {alpha}.",
            "equivalent": f"Neither is, but that of a difference within {margin} is below {alpha}.",
            "undecided": "None of them is. This is no evidence that the arms are alike: more splits may tell.",
        }

    @property
    def reading(self) -> list[str]:
        """How numbers, pictures and verdicts are to be read."""
        unit, margin = words.units(self.results).removesuffix("s"), f"{self.grid.protocol.margin:g}"
        tested = "episodes" if words.is_few_shot(self.results) else "nodes"
        return [
            f"What counts is one value for each {unit}: the mean over its test {tested}, then over its seeds. In the "
            f"small pictures each dot is one {unit}, and the line below is the 95 % interval of their mean; on an axis "
            f"of differences the band marks {margin} points to either side of zero. Every number but a measured "
            "time opens the list of its runs.",
            "A verdict is a word about one hypothesis that was written into the grid before any run. The p-values of "
            "all hypotheses are adjusted together by Holm's method. The first of these that is true gives the word:",
        ]

    @property
    def runs_note(self) -> str:
        """Where the runs are."""
        return (
            "The runs that count, each with the command that repeats it, to be given in the directory above the folder "
            "of this comparison. Where arms choose among settings, the runs that were not chosen lie beside them."
        )

    @property
    def facts(self) -> dict[str, str]:
        """Number of runs, and the versions that they were computed with."""
        records = self.results.records.values()
        found = {
            "Runs": f"{len({record.directory for record in records})} directories for {len(records)} finished runs",
            "Failed, not over": f"{len(self.results.failed)}, {len(self.results.missing)}",
        }
        for label, name in {"fgsam": "fgsam", "PyTorch": "torch", "PyTorch Geometric": "torch-geometric"}.items():
            found[label] = _joined(record.versions.get(name, "unknown") for record in records)
        return found | {"Results version": _joined(record.results["results_version"] for record in records)}

    def _table(self, table: Table, notes: tuple[str, ...]) -> PageTable:
        columns, values = (table.columns, table.rows) if table.name not in BY_PART else _unfolded(table, self.grid)
        known = [self._line(columns, row) for row in values]
        headings = [Heading(column.full_heading, column.kind != "text") for column in columns]
        rows = [
            [self._entry(table.name, *pair, line) for pair in zip(columns, line.values, strict=True)] for line in known
        ]
        drawn = self._drawn(table.name, known)
        if drawn is not None:
            axis, plots = drawn
            place = next(i for i, column in enumerate(columns) if column.kind in ("interval", "difference"))
            headings.insert(place + 1, Heading(f"by split, {axis}", True))
            for row, plot in zip(rows, plots, strict=True):
                row.insert(place + 1, Entry("", row[place].key, plot=plot))
        heading = table.heading.removeprefix(f"{self.grid.title}: ")
        return PageTable(
            table.name,
            heading[:1].upper() + heading[1:],
            tuple(headings),
            tuple(
                Row(tuple(row), self._places(line), not any(arm.is_trained for arm in line.arms))
                for row, line in zip(rows, known, strict=True)
            ),
            notes,
        )

    def _line(self, columns: Sequence[Column], values: tuple[Value, ...]) -> _Line:
        named = {column.heading: value for column, value in zip(columns, values, strict=True)}
        where = named.get("part", named.get("where"))
        claims = {str(claim): (claim.arm, claim.reference) for claim in self.grid.protocol.hypotheses}
        labels = claims.get(str(named.get("hypothesis")), ())
        arms = [arm for arm in self.grid.arms if arm.label in labels or arm_name(arm) == named.get("arm")]
        return _Line(values, tuple(part for part in self.grid.parts if part.label == where), tuple(arms))

    def _entry(self, table: str, column: Column, value: Value, line: _Line) -> Entry:
        key = value.mean if isinstance(value, SplitMean) else value
        if isinstance(key, float) and not math.isfinite(key):
            key = None
        text = column.text(value)
        has_runs = column.heading not in NAMES and table not in MEASURED and value not in (None, "")
        runs = self._runs_of(table, column, line) if has_runs else ()
        return Entry(text, key, runs, text.replace(",", " ").split()[0] if column.heading == "verdict" else None)

    def _runs_of(self, table: str, column: Column, line: _Line) -> tuple[int, ...]:
        labels = {part.label for part in line.parts or self.grid.parts}
        arms = {arm.label for arm in line.arms}
        if "difference" in f"{table} {column.group}":
            arms.add(self.grid.protocol.reference)
        pairs = [(part.label, arm.label) for part in self.grid.parts for arm in self.grid.arms]
        return tuple(
            number
            for number, (part, arm) in enumerate(pairs)
            if part in labels and arm in arms and self.runs[number].lines
        )

    def _run_lines(self, part: Part, arm: Arm) -> Iterator[RunLine]:
        for split in self.grid.splits:
            unit = (part.label, arm.label, split)
            for seed, record in self.results.chosen.get(unit, {}).items():
                yield RunLine(
                    str(split),
                    str(seed),
                    f"{record.accuracy:.2f}",
                    f"{record.val_accuracy:.2f}",
                    told_setting(setting_of(self.results, unit)),
                    "/".join(record.directory.parts[-3:]),
                )

    def _drawn(self, table: str, lines: Sequence[_Line]) -> tuple[Axis, list[Plot | None]] | None:
        """Draw each row's values by split, where a table has such."""
        results, protocol = self.results, self.grid.protocol
        if table == "findings":
            values = [finding.differences for finding in self.findings]
        elif table == "scores":
            values = [results.scores(line.parts[0].label, line.arms[0].label) for line in lines]
        elif table == "differences":
            values = [
                results.differences(line.parts[0].label, line.arms[0].label, protocol.reference) for line in lines
            ]
        else:
            return None
        axis = Axis.of(values, None if table == "scores" else protocol.margin)
        return axis, [axis.plot(list(found.values())) if found else None for found in values]

    def _places(self, line: _Line) -> dict[int, tuple[int, ...]]:
        traits = [*map(_part_traits, line.parts), *map(_arm_traits, line.arms)]
        found = {
            number: {facet.values.index(each[facet.label]) for each in traits if facet.label in each}
            for number, facet in enumerate(self.facets)
        }
        return {number: tuple(sorted(values)) for number, values in found.items() if values}


def _unfolded(table: Table, grid: Grid) -> tuple[tuple[Column, ...], list[tuple[Value, ...]]]:
    """Give each part rows of its own in place of columns."""
    size = (len(table.columns) - 1) // len(grid.parts)
    columns = (Column("part"), table.columns[0], *(replace(column, group="") for column in table.columns[1 : 1 + size]))
    starts = range(1, len(table.columns), size)
    parts = zip(grid.parts, starts, strict=True)
    return columns, [(part.label, row[0], *row[start : start + size]) for part, start in parts for row in table.rows]


def _facets(grid: Grid) -> list[Facet]:
    found: dict[str, dict[str, None]] = {}  # values in the order of the grid
    for traits in [*map(_part_traits, grid.parts), *map(_arm_traits, grid.arms)]:
        for label, value in traits.items():
            found.setdefault(label, {})[value] = None
    return [Facet(label, tuple(values)) for label, values in found.items() if len(values) > 1]


def _part_traits(part: Part) -> dict[str, str]:
    settings = {key.partition(".")[2]: str(value) for key, value in part.setting.items()}
    told = ", ".join(f"{key} {value}" for key, value in settings.items())
    return {"graph": part.label.removesuffix(told).removesuffix(", "), **settings}


def _arm_traits(arm: Arm) -> dict[str, str]:
    """What a trained arm is made of; a floor has none of it, so that no filter hides it."""
    return {section: entry_name(entry) for section, entry in arm.entries.items() if arm.is_trained}


def _joined(values: Iterable[object]) -> str:
    return ", ".join(sorted({str(value) for value in values})) or "none"
