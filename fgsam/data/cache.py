"""Parsed graphs, kept as plain arrays that are mapped into memory, never copied, at the next start.

An entry is a folder of ``.npy`` files named by a hash of all that the graph depends on. It appears whole, by a rename,
and nothing in it is changed afterwards, so that killed and concurrent writers do no harm. Every file is checked
against its sha256 on reading, and the graph against its digest.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fgsam.data.folders import cache_folder
from fgsam.files import file_digest, write_atomically
from fgsam.graph.graph import Graph
from fgsam.graph.sparse import SparseMatrix

CACHE_VERSION = 1
"""Raised when a change of ours changes what is parsed from the same files, or how it is stored."""

ABANDONED_SECONDS = 3600
"""Age at which a half-written entry belongs to a process that was killed."""

FLAGS = ("is_weighted", "is_directed", "name", "memory_mb")

logger = logging.getLogger(__name__)


def cached(name: str, raw_files: Sequence[Path], options: Mapping[str, Any], parse: Callable[[], Graph]) -> Graph:
    """Return a graph from the cache if the same files were parsed before with the same options, else parse and keep it.

    A damaged entry is dropped and parsed again, with a line in the log. Where the cache folder cannot be written, the
    graph is parsed each time.

    Args:
        name: Name of the graph.
        raw_files: What ``parse`` reads; their content, not their place, enters the key.
        options: What else the result depends on: plain values.
        parse: Makes the graph from the files.
    """
    key = _key(name, raw_files, options)
    try:
        folder = cache_folder() / "graphs" / key
    except OSError as error:
        logger.info("Graph '%s' is parsed at every start: %s", name, error)
        return parse()
    graph = _read(folder)
    if graph is None:
        graph = parse()
        # Files that were replaced while they were parsed must not enter under the key of the old ones.
        if _key(name, raw_files, options) == key:
            _keep(graph, folder)
    return graph


def _key(name: str, raw_files: Sequence[Path], options: Mapping[str, Any]) -> str:
    return _hash([CACHE_VERSION, name, sorted(options.items()), [file_digest(path) for path in raw_files]])


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=repr).encode()).hexdigest()


def _read(folder: Path) -> Graph | None:
    """The graph of an entry, or None if there is no whole one."""
    if not folder.is_dir():
        return None
    try:
        return _load(folder)
    # A flipped byte fails in any way; all of them mean the same.
    except Exception as error:
        logger.warning("Dropped the damaged cache entry %s (%s: %s)", folder, type(error).__name__, error)
        _drop(folder)
        return None


def _load(folder: Path) -> Graph:
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    content = meta["content"]
    if _hash(content) != meta["sha256"]:
        raise ValueError("meta.json does not match its own sha256")
    changed = [file for file, digest in content["files"].items() if file_digest(folder / file) != digest]
    if changed:
        raise ValueError(f"{', '.join(changed)} changed")
    parts = {Path(file).stem: _mapped(folder / file) for file in content["files"]}
    graph = _assembled(parts, content)
    if graph.digest != content["digest"]:
        raise ValueError("the graph has another digest")
    return graph


def _mapped(path: Path) -> np.ndarray:
    # Copy on write: torch wants writable memory, and what is written never reaches the file.
    return np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))


def _parts(graph: Graph) -> dict[str, np.ndarray]:
    tensors = {"labels": graph.labels, "rowptr": graph.adjacency.rowptr, "col": graph.adjacency.col}
    if graph.is_weighted:
        tensors["values"] = graph.adjacency.values
    if isinstance(graph.x, SparseMatrix):
        tensors |= {"x_rowptr": graph.x.rowptr, "x_col": graph.x.col, "x_values": graph.x.values}
    else:
        tensors["x"] = graph.x
    order = {} if graph.edge_order is None else {"edge_order": graph.edge_order}
    return {name: tensor.numpy() for name, tensor in tensors.items()} | order


def _assembled(parts: Mapping[str, np.ndarray], content: Mapping[str, Any]) -> Graph:
    tensors = {name: torch.from_numpy(part) for name, part in parts.items()}
    num_nodes, num_features = content["shape"]
    if "x" in tensors:
        x: Tensor | SparseMatrix = tensors["x"]
    else:
        x = SparseMatrix(tensors["x_rowptr"], tensors["x_col"], tensors["x_values"], (num_nodes, num_features))
    values = tensors["values"] if content["is_weighted"] else torch.ones(len(tensors["col"]), dtype=x.dtype)
    adjacency = SparseMatrix(tensors["rowptr"], tensors["col"], values, (num_nodes, num_nodes))
    flags = {flag: content[flag] for flag in FLAGS}
    return Graph(x, tensors["labels"], adjacency, edge_order=parts.get("edge_order"), **flags)


def _keep(graph: Graph, folder: Path) -> None:
    part = _temporary(folder)
    try:
        part.mkdir(parents=True)
        _save(graph, part)
        _rename(part, folder)
        _remove_abandoned(folder.parent)
    except OSError as error:
        logger.info("Graph '%s' is parsed at every start: its cache entry cannot be written (%s)", graph.name, error)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _save(graph: Graph, folder: Path) -> None:
    files = {}
    for name, array in _parts(graph).items():
        path = folder / f"{name}.npy"
        with open(path, "xb") as file:
            np.save(file, array, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        files[path.name] = file_digest(path)
    flags = {flag: getattr(graph, flag) for flag in FLAGS}
    content = {**flags, "shape": list(graph.x.shape), "digest": graph.digest, "files": files}
    write_atomically(folder / "meta.json", json.dumps({"content": content, "sha256": _hash(content)}).encode())


def _rename(part: Path, folder: Path) -> None:
    try:
        os.rename(part, folder)
    except OSError as error:
        # Another process was faster; its entry is as good.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def _drop(folder: Path) -> None:
    part = _temporary(folder)
    with contextlib.suppress(OSError):
        os.rename(folder, part)
    shutil.rmtree(part, ignore_errors=True)


def _temporary(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.{os.getpid()}-{secrets.token_hex(4)}.part"


def _remove_abandoned(folder: Path) -> None:
    for part in folder.glob(".*.part"):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(part, ignore_errors=True)
