"""What torchrun tells each of its processes; without it there is one, the first."""

from __future__ import annotations

import os


def num_ranks() -> int:
    """Return how many processes the job of this one has."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def own_rank() -> int:
    """Return the number of this process in its job, from 0; the first one speaks for all."""
    return int(os.environ.get("RANK", "0")) if num_ranks() > 1 else 0
