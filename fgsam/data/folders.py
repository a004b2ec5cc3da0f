"""Where raw files are looked for, and where parsed graphs are kept."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

DATA_VARIABLE = "FGSAM_DATA"
CACHE_VARIABLE = "FGSAM_CACHE"


def data_folders(root: Path | str | None = None) -> list[Path]:
    """The folders that may hold raw files, in the order in which they are searched.

    Args:
        root: A folder that the user named; then it is the only one.

    Returns:
        ``root``, or else the folder in the environment variable ``FGSAM_DATA``, if set, and ``data`` in the cache
        folder.
    """
    if root is not None:
        return [Path(root).expanduser()]
    named = os.environ.get(DATA_VARIABLE)
    folders = [Path(named).expanduser()] if named else []
    with contextlib.suppress(OSError):
        folders.append(cache_folder() / "data")
    return folders


def cache_folder() -> Path:
    """The folder of the environment variable ``FGSAM_CACHE``, or else ``fgsam`` in the platform's cache folder.

    Raises:
        OSError: If the variable is not set and the user has no home folder.
    """
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser()
    try:
        return _platform_folder() / "fgsam"
    except RuntimeError as error:
        raise OSError(f"Expected a home folder for the cache ({error}). Set {CACHE_VARIABLE} to a folder.") from error


def _platform_folder() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    variable, fallback = ("LOCALAPPDATA", "AppData/Local") if sys.platform == "win32" else ("XDG_CACHE_HOME", ".cache")
    named = os.environ.get(variable)
    return Path(named) if named else Path.home() / fallback
