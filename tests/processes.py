"""Other processes for tests, forked from one that has imported everything, and so quick to start."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["fgsam.cli", "fgsam.engine.run", "fgsam.methods.gpn", "fgsam.nn.gcn", "torch._dynamo"])


class Job:
    """A function in a process of its own, whose output goes to a file.

    Args:
        output: The file.
        work: A function of a module.
        *args: Its arguments.
        **environment: Variables beside those of the first test that has started a job.
    """

    def __init__(self, output: Path, work: Callable[..., object], *args: Any, **environment: str) -> None:
        self.output = output
        self.process = CONTEXT.Process(target=_work, args=(output, environment, work, args))
        self.process.start()

    def text(self) -> str:
        """What it has printed so far, errors included."""
        return self.output.read_text(encoding="utf-8") if self.output.exists() else ""

    def wait(self, timeout: float) -> int | None:
        """Wait for its end, kill it if that takes longer than ``timeout`` seconds, and return the exit code."""
        self.process.join(timeout)
        self.process.kill()
        self.process.join()
        return self.process.exitcode


def _work(output: Path, environment: dict[str, str], work: Callable[..., object], args: tuple[Any, ...]) -> None:
    os.environ.update(environment)
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT, 0o644)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    work(*args)
