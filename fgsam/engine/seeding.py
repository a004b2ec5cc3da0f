"""The global random generators, seeded by the engine alone and given back as they were."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def own_random_state(device: torch.device) -> Iterator[None]:
    """Put the state of the global generators, of the CPU and of the device, back on exit."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


def seed_global(device: torch.device, *keys: str | int) -> None:
    """Seed the global generators from keys; cheap enough for every step.

    Args:
        device: Its generator is seeded beside the CPU's.
        *keys: A purpose and what the numbers depend on.
    """
    seed = int.from_bytes(hashlib.sha256(repr(keys).encode()).digest()[:7], "little")
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


@contextmanager
def seeded(device: torch.device, *keys: str | int) -> Iterator[None]:
    """Seed the global generators from keys for a while, and put their state back afterwards."""
    with own_random_state(device):
        seed_global(device, *keys)
        yield
