"""What a comparison found, as tables, figures, a data frame and a folder of files."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgsam.checks import check_choice
from fgsam.comparison.findings import Finding, findings
from fgsam.comparison.results import Results
from fgsam.comparison.study import Study
from fgsam.comparison.times import Times, read_times
from fgsam.engine.record import make_folder
from fgsam.files import write_atomically
from fgsam.report import words
from fgsam.report.table import FORMS, Table
from fgsam.report.tables import EVERYWHERE, TABLES, setting_of, trial_of
from fgsam.report.time_tables import TIME_TABLES

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FORMAT = "fgsam-comparison 1"

TABLE_KINDS = (*TABLES, *TIME_TABLES)


class Comparison:
    """What a comparison found.

    Args:
        results: Its finished runs.
        times: Measured times; figures of time need them.
    """

    def __init__(self, results: Results, times: Times = ()) -> None:
        self.results = results
        self.times = tuple(times)

    @cached_property
    def findings(self) -> list[Finding]:
        """What the runs show of each hypothesis."""
        return findings(self.results)

    def table(self, kind: str = "scores", format: str = "markdown") -> str:
        """Return a table with the notes that belong to it.

        Args:
            kind: ``"scores"``, ``"differences"``, ``"findings"``, ``"variance"``, ``"ranks"``, ``"settings"``,
                ``"unfinished"``, ``"times"`` or ``"budgets"``.
            format: ``"markdown"``, ``"csv"`` (ten digits, no notes) or ``"latex"`` (packages booktabs and graphicx).

        Raises:
            ValueError: If there is no such table or format.
        """
        check_choice(TABLE_KINDS, kind=kind)
        return self._table(kind).render(format)

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each finished run that counts, with the setting that its split chose.

        ``interval`` is the half-width of the 95 % interval over test episodes, in points like the accuracies; settings
        have columns by their dotted names.

        Raises:
            RuntimeError: If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise RuntimeError(
                "Expected pandas for a data frame (it is not installed). Run: pip install 'fgsam[report]'"
            ) from error
        return pd.DataFrame([*self._rows()])

    def figure(self, kind: str = "accuracy") -> Figure:
        """Draw a figure; ``figure.savefig(...)`` writes it, and a notebook shows it.

        Args:
            kind: ``"accuracy"``, ``"differences"``, ``"learning"``, ``"ranks"``, ``"time"`` or ``"stages"``.

        Raises:
            ValueError: If there is no such figure, or there are no results of its kind.
        """
        from fgsam.report.figures import FIGURES, draw_figure

        check_choice(FIGURES, kind=kind)
        return draw_figure(FIGURES[kind], self.results, self.times)

    @cached_property
    def tables(self) -> dict[str, Table]:
        """All tables by kind, in the order of a report; one without rows has nothing to show."""
        return {kind: self._table(kind) for kind in TABLE_KINDS}

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """All figures that there are results for, by kind, in the order of a report."""
        from fgsam.report.figures import FIGURES, NothingToShowError

        found = {}
        for kind in FIGURES:
            with contextlib.suppress(NothingToShowError):
                found[kind] = self.figure(kind)
        return found

    def report(self, out: str | Path) -> Path:
        """Write all tables, all figures that there are results for, ``findings.json`` and ``index.html``.

        Args:
            out: Folder, made if it is not there; files of an earlier report are replaced.

        Returns:
            The page.

        Raises:
            RuntimeError: If jinja2 is not installed.
            OSError: If a file cannot be written.
        """
        from fgsam.report.drawing import save
        from fgsam.report.figures import FIGURES
        from fgsam.report.page import write_page

        folder = Path(out)
        make_folder(folder / "tables")
        make_folder(folder / "figures")
        for name, table in self.tables.items():
            for form, suffix in FORMS.items():
                write_atomically(folder / "tables" / f"{name}.{suffix}", table.render(form).encode())
        for name in FIGURES:
            path = folder / "figures" / name
            if name in self.figures:
                save(self.figures[name], path)
            else:  # an earlier report may have had it
                path.with_suffix(".svg").unlink(missing_ok=True)
                path.with_suffix(".png").unlink(missing_ok=True)
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"
        write_atomically(folder / "findings.json", text.encode())
        return write_page(self, folder)

    def to_dict(self) -> dict[str, Any]:
        """Return protocol, tables and findings as plain values that fit into JSON."""
        results = self.results
        found: dict[str, Any] = _plain(
            {
                "format": FORMAT,
                "title": results.grid.title,
                "protocol": asdict(results.grid.protocol),
                "splits": list(results.grid.splits),
                "seeds": list(results.grid.seeds),
                "runs": {
                    "finished": len(results.records),
                    "failed": len(results.failed),
                    "missing": len(results.missing),
                },
                "findings": [_of_finding(finding) for finding in self.findings],
                "tables": {name: table.plain() for name, table in self.tables.items()},
                "times": [asdict(time) for time in self.times],
            }
        )
        return found

    def __str__(self) -> str:
        scores = self._table("scores")
        lines = [scores.heading, "", scores.only("arm", "accuracy").grid(), ""]
        lines.append(f"Accuracy in percent, with the half-width of the 95 % interval over {words.units(self.results)}.")
        for finding in self.findings:
            lines.append(f"{finding.hypothesis}, {finding.part or EVERYWHERE}: {words.spelled_verdict(finding)}.")
        return "\n".join([*lines, words.completeness_note(self.results)])

    def _table(self, kind: str) -> Table:
        return TABLES[kind](self.results) if kind in TABLES else TIME_TABLES[kind](self.results, self.times)

    def _rows(self) -> Iterator[dict[str, Any]]:
        settings = {part.label: part.setting for part in self.results.grid.parts}
        for unit, runs in self.results.chosen.items():
            part, arm, split = unit
            trial = trial_of(self.results, unit)
            for seed, record in runs.items():
                yield {
                    **{"part": part, "arm": arm, "split": split, "seed": seed, "trial": trial},
                    **{"accuracy": record.accuracy, "val_accuracy": record.val_accuracy},
                    "interval": 100 * record.results["test_interval"],
                    "run": str(record.directory),
                    **settings[part],
                    **setting_of(self.results, unit),
                }


def load_comparison(folder: str | Path) -> Comparison:
    """Read what the runs in the folder of a comparison found; nothing is written there.

    Args:
        folder: Where ``fgsam compare`` ran.

    Raises:
        FileNotFoundError: If it holds no comparison.
        ValueError: If a file is damaged, or runs cannot be compared.
    """
    study = Study.open(folder)
    return Comparison(Results.read(study), read_times(study.folder))


def _of_finding(finding: Finding) -> dict[str, Any]:
    return {
        **asdict(finding),
        "hypothesis": str(finding.hypothesis),
        "told": words.spelled_verdict(finding),
        "p": finding.test.p_value,
        "sign_flip_p": finding.check.p_value,
    }


def _plain(value: Any) -> Any:
    """Turn tuples into lists, keys into texts, and numbers that JSON does not know into None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
