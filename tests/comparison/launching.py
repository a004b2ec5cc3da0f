"""Launchers and workers, as the tests of executors see them from outside."""

from __future__ import annotations

import multiprocessing
import time
from contextlib import suppress

import psutil

from tests.comparison import jobs


def outcomes(executor, function, given):
    """Result or error by job; every job is yielded once."""
    found = {}
    for done in executor.run(function, given):
        assert done.job not in found
        found[done.job] = done.error or done.result
    return found


def workers():
    """Processes that do jobs for this one."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "spawn_main" in " ".join(child.cmdline()) and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
    return found


def is_alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


class Launcher:
    """``jobs.launch`` in a process of its own."""

    def __init__(self, folder, name):
        self.output = folder / "output"
        folder = folder / "jobs"
        folder.mkdir()
        self.process = multiprocessing.get_context("spawn").Process(
            target=jobs.launch, args=(name, str(folder), self.output)
        )
        self.process.start()
        wait_until(lambda: len(list(folder.iterdir())) == 2)
        self.pids = [int(path.name.removeprefix("begun-")) for path in folder.iterdir()]

    def end(self):
        self.process.join(20)
        return self.process.exitcode
