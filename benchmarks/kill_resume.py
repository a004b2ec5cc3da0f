"""Kills a run at random moments and compares what comes out with the undisturbed run.

Prints passed and tried for each promise, and ends with exit code 1 if one was broken::

    python -m benchmarks kill_resume --kills 20
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import write_markdown

SETTINGS = (
    "dataset.name=synthetic",
    "dataset.num_nodes=2000",
    "dataset.num_classes=20",
    "dataset.num_features=500",
    "method.name=gpn",
    "optimizer.name=fgsam_plus",
    "episode.n_way=3",
    "train.val_every=20",
    "train.patience=1000",
    "evaluate.num_episodes=100",
)


ABOUT = """
One run of GPN with FGSAM+ is killed with `kill -9` at random moments of its training and started again; two processes
get one config at the same time. A kill passes if the finished run has the results of the undisturbed one, bit for bit:
weights digest, every test episode, every validation. A pair passes if both processes report the undisturbed weights,
and the second one reads what the first one computed.
"""


def start(root: Path, settings: Sequence[str]) -> subprocess.Popen[str]:
    """Start one run in a process of its own."""
    command = [sys.executable, "-m", "fgsam", "run", "--json", "--no-floors", *settings, f"run.root={root}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for a run and return the object that it prints."""
    output, errors = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"A run ended with exit code {process.returncode}:\n{errors}")
    summary: dict[str, Any] = json.loads(output)
    return summary


def kill_at_random(root: Path, settings: Sequence[str], num_kills: int, rng: random.Random) -> tuple[int, list[float]]:
    """Kill one run again and again, and let it finish at last.

    Each attempt is killed at a random moment while it trains. A time that is long enough for a checkpoint makes sure
    that the run gets on.

    Returns:
        How often a process was really killed while it worked, and after how many seconds of training.
    """
    moments: list[float] = []
    while len(moments) < num_kills:
        process = start(root, settings)
        if not wait_for_training(process, root):
            break
        moment = rng.uniform(0.0, 5.0)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            moments.append(moment)
        else:
            process.communicate()
            break
    return len(moments), moments


def wait_for_training(process: subprocess.Popen[str], root: Path) -> bool:
    """Wait until the log of the run is opened by this process, or the process has ended."""
    begin = time.time()
    while process.poll() is None:
        logs = list(root.glob("*/log.jsonl"))
        if logs and max(log.stat().st_mtime for log in logs) >= begin - 0.05:
            return True
        time.sleep(0.02)
    process.communicate()
    return False


def results_of(root: Path) -> dict[str, Any]:
    """Read the results of the one run in a folder."""
    (result,) = root.glob("*/result.json")
    results: dict[str, Any] = json.loads(result.read_text())["results"]
    return results


def measure(num_kills: int, num_pairs: int, num_episodes: int, seed: int, folder: Path) -> dict[str, list[int]]:
    """Return passed and tried for kills, for pairs of processes, and for partial files."""
    rng = random.Random(seed)
    settings = [*SETTINGS, f"train.num_episodes={num_episodes}"]
    finish(start(folder / "whole", settings))
    whole = results_of(folder / "whole")
    print(f"undisturbed: {whole['weights_digest']}", flush=True)

    passed = tried = 0
    round_number = 0
    while tried < num_kills:
        root = folder / f"killed{round_number}"
        killed, moments = kill_at_random(root, settings, min(num_kills - tried, 5), rng)
        finish(start(root, settings))
        is_same = results_of(root) == whole
        tried, passed = tried + killed, passed + (killed if is_same else 0)
        text = ", ".join(f"{moment:.1f}" for moment in moments)
        print(f"killed after {text} s: {'same' if is_same else 'DIFFERENT'} results", flush=True)
        round_number += 1
    partial = list(folder.glob("killed*/*/.*.part"))

    pairs_passed = 0
    for pair in range(num_pairs):
        root = folder / f"pair{pair}"
        processes = [start(root, settings) for _ in range(2)]
        first, second = (finish(process) for process in processes)
        digests = {first["weights_digest"], second["weights_digest"], whole["weights_digest"]}
        # The second one reads the first one's result, so that even the times are the same.
        pairs_passed += len(digests) == 1 and first["ms_per_episode"] == second["ms_per_episode"]
    return {
        "kills": [passed, tried],
        "pairs": [pairs_passed, num_pairs],
        "folders_without_partial_files": [round_number - len({path.parent for path in partial}), round_number],
    }


def main() -> int:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="how often a run is killed")
    parser.add_argument("--pairs", type=int, default=3, help="how often two processes get one config")
    parser.add_argument("--episodes", type=int, default=1500, help="training episodes of the run")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    parser.add_argument("--json", metavar="OUT", help="file for the figures")
    parser.add_argument("--markdown", type=Path, help="page for the figures")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(arguments.kills, arguments.pairs, arguments.episodes, arguments.seed, Path(folder))
    for name, (passed, tried) in figures.items():
        print(f"{name}: passed {passed} of {tried}")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=1) + "\n")
    if arguments.markdown:
        lines = [f"| {name.replace('_', ' ')} | {passed} | {tried} |" for name, (passed, tried) in figures.items()]
        table = "\n".join(["| promise | passed | tried |", "|---|---|---|", *lines])
        write_markdown(arguments.markdown, "Kills and resumes", table, ABOUT)
    return 0 if all(passed == tried for passed, tried in figures.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
