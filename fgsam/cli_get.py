"""How ``fgsam data get`` fetches a graph: what it shows, asks and checks."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

from fgsam.cli_report import say, shown_log
from fgsam.cli_tables import print_table
from fgsam.data.card import Card
from fgsam.data.download import Report
from fgsam.data.fetch import Job, download_folder, fetch, jobs, size_of
from fgsam.data.load import load_graph
from fgsam.data.locate import find

LINE_SECONDS = 10.0
"""Time between two lines about a download, where there is no terminal for a bar."""


def get_graph(card: Card, *, yes: bool, root: str | None, mirror: str | None) -> bool:
    """Fetch what is missing of a graph, or all where what is here is not the known content.

    Args:
        card: The card of the graph.
        yes: Whether not to ask.
        root: Folder to fetch into, and to look in.
        mirror: Where to take the files from in place of the addresses on the card.

    Returns:
        Whether the graph is here now; False if the user did not agree.

    Raises:
        OSError: If a source cannot be reached or the folder cannot be written.
        ValueError: If a file has no known source, the content is not the known one, or there is nobody to ask.
    """
    if not card.all_files:
        print(f"Graph '{card.name}' is generated: there is nothing to fetch.")
        return True
    missing = _missing(card, root)
    if not missing:
        print(f"Graph '{card.name}' is here: {_verdict(card)}.")
        return True
    folder = download_folder(root)
    todo = jobs(card, missing, mirror)
    _announce(card, todo, folder)
    if not yes and not _agreed():
        print("Nothing was fetched.")
        return False
    with shown_log(), _progress() as report:
        paths = [path for job in todo for path in fetch(job, folder, report)]
    _check_fetched(card, paths, root)
    print(f"Fetched graph '{card.name}' into {folder}: {_verdict(card)}.")
    return True


def _verdict(card: Card) -> str:
    """What loading the graph has shown."""
    return "it is the one of its card" if card.digests else "it has the counts of its card; no digest is known yet"


def _missing(card: Card, root: str | None) -> Sequence[str]:
    """The files to fetch: those that are not here, or all where what is here is not the known graph."""
    missing = [file for file in card.all_files if find(file, root) is None]
    if missing:
        return missing
    try:
        load_graph(card.name, root)
    except ValueError as error:
        say(f"The files that are here do not serve: {error}")
        return card.all_files
    return []


def _announce(card: Card, todo: Sequence[Job], folder: Path) -> None:
    rows = [("title", card.title), ("source", card.source), ("licence", card.licence)]
    for job in todo:
        size = size_of(job, folder)
        rows.append(("fetch", f"{job.source} ({'size unknown' if size is None else _megabytes(size)})"))
        for place in job.places:
            rows.append(("into", f"{folder / place}{', in place of what is there' * (folder / place).exists()}"))
    print_table(["graph", card.name], rows)


def _megabytes(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB" if size >= 2**19 else f"{size / 2**10:,.1f} KiB"


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise ValueError("Expected a terminal to ask on, or consent in advance (got neither). Add --yes to fetch.")
    return typer.confirm("Fetch?")


def _check_fetched(card: Card, paths: Sequence[Path], root: str | None) -> None:
    """Load the graph; what does not hold the known content does not stay."""
    try:
        load_graph(card.name, root)
    except ValueError:
        for path in paths:
            path.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _progress() -> Iterator[Report]:
    """Show downloads as bars on a terminal, as a line now and then elsewhere."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    tasks: dict[str, Any] = {}
    with Progress(*columns, console=Console(stderr=True)) as progress:

        def report(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name.rpartition("/")[2], total=total)
            progress.update(tasks[name], completed=done, total=total)

        yield report


def _lines() -> Report:
    written = time.monotonic()

    def report(name: str, done: int, total: int | None) -> None:
        nonlocal written
        if done == total or time.monotonic() - written >= LINE_SECONDS:
            written = time.monotonic()
            say(f"{name}: {_megabytes(done)}{'' if total is None else f' of {_megabytes(total)}'}")

    return report
