"""Many runs that are never computed twice, so that a study can be stopped and continued at any time."""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from fgsam.engine.config import find_config
from fgsam.engine.document import Document

C = TypeVar("C")
Options = dict[str, Any]
Row = dict[str, Any]
RunOne = Callable[[C, Options, Path], Row]


QUICK_GRAPH = {"name": "synthetic", "num_nodes": 600, "num_classes": 12, "num_features": 100, "words_per_node": 20}
"""What the quick form of a study of episodes runs on."""


def study_parser(about: str | None, *, pages: str, quick: str) -> argparse.ArgumentParser:
    """Make a parser with the options that every study has.

    Args:
        about: The docstring of the study.
        pages: What is written to the folder of ``--out``.
        quick: What ``--quick`` runs.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="folder of the runs; finished ones are only read")
    parser.add_argument("--journal", type=Path, help="file of finished rows, by default in the folder of the runs")
    parser.add_argument("--out", type=Path, help=f"folder for {pages}")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--only-finished", action="store_true", help="compute nothing, report what is there")
    parser.add_argument("--quick", action="store_true", help=quick)
    return parser


def written_grid(name: str) -> dict[str, Any]:
    """Read the keys of a grid that comes with the package, to be changed and given to ``grid_of_call``."""
    return dict(Document.read(find_config(name)).content)


def run_study(arguments: argparse.Namespace, cells: Mapping[C, Options], run_one: RunOne[C]) -> dict[C, Row]:
    """Do what the options of :func:`study_parser` say, see :func:`run_all`; without a folder runs are not kept."""
    limits = {"workers": arguments.workers, "only_finished": arguments.only_finished}
    with tempfile.TemporaryDirectory() as scratch:
        return run_all(cells, run_one, arguments.runs or Path(scratch), journal=arguments.journal, **limits)


def publish(page: str, folder: Path | None, name: str) -> None:
    """Write a page to a folder, or print it without one."""
    if folder is None:
        print(page)
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(page, encoding="utf-8")


def run_all(
    cells: Mapping[C, Options],
    run_one: RunOne[C],
    root: Path,
    *,
    journal: Path | None = None,
    workers: int = 1,
    only_finished: bool = False,
) -> dict[C, Row]:
    """Compute the rows that the journal does not hold yet, and add them to it.

    Args:
        cells: What to run, a frozen dataclass each, with the options that the result depends on.
        run_one: Computes the figures of one cell; a function of a module, for it may run in other processes.
        root: Folder of the runs.
        journal: File of finished rows, one JSON object a line; by default ``rows.jsonl`` in ``root``.
        workers: Processes; one is this process.
        only_finished: Compute nothing.

    Returns:
        The row of each cell that is finished, in the order of ``cells``: its fields, a digest of its options, figures.
    """
    root.mkdir(parents=True, exist_ok=True)
    journal = journal or root / "rows.jsonl"
    rows = _read(journal, cells)
    jobs = [] if only_finished else [(run_one, cell, cells[cell], root) for cell in cells if cell not in rows]
    start = time.monotonic()
    with ExitStack() as stack:
        file = stack.enter_context(journal.open("a", encoding="utf-8"))
        results: Iterable[tuple[C, Row]] = map(_call, jobs)
        if workers > 1:
            pool = stack.enter_context(multiprocessing.get_context("spawn").Pool(workers))
            results = pool.imap_unordered(_call, jobs)
        for done, (cell, row) in enumerate(results, start=1):
            rows[cell] = row
            file.write(json.dumps(row) + "\n")
            file.flush()
            if done == 10 or done % 50 == 0 or done == len(jobs):
                elapsed = time.monotonic() - start
                left = (len(jobs) - done) * elapsed / done
                print(f"{done} of {len(jobs)} runs, {elapsed:.0f} s, about {left / 60:.0f} min left", file=sys.stderr)
    return {cell: rows[cell] for cell in cells if cell in rows}


def _read(journal: Path, cells: Mapping[C, Options]) -> dict[C, Row]:
    """Rows of the journal that were made with the present options; a line cut short by a kill is left out."""
    known = {tuple(asdict(cell).values()): cell for cell in cells}  # type: ignore[call-overload]
    num_fields = len(next(iter(known), ()))
    rows = {}
    for line in journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        cell = known.get(tuple(row.values())[:num_fields])
        if cell is not None and row["options"] == _digest(cells[cell]):
            rows[cell] = row
    return rows


def _call(job: tuple[RunOne[C], C, Options, Path]) -> tuple[C, Row]:
    run_one, cell, options, root = job
    own = {**asdict(cell), "options": _digest(options)}  # type: ignore[call-overload]
    return cell, own | run_one(cell, options, root)


def _digest(options: Options) -> str:
    return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:16]
