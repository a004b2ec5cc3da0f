"""Time and memory of loading a graph: the first start parses its raw files, the second one maps the cache.

Every start is a fresh process; the first start of each round has an empty cache folder::

    python -m benchmarks first_start --markdown docs/results/first_start.md
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import write_json, write_markdown
from fgsam.memory import peak_memory_mb

STARTS = ("first", "second")
WARM_UP = 1

ABOUT = """
Every start is a fresh process that calls `load_graph`; the first start of each round has an empty cache folder and
parses the raw files, the second one maps what the first one has stored. Both read the raw files whole and check the
digest of what they return. The files are in the memory of the operating system: one round of warm-up is left out.
Imports, which both need, are not in the seconds. Seconds of the processor are those that a busy neighbour lengthens
least. Memory is the largest resident size of the process.
"""


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graph", nargs="+", default=["coauthor_cs"], help="names of graphs")
    parser.add_argument("--rounds", type=int, default=10, help="rounds after one of warm-up")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--markdown", type=Path, help="page for the figures")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(start(arguments.child)))
        return
    rows = [row for graph in arguments.graph for row in measure(graph, arguments.rounds)]
    table = _table(rows)
    print(table)
    write_json(arguments.json, rows)
    if arguments.markdown:
        write_markdown(arguments.markdown, "First and second start", table, ABOUT)


def start(graph: str) -> dict[str, float]:
    """Load a graph in this process; return its seconds, and MiB of the imports and in all."""
    from fgsam.data.load import load_graph
    from fgsam.registry import DATASETS

    DATASETS.load(graph)
    memory, begun, worked = peak_memory_mb(), time.perf_counter(), time.process_time()
    load_graph(graph)
    return {
        "seconds": time.perf_counter() - begun,
        "processor_seconds": time.process_time() - worked,
        "import_mb": memory,
        "peak_mb": peak_memory_mb(),
    }


def measure(graph: str, rounds: int) -> list[dict[str, Any]]:
    """Start in fresh processes; return a row of medians with their extremes for each kind of start."""
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in STARTS}
    for turn in range(WARM_UP + rounds):
        with tempfile.TemporaryDirectory() as cache:
            for kind in STARTS:
                figures = _in_fresh_process(graph, cache)
                if turn >= WARM_UP:
                    found[kind].append(figures)
    return [{"graph": graph, "start": kind, **_spread(figures)} for kind, figures in found.items()]


def _in_fresh_process(graph: str, cache: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks", "first_start", "--child", graph]
    environment = {**os.environ, "FGSAM_CACHE": cache}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def _spread(figures: list[dict[str, float]]) -> dict[str, list[float]]:
    """Smallest, median and largest of each figure."""
    columns = {key: sorted(row[key] for row in figures) for key in figures[0]}
    return {key: [values[0], values[len(values) // 2], values[-1]] for key, values in columns.items()}


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| graph | start | seconds, median (range) | of the processor | peak MiB | of these imports |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        clock, processor = (
            f"{middle:.3f} ({low:.3f} to {high:.3f})"
            for low, middle, high in (row["seconds"], row["processor_seconds"])
        )
        memory = (f"{row[key][1]:.0f}" for key in ("peak_mb", "import_mb"))
        lines.append(f"| {' | '.join((row['graph'], row['start'], clock, processor, *memory))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
