"""Raw files read so that every fault names the file."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from fgsam.files import read_arrays


@dataclass(frozen=True)
class RawGraph:
    """What a reader takes from raw files.

    Attributes:
        x: Features, shape ``[num_nodes, num_features]``: an array or a scipy sparse matrix.
        edge_index: Source and target of each edge as stored, shape ``[2, num_edges]``.
        labels: Class of each node, whole numbers, shape ``[num_nodes]``; -1 where it is not known.
    """

    x: Any
    edge_index: np.ndarray
    labels: np.ndarray


class DamagedFileError(ValueError):
    """A raw file does not hold what its format asks for; the message names the file."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn every failure while a raw file is read into one that names the file.

    Raises:
        DamagedFileError: If the body raises anything but a missing file or permission.
    """
    try:
        yield
    except (DamagedFileError, FileNotFoundError, PermissionError):
        raise
    # Libraries report damaged files in many ways, and none of them names the file.
    except Exception as error:
        raise DamagedFileError(f"Expected '{path}' to be whole (got {type(error).__name__}: {error}).") from error


def whole_numbers(values: Any, *, low: int, high: float = np.inf, what: str) -> np.ndarray:
    """Values of any numeric type as int64, in their shape.

    Raises:
        ValueError: If one is no whole number from ``low`` to ``high``.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{what} are no numbers but {array.dtype}")
    # NaN is not equal to anything, so that it counts as bad.
    bad = ~((array == np.floor(array)) & (array >= low) & (array <= high))
    if bad.any():
        raise ValueError(f"{what} should be whole numbers from {low} to {high:g}, one is {array[bad][0]}")
    return array.astype(np.int64)


def csr_matrix(data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, shape: np.ndarray) -> sp.csr_matrix:
    """Compressed rows from their four arrays, float32.

    Raises:
        ValueError: If the arrays do not fit together.
    """
    num_rows, num_columns = whole_numbers(shape, low=0, what="the shape of a matrix").reshape(-1).tolist()
    matrix = sp.csr_matrix((data.astype(np.float32), indices, indptr), shape=(num_rows, num_columns))
    matrix.check_format(full_check=True)
    return matrix


def rows_at(rows: Any, nodes: np.ndarray, num_nodes: int) -> sp.csr_matrix:
    """Sparse features of all nodes from those of some: row ``i`` goes to ``nodes[i]``, other nodes have none.

    Raises:
        ValueError: If the numbers do not fit, or a node is named twice.
    """
    if rows.shape[0] != len(nodes) or len(np.unique(nodes)) != len(nodes):
        raise ValueError(f"{rows.shape[0]} rows of features for {len(np.unique(nodes))} different nodes")
    ones = np.ones(len(nodes), dtype=np.float32)
    place = sp.csr_matrix((ones, (nodes, np.arange(len(nodes)))), shape=(num_nodes, len(nodes)))
    return (place @ sp.csr_matrix(rows, dtype=np.float32)).tocsr()


def each_once(edge_index: np.ndarray, num_nodes: int) -> np.ndarray:
    """Edges without repetitions, sorted by source and target.

    Raises:
        ValueError: If an end is no node.
    """
    source, target = whole_numbers(edge_index, low=0, high=num_nodes - 1, what="node numbers of edges")
    return np.stack(np.divmod(np.unique(source * num_nodes + target), num_nodes))


def without_loops(edge_index: np.ndarray) -> np.ndarray:
    """Edges between different nodes, in their order."""
    return edge_index[:, edge_index[0] != edge_index[1]]


def read_npz(path: Path, keys: Sequence[str]) -> dict[str, np.ndarray]:
    """Read some arrays of an npz file, without unpickling anything.

    Raises:
        DamagedFileError: If the file is damaged or an array is missing.
    """
    try:
        arrays = read_arrays(path, keys=keys, way_out="")
    except ValueError as error:
        raise DamagedFileError(str(error).strip()) from error
    return arrays


def parsed_rows(lines: Iterable[str], delimiter: str, dtype: Any) -> np.ndarray:
    """A table from lines of numbers, shape ``[num_lines, num_columns]``.

    Raises:
        ValueError: If there is no line, or one has another number of columns or something else than numbers.
    """
    lines = iter(lines)
    first = next(lines, "")
    if not first.strip():
        raise ValueError("no line of numbers")
    return np.loadtxt(itertools.chain([first], lines), delimiter=delimiter, dtype=dtype, comments=None, ndmin=2)
