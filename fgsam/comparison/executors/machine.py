"""Cores, threads, signals and environment of the processes that a launcher starts."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import resource_tracker

from fgsam.checks import check_count

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""Read by numerical libraries when they are loaded, so they must be set before a worker starts."""


def num_workers(workers: int | None, threads: int) -> int:
    """Return how many workers there shall be: as asked, or as many as the cores of this process have room for.

    Args:
        workers: The number that was asked for; None for cores divided by threads, at least 1.
        threads: Threads of each worker, at least 1.

    Raises:
        ValueError: If a number is not a whole one of at least 1.
    """
    check_count(threads=threads)
    if workers is not None:
        check_count(workers=workers)
        return workers
    # Where a scheduler has given this process a share of the machine, the other cores are not ours.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // threads)


def thread_settings(threads: int) -> dict[str, str]:
    """Return the environment of a process whose numerical libraries use so many threads.

    Example:
        >>> thread_settings(2)["OMP_NUM_THREADS"]
        '2'
    """
    return dict.fromkeys(THREAD_VARIABLES, str(threads))


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, and bring back what they were on exit."""
    saved = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def held_signals(*numbers: signal.Signals) -> Iterator[None]:
    """Let signals wait until exit; threads and processes started meanwhile let them wait until they say otherwise."""
    resource_tracker.ensure_running()  # multiprocessing would do so at the first start, and let signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
