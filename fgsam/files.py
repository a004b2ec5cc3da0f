"""Files that are either whole or absent, and arrays read without running code."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import secrets
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np


def write_atomically(path: Path | str, content: bytes) -> None:
    """Write a file so that a reader, or a crash at any moment, finds the old content or the new one, never a part.

    Args:
        path: Where the file shall lie; its folder exists.
        content: All bytes of the file.

    Raises:
        OSError: If the folder is missing, not writable, or the disk is full; nothing is left behind.
    """
    path = Path(path)
    # In the same folder, because a rename is atomic within one file system only.
    temporary = path.parent / f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part"
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if not isinstance(error, OSError):
            raise
        reason = f"Expected '{path}' to be writable ({error.strerror}). Free space there or choose another folder."
        raise OSError(error.errno, reason) from error
    _sync_folder(path.parent)


def read_arrays(path: Path | str, *, way_out: str, keys: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """Read arrays of an npz file without unpickling anything.

    Args:
        path: The file.
        way_out: What the reader of an error message can do about a bad file, a sentence.
        keys: Which arrays to read; all by default.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no npz file or is damaged, or a wanted array is missing or holds Python objects.
    """
    arrays = {}
    key = None
    try:
        with open(path, "rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("a single array")
            with archive:
                for key in archive.files if keys is None else keys:
                    arrays[key] = archive[key]
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        raise
    # A damaged zip or array header fails in one of these ways, depending on the byte that was hit.
    except (
        *(OSError, ValueError, EOFError, KeyError, SyntaxError, NotImplementedError, RuntimeError, MemoryError),
        *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
    ) as error:
        place = f"'{path}'" if key is None else f"key '{key}' of '{path}'"
        reason = "Python objects, which are never unpickled" if "allow_pickle" in str(error) else error
        raise ValueError(
            f"Expected {place} to be readable as plain numpy arrays (got {type(error).__name__}: {reason}). {way_out}"
        ) from error
    return arrays


def file_digest(path: Path) -> str:
    """Return the sha256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def array_bytes(arrays: Mapping[str, np.ndarray | str | int]) -> bytes:
    """Pack arrays, texts and whole numbers into the bytes of an npz file, the same bytes for the same content."""
    buffer = io.BytesIO()
    np.savez(buffer, **{key: np.asarray(value) for key, value in arrays.items()})  # type: ignore[arg-type]
    return buffer.getvalue()


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut; systems that cannot open a folder skip it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
