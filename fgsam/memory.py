"""How much memory this process has taken."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def peak_memory_mb() -> float:
    """Largest resident size of this process so far, in MiB.

    Linux keeps the figure of ``getrusage`` across the start of a new program, so that a small child of a large process
    looks large; its own record of the address space is used there.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024  # no Linux, or a sandbox that leaves the line out
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
