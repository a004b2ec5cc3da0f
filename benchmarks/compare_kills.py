"""Kills workers and launchers of a comparison at random, and compares its tables with those of the undisturbed one.

Prints passed and tried for each promise, and ends with exit code 1 if one was broken::

    python -m benchmarks compare_kills --grid configs/compare/smoke.yaml --kills 20 --launchers 3 --out docs/results
    python -m benchmarks compare_kills --quick
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.harness import command_line
from benchmarks.study import publish
from fgsam.comparison.results import Results
from fgsam.comparison.study import Study
from fgsam.report.comparison import Comparison

QUICK_GRID = """\
title: Quick
common:
  episode: {n_way: 2, k_shot: 1, num_query: 4}
  encoder: {name: gcn, hidden: 4, dim: 4}
  train: {num_episodes: 60, val_every: 30, val_episodes: 6}
  evaluate: {num_episodes: 12}
graphs: [{name: synthetic, num_nodes: 300, num_classes: 9, num_features: 40, words_per_node: 10}]
arms:
  - {method: gpn, optimizer: [adam, fgsam_plus]}
  - {method: raw_lr}
splits: 4
"""

PROMISES = {
    "workers": "Worker processes killed",
    "launchers": "Launchers killed with their workers",
    "two at once": "Two launchers on one folder",
    "dask": "Dask workers killed",
}


class Launcher:
    """``fgsam compare`` in a process of its own, and what can be killed of it."""

    def __init__(self, grid: Path, folder: Path, *options: str) -> None:
        command = [sys.executable, "-m", "fgsam", "compare", str(grid), "--folder", str(folder), *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )

    def is_working(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def workers(self) -> list[int]:
        """Process numbers of its workers, those of a cluster's nannies too."""
        return [pid for pid in _descendants(self.process.pid) if b"spawn_main" in _command(pid)]

    def kill_worker(self, rng: random.Random) -> bool:
        """Kill a worker that is there, and tell whether there was one."""
        found = self.workers()
        if not found:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(rng.choice(found), signal.SIGKILL)
            return True
        return False

    def kill(self) -> None:
        """Kill the launcher itself; its workers notice."""
        self.process.kill()
        self.process.communicate()

    def finish(self) -> dict[str, Any]:
        """Wait for it and return the object that it prints."""
        output, errors = self.process.communicate()
        if self.process.returncode != 0:
            raise RuntimeError(f"A launcher ended with exit code {self.process.returncode}:\n{errors}\n{output}")
        found: dict[str, Any] = json.loads(output)
        return found


def disturbed(
    grid: Path, folder: Path, *, kills: int, launchers: int, rng: random.Random, options: tuple[str, ...] = ()
) -> tuple[int, int]:
    """Fill a folder while workers and launchers are killed.

    Args:
        grid: The grid.
        folder: The folder.
        kills: Workers to kill.
        launchers: Launchers to kill, spread among them.
        rng: Draws moments and victims.
        options: Further options of the command.

    Returns:
        Workers and launchers that were really killed before the work was done.
    """
    killed = ended = 0
    turns = [True] * kills + [False] * launchers
    rng.shuffle(turns)
    launcher = Launcher(grid, folder, *options)
    for is_worker in turns:
        if not _wait_for_progress(launcher, folder, rng):
            break
        if is_worker:
            killed += launcher.kill_worker(rng)
        else:
            launcher.kill()
            ended += 1
            launcher = Launcher(grid, folder, *options)
    if launcher.is_working():
        launcher.process.communicate()
    Launcher(grid, folder, "--retry-failed", "--executor", "inline").finish()  # runs that lost three workers
    return killed, ended


def tables_of(folder: Path) -> dict[str, bytes]:
    """Return all tables of a folder, and the results of its runs."""
    tables = Comparison(Results.read(Study.open(folder))).tables
    found = {name: table.render("csv").encode() for name, table in tables.items()}
    for path in sorted((folder / "runs").glob("*/result.json")):
        found[path.parent.name] = json.dumps(json.loads(path.read_text())["results"], sort_keys=True).encode()
    return found


