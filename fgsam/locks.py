"""Locks between processes, held on an open file; the kernel frees them when a process ends, however it ends."""

from __future__ import annotations

import fcntl
from typing import IO, Any


def try_lock(file: IO[Any]) -> bool:
    """Lock an open file for this process alone; return False if another one holds it."""
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_for_lock(file: IO[Any]) -> None:
    """Lock an open file for this process alone as soon as no other one holds it."""
    fcntl.flock(file.fileno(), fcntl.LOCK_EX)
