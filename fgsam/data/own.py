"""A user's own graph from an npz file of plain arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.sparse as sp

from fgsam.files import read_arrays
from fgsam.graph.graph import Graph

SPARSE_KEYS = ("x_data", "x_indices", "x_indptr", "x_shape")
_WAY_OUT = (
    "Write it with numpy.savez(path, edge_index=..., labels=..., x=...), or with x_data, x_indices, x_indptr and "
    "x_shape of a scipy CSR matrix in place of x."
)


def load(path: str | Path, *, symmetrise: bool | None = None) -> Graph:
    """Read a graph from an npz file; nothing in it is run.

    The keys are ``edge_index``, shape ``[2, num_edges]``, or ``edges``, shape ``[num_edges, 2]``; ``labels``, shape
    ``[num_nodes]``, with -1 where the class is not known; ``x``, shape ``[num_nodes, num_features]``, or the four
    arrays of a scipy CSR matrix ``x_data``, ``x_indices``, ``x_indptr``, ``x_shape``; and, if wanted, ``edge_weight``
    and ``directed``, a truth value.

    Args:
        path: The file.
        symmetrise: Add the missing reverse edges (True) or keep the edges as given (False); by default what
            ``directed`` in the file says. One of the two must speak if a reverse edge is missing.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, a key is missing, or an array has a wrong shape or value.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"Expected the npz file of a graph (got '{path}', no such file). Check dataset.path.")
    arrays = read_arrays(path, way_out=_WAY_OUT)
    directed = bool(_single(path, "directed", arrays["directed"])) if "directed" in arrays else None
    if symmetrise is not None:
        directed = not symmetrise
    try:
        graph = Graph.from_arrays(
            _features(path, arrays),
            _edge_index(path, arrays),
            _wanted(path, arrays, "labels"),
            edge_weight=arrays.get("edge_weight"),
            directed=directed is not False,
            name="own",
        )
    except _Fault:
        raise
    except ValueError as error:
        raise ValueError(f"Expected '{path}' to hold a whole graph: {error}") from error
    if directed is None and graph.is_directed:
        raise ValueError(
            f"Expected both directions of every edge in '{path}', or a word on what to do (got edges without their "
            "reverse). Set dataset.symmetrise=true to add them, false to keep the graph directed, or store 'directed'."
        )
    return graph


class _Fault(ValueError):
    """A fault whose message names the file already."""


def _wanted(path: Path, arrays: dict[str, np.ndarray], key: str) -> np.ndarray:
    if key not in arrays:
        raise _Fault(f"Expected key '{key}' in '{path}' (got keys {sorted(arrays)}). {_WAY_OUT}")
    return arrays[key]


def _single(path: Path, key: str, array: np.ndarray) -> np.generic:
    if array.size != 1 or array.dtype.kind not in "biu":
        raise _Fault(f"Expected '{key}' in '{path}' to be one truth value (got {array.dtype}, {list(array.shape)}).")
    value: np.generic = array.reshape(-1)[0]
    return value


def _edge_index(path: Path, arrays: dict[str, np.ndarray]) -> np.ndarray:
    if "edge_index" in arrays or "edges" not in arrays:
        return _wanted(path, arrays, "edge_index")
    edges = arrays["edges"]
    if edges.ndim != 2 or edges.shape[1] != 2:
        raise _Fault(f"Expected 'edges' in '{path}' of shape [num_edges, 2] (got {list(edges.shape)}). Transpose it?")
    return edges.T


def _features(path: Path, arrays: dict[str, np.ndarray]) -> np.ndarray | sp.csr_matrix:
    if "x" in arrays or not any(key in arrays for key in SPARSE_KEYS):
        x = _wanted(path, arrays, "x")
        if x.ndim == 2 and x.dtype.kind == "f":
            _check_finite(path, "x", x)
        return x
    data, indices, indptr, shape = (_wanted(path, arrays, key) for key in SPARSE_KEYS)
    if data.dtype.kind not in "fiub" or shape.size != 2 or shape.dtype.kind not in "iu":
        raise _Fault(
            f"Expected numbers in 'x_data' and two sizes in 'x_shape' of '{path}' "
            f"(got {data.dtype} and {shape.tolist()}). {_WAY_OUT}"
        )
    _check_finite(path, "x_data", data)
    try:
        matrix = sp.csr_matrix((data, indices, indptr), shape=tuple(int(size) for size in shape.reshape(-1)))
        matrix.check_format(full_check=True)
    except (ValueError, TypeError, IndexError) as error:
        raise _Fault(f"Expected x_data, x_indices and x_indptr of '{path}' to fit ({error}). {_WAY_OUT}") from error
    return matrix


def _check_finite(path: Path, key: str, array: np.ndarray) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        place = np.argwhere(~np.isfinite(array))[0]
        value = array[tuple(place)]
        raise _Fault(
            f"Expected finite numbers in '{key}' of '{path}' (got {value} at {place.tolist()}). "
            "Replace NaN and infinite values before saving."
        )