def measure(
    grid: Path, place: Path, *, kills: int, launchers: int, dask_kills: int, seed: int
) -> dict[str, tuple[bool, int]]:
    """Return for each promise whether it held, and how often it was put to the test."""
    rng = random.Random(seed)
    Launcher(grid, place / "whole").finish()
    whole = tables_of(place / "whole")
    num_runs = len(list((place / "whole" / "runs").glob("*/result.json")))
    print(f"undisturbed: {num_runs} runs", flush=True)

    killed, ended = disturbed(grid, place / "killed", kills=kills, launchers=launchers, rng=rng)
    is_same = tables_of(place / "killed") == whole
    found = {"workers": (is_same, killed), "launchers": (is_same, ended)}
    print(f"killed {killed} workers, {ended} launchers: {_told(is_same)}", flush=True)

    pair = [Launcher(grid, place / "pair") for _ in range(2)]
    for launcher in pair:
        launcher.finish()
    is_same = tables_of(place / "pair") == whole
    found["two at once"] = (is_same, 1)
    print(f"two launchers: {_told(is_same)}", flush=True)

    killed, _ = disturbed(grid, place / "dask", kills=dask_kills, launchers=0, rng=rng, options=("--executor", "dask"))
    is_same = tables_of(place / "dask") == whole
    found["dask"] = (is_same, killed)
    print(f"killed {killed} Dask workers: {_told(is_same)}", flush=True)
    return found


def page_of(found: dict[str, tuple[bool, int]], command: str) -> str:
    """Write the promises as a table."""
    rows = [f"| {PROMISES[name]} | {number} | {_told(is_same)} |" for name, (is_same, number) in found.items()]
    return "\n".join(
        [
            "# Comparisons whose workers and launchers are killed",
            "",
            f"```\n{command}\n```",
            "",
            "`kill -9` at random moments of a comparison. Results are the same if every table and every run's results",
            "have the bits of the undisturbed comparison.",
            "",
            "| what | how often | tables and results |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def _told(is_same: bool) -> str:
    return "same bits" if is_same else "DIFFERENT"


def _wait_for_progress(launcher: Launcher, folder: Path, rng: random.Random) -> bool:
    """Wait for a random moment after another run has begun, and tell whether the launcher is still at work."""
    before = _num_begun(folder)
    while launcher.is_working() and (_num_begun(folder) == before or not launcher.workers()):
        time.sleep(0.05)
    time.sleep(rng.uniform(0.0, 1.0))
    return launcher.is_working()


def _num_begun(folder: Path) -> int:
    return len(list(folder.glob("cells/*.lock")))


def _descendants(pid: int) -> Iterator[int]:
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):  # Dask starts its workers in a thread
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for child in thread.read_text().split():
                yield int(child)
                yield from _descendants(int(child))


def _command(pid: int) -> bytes:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def main() -> int:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", type=Path, help="the grid; a tiny one when not given")
    parser.add_argument("--kills", type=int, default=20, help="workers to kill")
    parser.add_argument("--launchers", type=int, default=3, help="launchers to kill")
    parser.add_argument("--dask-kills", type=int, default=3, help="Dask workers to kill")
    parser.add_argument("--seed", type=int, default=0, help="seed of moments and victims")
    parser.add_argument("--quick", action="store_true", help="a tiny grid and few kills")
    parser.add_argument("--out", type=Path, help="folder for compare_kills.md")
    arguments = parser.parse_args()
    numbers = {"kills": arguments.kills, "launchers": arguments.launchers, "dask_kills": arguments.dask_kills}
    if arguments.quick:
        numbers = {"kills": 2, "launchers": 1, "dask_kills": 1}
    with tempfile.TemporaryDirectory() as folder:
        grid = arguments.grid
        if grid is None:
            grid = Path(folder) / "grid.yaml"
            grid.write_text(QUICK_GRID, encoding="utf-8")
        found = measure(grid, Path(folder), seed=arguments.seed, **numbers)
    publish(page_of(found, command_line()), arguments.out, "compare_kills.md")
    # A tiny grid may be done before there is anything to kill.
    return 0 if all(is_same and (number or arguments.quick) for is_same, number in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
