"""Finds the raw files of named graphs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

VARIABLE = "FGSAM_DATA"


def locate(dataset: str, files: Sequence[str], root: Path | str | None = None) -> list[Path]:
    """Find the raw files of a graph.

    Args:
        dataset: Name of the graph, for the message.
        files: Where each file lies below the data folder: ``"coauthor/CS/raw/ms_academic_cs.npz"``. The leading
            folders may be left out, so that the folder which PyTorch Geometric calls ``root`` serves as well.
        root: The data folder; by default the one that the environment variable ``FGSAM_DATA`` names.

    Raises:
        FileNotFoundError: If no folder is known or a file is missing.
    """
    folder = root if root is not None else os.environ.get(VARIABLE)
    way_out = f"Set dataset.root, or the environment variable {VARIABLE}, to the folder that holds the raw files."
    if not folder:
        raise FileNotFoundError(
            f"Expected a data folder for graph '{dataset}' with {', '.join(files)} (got none). {way_out}"
        )
    found = [_find(Path(folder), PurePosixPath(file)) for file in files]
    missing = [file for file, path in zip(files, found, strict=True) if path is None]
    if missing:
        raise FileNotFoundError(
            f"Expected the raw files of graph '{dataset}' in '{folder}' (missing: {', '.join(missing)}). {way_out}"
        )
    return [path for path in found if path is not None]


def _find(folder: Path, file: PurePosixPath) -> Path | None:
    for skipped in range(len(file.parts)):
        path = folder.joinpath(*file.parts[skipped:])
        if path.is_file():
            return path
    return None
