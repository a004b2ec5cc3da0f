"""The finished runs of a study in one file, for another machine to go on from."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgsam.comparison.sealed import read_sealed, write_sealed
from fgsam.comparison.study import read_state
from fgsam.comparison.times import FILE as TIMES
from fgsam.comparison.times import read_times
from fgsam.engine.record import RESULTS_VERSION, RunDirectory, make_folder
from fgsam.files import write_atomically

FORMAT = "fgsam study pack 2"

_WAY_OUT = "Take another copy, or pack the study again."
_RUN_FILES = ("config.yaml", "log.jsonl", "weights.fgsam", "result.json")
"""In the order of their writing: a run is finished where the last of them lies."""
# The only places that anything is written to: no other name gets out of the folder, or into somebody's way.
_PLACES = re.compile(
    r"grid\.yaml|times\.json|cells/[0-9a-f]{16}\.json|runs/\w[\w-]*/(" + "|".join(map(re.escape, _RUN_FILES)) + ")"
)


@dataclass(frozen=True)
class Unpacked:
    """Names of the runs that a file has brought, and of those that were there already."""

    added: tuple[str, ...]
    kept: tuple[str, ...]


def pack_study(folder: str | Path, file: str | Path, *, weights: bool = True, losses: bool = True) -> int:
    """Write the finished runs of a study to one file, while others may still be under way.

    Measured times go along. Runs that have failed are left out, as are banks and checkpoints, which are made again from
    their seeds.

    Args:
        folder: Of the study; nothing in it is changed.
        file: Where to write; npz.
        weights: Whether the tested weights go along. Without them a run counts as done, but cannot predict.
        losses: Whether the loss of every step goes along. Without it logs hold the validations alone, which is all that
            tables and figures take from them.

    Returns:
        Number of runs that were packed.

    Raises:
        ValueError: If the folder holds no finished run, or a file of one is damaged.
        OSError: If the file cannot be written.
    """
    folder = Path(folder)
    states = {path.stem: read_state(folder, path.stem) for path in sorted((folder / "cells").glob("*.json"))}
    runs = {key: state.run for key, state in states.items() if state is not None and state.run is not None}
    if not runs:
        raise ValueError(f"Expected '{folder}' to hold finished runs of a comparison (there are none).")
    paths = [Path("grid.yaml"), Path(TIMES), *(Path("cells") / f"{key}.json" for key in runs)]
    for run in sorted(set(runs.values())):
        _check_run(folder / "runs" / run)
        paths += [Path("runs") / run / name for name in _RUN_FILES if weights or name != "weights.fgsam"]
    contents = {path.as_posix(): _content(folder / path, losses) for path in paths if (folder / path).is_file()}
    write_sealed(file, FORMAT, _joined(contents))
    return len(set(runs.values()))


def unpack_study(file: str | Path, folder: str | Path) -> Unpacked:
    """Put the runs of ``pack_study`` into the folder of a study, where they count as done.

    A run that is finished there stays as it is; one that is under way there, in another process, is waited for. All
    content is checked before anything is written, and an unpacking that was cut short can be done again.

    Args:
        file: What ``pack_study`` wrote.
        folder: Of the study; made if there is none.

    Raises:
        OSError: If there is no such file, or the folder cannot be written.
        ValueError: If the file is no study pack that this version can read, was cut off, changed or damaged, or holds
            something else than runs.
    """
    contents = _divided(read_sealed(file, FORMAT, way_out=_WAY_OUT)[0], file)
    strange = sorted(name for name in contents if not _PLACES.fullmatch(name))
    if strange:
        raise ValueError(
            f"Expected '{file}' to hold files of a study and nothing else (got '{strange[0]}'). {_WAY_OUT}"
        )
    runs = _checked(contents, file)
    folder = Path(folder)
    make_folder(folder / "cells")
    for name in ("grid.yaml", TIMES):
        if name in contents and not (folder / name).is_file():
            write_atomically(folder / name, contents[name])
    added = tuple(run for run in sorted(set(runs.values())) if _add(RunDirectory(folder / "runs" / run), contents))
    for key in runs:
        state = read_state(folder, key)
        if state is None or not state.is_finished:
            write_atomically(folder / "cells" / f"{key}.json", contents[f"cells/{key}.json"])
    return Unpacked(added, tuple(sorted({*runs.values()} - {*added})))


def _content(path: Path, losses: bool) -> bytes:
    """Read a file of a study, a log as it is or with its validations alone."""
    content = path.read_bytes()
    if losses or path.name != "log.jsonl":
        return content
    return b"".join(line for line in content.splitlines(keepends=True) if "loss" not in json.loads(line))


def _joined(contents: Mapping[str, bytes]) -> dict[str, NDArray[np.generic]]:
    """Put files of one kind behind each other: they are much alike, and take a third of the room when compressed."""
    names = sorted(contents, key=lambda name: (name.rpartition("/")[2], name))
    return {
        "names": np.array(names),
        "sizes": np.array([len(contents[name]) for name in names]),
        "content": np.frombuffer(b"".join(contents[name] for name in names), np.uint8),
    }


def _divided(arrays: Mapping[str, NDArray[Any]], file: str | Path) -> dict[str, bytes]:
    """Undo ``_joined``."""
    kinds = {name: values.dtype.kind for name, values in arrays.items()}
    if kinds != {"names": "U", "sizes": "i", "content": "u"} or any(values.ndim != 1 for values in arrays.values()):
        raise ValueError(f"Expected '{file}' to hold names, sizes and content of files. {_WAY_OUT}")
    names, sizes, content = (arrays[name] for name in ("names", "sizes", "content"))
    if len(names) != len(sizes) or (sizes < 0).any() or sizes.sum() != content.nbytes:
        raise ValueError(f"Expected '{file}' to hold {len(sizes)} files of the sizes it names. {_WAY_OUT}")
    ends = np.cumsum(sizes)
    joined = content.tobytes()
    return {str(name): joined[end - size : end] for name, size, end in zip(names, sizes, ends, strict=True)}


def _add(files: RunDirectory, contents: Mapping[str, bytes]) -> bool:
    """Write the files of one run, the result last; return False if it is finished already."""
    with files.locked():
        if files.read_result() is not None:
            return False
        files.checkpoint.unlink(missing_ok=True)  # of a run that was cut; it would not fit the log that comes
        for name in _RUN_FILES:
            content = contents.get(f"runs/{files.path.name}/{name}")
            if content is not None:
                write_atomically(files.path / name, content)
    return True


def _checked(contents: Mapping[str, bytes], file: str | Path) -> dict[str, str]:
    """Return the run of each cell, all read as a study reads them."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name, content in contents.items():
            make_folder((folder / name).parent)
            (folder / name).write_bytes(content)
        cells = [Path(name).stem for name in contents if name.startswith("cells/")]
        try:
            states = {key: read_state(folder, key) for key in cells}
            for run in sorted({name.split("/")[1] for name in contents if name.startswith("runs/")}):
                _check_run(folder / "runs" / run)
            read_times(folder)
        except (ValueError, KeyError, TypeError) as error:
            told = str(error).replace(f"{folder}/", "")
            raise ValueError(f"Expected whole runs of this version in '{file}'. {told} {_WAY_OUT}") from error
        found = {key: state.run for key, state in states.items() if state is not None and state.run is not None}
        lost = [key for key in cells if f"runs/{found.get(key)}/result.json" not in contents]
    if lost or not found:
        raise ValueError(
            f"Expected '{file}' to hold a whole run for each cell (got none for {lost or 'any'}). {_WAY_OUT}"
        )
    return found


def _check_run(path: Path) -> None:
    """Raise ``ValueError`` if a run is not finished, damaged, or of another version of results."""
    files = RunDirectory(path)
    files.read_config()
    content = files.read_result()
    version = "no result.json" if content is None else content["results"].get("results_version")
    if version != RESULTS_VERSION:
        raise ValueError(
            f"Expected {path} to hold a finished run of results_version {RESULTS_VERSION} (got {version}): "
            "others do not count as done."
        )
