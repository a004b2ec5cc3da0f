"""Many runs that are never computed twice, so that a study can be stopped and continued at any time."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

C = TypeVar("C")
Options = dict[str, Any]
Row = dict[str, Any]
RunOne = Callable[[C, Options, Path], Row]


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
