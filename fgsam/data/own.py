"""A user's own graph as an npz file of plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from fgsam.checks import suggest
from fgsam.data.parts import Parts
from fgsam.files import array_bytes, read_arrays, write_atomically
from fgsam.graph.graph import Graph

SPARSE_KEYS = ("x_data", "x_indices", "x_indptr", "x_shape")
KEYS = ("edge_index", "edges", "labels", "x", *SPARSE_KEYS, "edge_weight", "directed", "digest")
_WAY_OUT = (
    "Write it with numpy.savez(path, edge_index=..., labels=..., x=...), or with x_data, x_indices, x_indptr and "
    "x_shape of a scipy CSR matrix in place of x."
)


def load(path: str | Path, *, symmetrise: bool | None = None) -> Graph:
    """Read a graph from an npz file; nothing in it is run.

    The keys are ``edge_index``, shape ``[2, num_edges]``, or ``edges``, shape ``[num_edges, 2]``; ``labels``, shape
    ``[num_nodes]``, with -1 where the class is not known; and, if wanted, ``x``, shape ``[num_nodes, num_features]``,
    or the four arrays of a scipy CSR matrix ``x_data``, ``x_indices``, ``x_indptr``, ``x_shape``; ``edge_weight``;
    ``directed``, a truth value; and ``digest``, which :func:`save` writes and which then has to be right. Without
    features the graph has no feature column.

    Args:
        path: The file.
        symmetrise: Add the missing reverse edges (True) or keep the edges as given (False); by default what
            ``directed`` in the file says. One of the two must speak if a reverse edge is missing.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, a key is missing or unknown, or an array has a wrong shape or value.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"Expected the npz file of a graph (got '{path}', no such file). Check dataset.path.")
    return read(path).build(path, None if symmetrise is None else not symmetrise)


def save(graph: Graph, path: str | Path) -> None:
    """Write a graph into an npz file that :func:`load` reads back with the same digest.

    Args:
        graph: Any graph.
        path: The file; it is replaced if it exists.

    Raises:
        OSError: If the file cannot be written.
    """
    write(Parts.of(graph), Path(path))


def read(path: Path) -> Parts:
    """What an npz file holds, see :func:`load`."""
    arrays = read_arrays(path, way_out=_WAY_OUT)
    for key in arrays:
        if key not in KEYS:
            raise ValueError(
                f"Expected known keys in '{path}' (got '{key}'). {suggest(key, KEYS)} Leave out what is no part of it."
            )
    return Parts(
        _edge_index(path, arrays),
        _wanted(path, arrays, "labels"),
        _features(path, arrays),
        arrays.get("edge_weight"),
        directed=bool(_single(path, "directed", arrays["directed"], "biu")) if "directed" in arrays else None,
        digest=str(_single(path, "digest", arrays["digest"], "U")) if "digest" in arrays else None,
    )


def write(parts: Parts, path: Path) -> None:
    """Write parts into an npz file."""
    arrays: dict[str, np.ndarray | str | int] = {"edge_index": parts.edge_index, "labels": parts.labels}
    if sp.issparse(parts.x):
        arrays |= zip(
            SPARSE_KEYS, (parts.x.data, parts.x.indices, parts.x.indptr, np.array(parts.x.shape)), strict=True
        )
    elif parts.x is not None:
        arrays["x"] = parts.x
    if parts.edge_weight is not None:
        arrays["edge_weight"] = parts.edge_weight
    write_atomically(path, array_bytes(arrays | {"directed": bool(parts.directed), "digest": str(parts.digest)}))


def _wanted(path: Path, arrays: Mapping[str, np.ndarray], key: str) -> np.ndarray:
    if key not in arrays:
        raise ValueError(f"Expected key '{key}' in '{path}' (got keys {sorted(arrays)}). {_WAY_OUT}")
    return arrays[key]


def _single(path: Path, key: str, array: np.ndarray, kinds: str) -> np.generic:
    if array.size != 1 or array.dtype.kind not in kinds:
        wanted = "one text" if kinds == "U" else "one truth value"
        raise ValueError(f"Expected '{key}' in '{path}' to be {wanted} (got {array.dtype}, {list(array.shape)}).")
    value: np.generic = array.reshape(-1)[0]
    return value


def _refuse_both(path: Path, arrays: Mapping[str, np.ndarray], one: str, other: str) -> None:
    if one in arrays and other in arrays:
        raise ValueError(f"Expected either '{one}' or '{other}' in '{path}' (got both). Leave one out.")


def _edge_index(path: Path, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    _refuse_both(path, arrays, "edge_index", "edges")
    if "edges" not in arrays:
        return _wanted(path, arrays, "edge_index")
    edges = arrays["edges"]
    if edges.ndim != 2 or edges.shape[1] != 2:
        raise ValueError(
            f"Expected 'edges' in '{path}' of shape [num_edges, 2] (got {list(edges.shape)}). Transpose it?"
        )
    return edges.T


def _features(path: Path, arrays: Mapping[str, np.ndarray]) -> np.ndarray | sp.csr_array | None:
    for key in SPARSE_KEYS:
        _refuse_both(path, arrays, "x", key)
    if not any(key in arrays for key in SPARSE_KEYS):
        x = arrays.get("x")
        if x is not None and x.ndim == 2:
            _check_finite(path, "x", x)
        return x
    data, indices, indptr, shape = (_wanted(path, arrays, key) for key in SPARSE_KEYS)
    if data.dtype.kind not in "fiub" or shape.size != 2 or shape.dtype.kind not in "iu":
        raise ValueError(
            f"Expected numbers in 'x_data' and two sizes in 'x_shape' of '{path}' "
            f"(got {data.dtype} and {shape.tolist()}). {_WAY_OUT}"
        )
    _check_finite(path, "x_data", data)
    try:
        matrix = sp.csr_array((data, indices, indptr), shape=tuple(int(size) for size in shape.reshape(-1)))
        matrix.check_format(full_check=True)
    except (ValueError, TypeError, IndexError) as error:
        raise ValueError(f"Expected x_data, x_indices and x_indptr of '{path}' to fit ({error}). {_WAY_OUT}") from error
    return matrix


def _check_finite(path: Path, key: str, array: np.ndarray) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        place = np.argwhere(~np.isfinite(array))[0]
        value = array[tuple(place)]
        raise ValueError(
            f"Expected finite numbers in '{key}' of '{path}' (got {value} at {place.tolist()}). "
            "Replace NaN and infinite values before saving."
        )
