"""One npz file in which every byte counts: numpy reads it as it is, and a digest over all of it stands at its end."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fgsam.files import read_arrays, write_atomically

# The digest is the comment at the end of the zip archive, which no reader of npz files looks at.
_MARK = b"sha256:"
_NUM_DIGITS = 64


def sealed_bytes(kind: str, arrays: Mapping[str, NDArray[np.generic]]) -> bytes:
    """Pack arrays into the bytes of a compressed npz file with a digest of itself.

    Args:
        kind: What the file is, with its version: the entry ``format``.
        arrays: The other entries, without Python objects.

    Returns:
        The same bytes for the same content, as far as zlib is the same.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, values in {"format": np.asarray(kind), **arrays}.items():
            with archive.open(f"{name}.npy", "w") as entry:  # with the date of the format, never of today
                np.lib.format.write_array(entry, np.asarray(values), allow_pickle=False)
        archive.comment = _MARK + b"0" * _NUM_DIGITS
    content = buffer.getvalue()[:-_NUM_DIGITS]
    return content + hashlib.sha256(content).hexdigest().encode()


def write_sealed(path: str | Path, kind: str, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Write a file of :func:`sealed_bytes`, whole or not at all.

    Raises:
        OSError: If the file cannot be written.
    """
    write_atomically(path, sealed_bytes(kind, arrays))


def read_sealed(path: str | Path, kind: str, *, way_out: str) -> tuple[dict[str, NDArray[np.generic]], str]:
    """Read what ``write_sealed`` wrote; nothing in the file is run.

    Args:
        path: The file.
        kind: What it must be.
        way_out: What the reader of an error message can do, a sentence.

    Returns:
        The entries, and the digest.

    Raises:
        OSError: If there is no such file, or it cannot be read.
        ValueError: If it is of another kind or version, cut off or damaged in any byte.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise OSError(error.errno, f"Expected '{path}' to be a readable file ({error.strerror}). {way_out}") from error
    content, digest = content[:-_NUM_DIGITS], content[-_NUM_DIGITS:]
    if not content.endswith(_MARK):
        raise ValueError(
            f"Expected '{path}' to be a whole file of the format '{kind}' (it has no digest at its end: it was cut "
            f"off, or is another kind of file). {way_out}"
        )
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise ValueError(f"Expected '{path}' to match its own digest (it was changed or damaged). {way_out}")
    arrays = read_arrays(path, way_out=way_out)
    found = str(arrays.pop("format", "none"))
    if found != kind:
        raise ValueError(f"Expected '{path}' in the format '{kind}' (got '{found}'). {way_out}")
    return arrays, digest.decode()


def narrowed(values: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return whole numbers in the smallest type that holds them all.

    Example:
        >>> narrowed(np.array([0, 300])).dtype, narrowed(np.array([-1, 5])).dtype
        (dtype('uint16'), dtype('int8'))
    """
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    kinds = (np.uint8, np.uint16, np.uint32) if low >= 0 else (np.int8, np.int16, np.int32)
    fits = (kind for kind in kinds if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    return values.astype(next(fits, np.int64))
