"""Runs ``python -m benchmarks`` for tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]

Measure = Callable[..., str]
"""``python -m benchmarks`` in this process, with these arguments; returns what it prints."""


def measure_in_fresh_process(*arguments: str) -> str:
    """What ``python -m benchmarks`` prints."""
    command = [sys.executable, "-m", "benchmarks", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout
