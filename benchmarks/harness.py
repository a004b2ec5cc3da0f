"""Interleaved timing, peak memory, and a JSON file that says where its figures were made."""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Arm = Callable[[], object]


def interleave(
    arms: Mapping[Any, Arm], *, rounds: int, warm_up: int = 2, clock: Callable[[], float] = time.perf_counter
) -> dict[Any, list[float]]:
    """Time each arm once a round, so that a slow moment of the machine falls on all of them.

    Args:
        arms: What to call.
        rounds: Calls of each that count.
        warm_up: Calls of each before these.
        clock: Gives seconds; the processor time of the thread leaves out what other processes take.

    Returns:
        Milliseconds of every call after the warm-up, by arm.
    """
    times: dict[Any, list[float]] = {name: [] for name in arms}
    for turn in range(warm_up + rounds):
        for name, arm in arms.items():
            start = clock()
            arm()
            if turn >= warm_up:
                times[name].append(1e3 * (clock() - start))
    return times


def quartiles(times: list[float]) -> dict[str, float]:
    """Median and quartiles, in the unit of the input."""
    low, median, high = statistics.quantiles(times, n=4, method="inclusive")
    return {"ms_median": round(median, 3), "ms_q25": round(low, 3), "ms_q75": round(high, 3)}


def write_json(path: Path | None, rows: list[dict[str, Any]], **facts: Any) -> None:
    """Write rows and the circumstances of their making; nothing without a path."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**facts, "machine": machine(), "rows": rows}, indent=1) + "\n", encoding="utf-8")


def write_markdown(path: Path, title: str, body: str, about: str | None) -> None:
    """Write a page of results with the command that makes it and the machine it was made on."""
    command = command_line()
    made_on = ", ".join(f"{name} {value}" for name, value in machine().items())
    parts = [f"# {title}", f"```\n{command}\n```", (about or "").strip(), body.strip(), f"Made on: {made_on}."]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def command_line() -> str:
    """The command that runs this benchmark."""
    return " ".join([*sys.argv[0].split(), *sys.argv[1:]])


def machine() -> dict[str, Any]:
    """Versions, processor and threads."""
    import torch
    import torch_geometric

    return {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_geometric": torch_geometric.__version__,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
