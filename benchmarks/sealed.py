"""Class splits that nothing was developed on: read by a word of their own, and every reading is noted."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.harness import command_line

NUM_OPEN = 5
"""Class splits that learners may be developed on; the others are sealed."""


def add_split_options(parser: argparse.ArgumentParser) -> None:
    """Add the class splits of a study, and the word that opens sealed ones.

    Args:
        parser: Made by ``study_parser``, with options or defaults ``graphs`` and ``methods``, which the log tells.
    """
    parser.add_argument("--first-split", type=int, default=0)
    parser.add_argument("--splits", type=int, default=NUM_OPEN, help="class splits up to this one, itself left out")
    parser.add_argument("--final", action="store_true", help="read sealed class splits, and note it")
    parser.add_argument("--log", type=Path, help="log of such readings, by default in the folder of the runs")


def parse_and_note(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse, refuse sealed class splits without the word, and note a reading of them; ``--quick`` has one split."""
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.splits = 1
    if arguments.splits > NUM_OPEN and not arguments.final and not arguments.only_finished:
        parser.error(f"splits from {NUM_OPEN} on are sealed: add --final, which notes the reading, or lower --splits")
    if arguments.final and arguments.runs is None and arguments.log is None:
        parser.error("--final wants a place for the log of the reading: add --log or --runs")
    if arguments.final:
        _note_reading(arguments.log or arguments.runs / "readings.jsonl", arguments)
    return arguments


def _note_reading(log: Path, arguments: argparse.Namespace) -> None:
    """Add a line to the log."""
    reading = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command_line(),
        "graphs": arguments.graphs,
        "splits": [arguments.first_split, arguments.splits],
        "methods": arguments.methods,
    }
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(reading) + "\n")
