"""Random streams by purpose, so that one purpose never shifts the numbers of another."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(purpose: str, *keys: str | int) -> np.random.Generator:
    """Make the random generator of one purpose.

    The same purpose and keys give the same stream in every process and on every machine; any other purpose or keys
    give an independent one. Numbers for step ``t`` therefore need no state: ask for the generator with ``t`` as a key.

    Args:
        purpose: What the numbers are for: ``"episodes"``.
        *keys: What the stream depends on: the digest of a split, a seed, a step. The text ``"1"`` and the number
            ``1`` are different keys.

    Example:
        >>> bool(generator("episodes", "split", 1).random() == generator("episodes", "split", 1).random())
        True
    """
    parts = [purpose, *(key if isinstance(key, str) else int(key) for key in keys)]
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return np.random.Generator(np.random.PCG64(np.frombuffer(digest, dtype="<u4")))
