"""An executor by its name."""

from __future__ import annotations

from typing import Any

from fgsam.checks import check_choice
from fgsam.comparison.executors.base import Executor
from fgsam.registry import EXECUTORS


def make_executor(name: str, *, threads: int = 1, workers: int | None = None, address: str | None = None) -> Executor:
    """Make an executor.

    Args:
        name: ``"inline"``, ``"processes"`` or ``"dask"``.
        threads: Threads of each run; a scheduler elsewhere has its own.
        workers: How many processes; as many as the cores have room for when not given.
        address: Where a Dask scheduler listens.

    Raises:
        ValueError: If the name is unknown, or an option does not belong to it.
    """
    check_choice(EXECUTORS, executor=name)
    given = {"workers": workers, "address": address}
    options: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    allowed = {"inline": (), "processes": ("workers",), "dask": ("workers", "address")}[name]
    wrong = [f"--{key}" for key in options if key not in allowed]
    if wrong:
        raise ValueError(f"Expected no {' and '.join(wrong)} with --executor {name}. Leave it out.")
    if name != "inline" and address is None:
        options["threads"] = threads
    made: Executor = EXECUTORS.load(name)(**options)
    return made
