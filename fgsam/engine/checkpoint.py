"""One file that is either whole or refused.

A magic line, the sha256 of what follows, and a ``torch.save`` archive that is read back with ``weights_only=True``, so
that loading runs no code. The digest is there because a flipped bit inside an archive often loads without an error.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fgsam.files import write_atomically

MAGIC = b"fgsam-checkpoint 1\n"
_HEADER = len(MAGIC) + 64 + 1


def save_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values so that the file is either the old or the new one, never a part.

    Args:
        path: The file; an older one is replaced.
        content: Nested dicts, lists and tuples of tensors, numbers, strings, booleans and None.

    Raises:
        OSError: If the file cannot be written; its text names the folder and the way out.
    """
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    payload = buffer.getvalue()
    write_atomically(path, MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)


def load_checkpoint(path: Path, *, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Return what ``save_checkpoint`` wrote; no code of the file is run.

    Args:
        path: A file written by ``save_checkpoint``.
        device: Where the tensors go.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is of another kind, cut short or changed.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"Expected {path} to be there (no such file). Restore it from a copy, or delete its folder and run again."
        ) from error
    if data[: len(MAGIC)] != MAGIC:
        raise ValueError(
            f"Expected {path} to be a checkpoint of fgsam (it starts with {data[:16]!r}). "
            "Name another file, or delete this one and run again."
        )
    stated, payload = data[len(MAGIC) : _HEADER - 1], data[_HEADER:]
    if hashlib.sha256(payload).hexdigest().encode() != stated:
        raise ValueError(
            f"Expected {path} to match its own sha256: it is cut short or was changed ({len(data)} bytes). "
            "Restore it from a copy, or delete it and run again."
        )
    try:
        content = torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise ValueError(
            f"Expected {path} to hold tensors and plain values only (got {type(error).__name__}). "
            "It was not written by fgsam, or by another version of it; delete it and run again."
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"Expected {path} to hold a dict (got {type(content).__name__}). Delete it and run again.")
    return content


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """Return the sha256 of named tensors: names, dtypes, shapes and exact bytes.

    Args:
        weights: A ``state_dict``; the order of its names does not matter.

    Example:
        >>> weights_digest({"w": torch.zeros(2)}) == weights_digest({"w": torch.zeros(3)})
        False
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
