"""Finds the raw files of named graphs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from fgsam.data.folders import DATA_VARIABLE, data_folders


def locate(dataset: str, files: Sequence[str], root: Path | str | None = None) -> list[Path]:
    """Find the raw files of a graph.

    Args:
        dataset: Name of the graph, for the message.
        files: Where each file lies below the data folder: ``"coauthor/CS/raw/ms_academic_cs.npz"``. The leading
            folders may be left out, so that the folder which PyTorch Geometric calls ``root`` serves as well.
        root: The data folder; by default those of :func:`fgsam.data.folders.data_folders`.

    Raises:
        FileNotFoundError: If a file is missing; the text names the files, the folders and the command that fetches.
    """
    found = [find(file, root) for file in files]
    missing = [file for file, path in zip(files, found, strict=True) if path is None]
    if missing:
        folders = ", ".join(f"'{folder}'" for folder in data_folders(root)) or "no folder"
        place = "" if root is None else f" --root {root}"
        raise FileNotFoundError(
            f"Expected the raw files of graph '{dataset}' (missing: {', '.join(missing)}; looked in {folders}). "
            f"Fetch them with 'fgsam data get {dataset}{place}', or set dataset.root, or the environment variable "
            f"{DATA_VARIABLE}, to the folder that holds them."
        )
    return [path for path in found if path is not None]


def find(file: str, root: Path | str | None = None) -> Path | None:
    """Return where a raw file lies, or None if no data folder has it, with or without its leading folders."""
    parts = PurePosixPath(file).parts
    places = [folder.joinpath(*parts[skipped:]) for folder in data_folders(root) for skipped in range(len(parts))]
    return next((place for place in places if place.is_file()), None)
