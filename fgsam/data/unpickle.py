"""Arrays out of foreign pickles, of which nothing is run.

A pickle names classes and functions, and calls them while it is read. Here each name stands for an empty class of ours
that keeps what it is given, and a name that Planetoid's files do not need is refused; numpy and scipy are used
afterwards, on plain bytes. So there is nothing that a pickle could call.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from fgsam.data.reading import DamagedFileError, csr_matrix, reading

_KINDS = {
    ("numpy.core.multiarray", "_reconstruct"): "array",
    ("numpy._core.multiarray", "_reconstruct"): "array",
    ("numpy", "ndarray"): "array",
    ("numpy", "dtype"): "dtype",
    ("scipy.sparse.csr", "csr_matrix"): "matrix",
    ("scipy.sparse._csr", "csr_matrix"): "matrix",
    ("collections", "defaultdict"): "lists",
    ("__builtin__", "list"): "list",
    ("builtins", "list"): "list",
}
_CODES = {f"{kind}{size}" for kind in "iuf" for size in (1, 2, 4, 8)} - {"f1"}


def unpickled_array(path: Path) -> np.ndarray:
    """Read a file that holds one array of numbers.

    Raises:
        DamagedFileError: If the file is damaged or holds something else.
    """
    content = _unpickled(path)
    with reading(path):
        return _array(content)


def unpickled_matrix(path: Path) -> sp.csr_matrix:
    """Read a file that holds one sparse matrix in compressed rows; float32.

    Raises:
        DamagedFileError: If the file is damaged or holds something else.
    """
    content = _unpickled(path)
    with reading(path):
        state = _state(content, "matrix")
        shape = state["_shape"] if "_shape" in state else state["shape"]
        data, indices, indptr = (_array(state[key]) for key in ("data", "indices", "indptr"))
        return csr_matrix(data, indices, indptr, np.array(shape))


def unpickled_lists(path: Path) -> dict[int, list[int]]:
    """Read a file that holds lists of whole numbers by whole number, such as the neighbours of each node.

    Raises:
        DamagedFileError: If the file is damaged or holds something else.
    """
    content = _unpickled(path)
    with reading(path):
        if not isinstance(content, dict):
            raise ValueError(f"{_called(content)} in place of lists by number")
        numbers = [*content, *(number for row in content.values() for number in row)]
        if {type(number) for number in numbers} - {int} or {type(row) for row in content.values()} - {list}:
            raise ValueError("a list of whole numbers should stand for each number")
        return dict(content)


class _Unpickler(pickle._Unpickler):
    """Gives an empty class for each known name; the classes are new each time, so that a pickle changes no other.

    The one in C is not used: a single wrong byte can make it ask for 60 GB.
    """

    def __init__(self, content: bytes, path: Path) -> None:
        super().__init__(io.BytesIO(content), encoding="latin1")
        self.path = path
        self.stand_ins = {kind: _stand_in(kind) for kind in set(_KINDS.values())}

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a name.

        Raises:
            DamagedFileError: If the name is none of those that Planetoid's files need.
        """
        if (module, name) not in _KINDS:
            raise DamagedFileError(f"Expected '{self.path}' to hold arrays alone (got {module}.{name}, never loaded).")
        return self.stand_ins[_KINDS[module, name]]


def _stand_in(kind: str) -> type:
    """A class whose objects keep the arguments and the state that they are given; that of ``lists`` is a dict."""

    def keep_arguments(self: Any, *args: Any) -> None:
        self.args = args

    def keep_state(self: Any, state: Any) -> None:
        self.state = state

    bases = (dict,) if kind == "lists" else ()
    return type(kind, bases, {"kind": kind, "__init__": keep_arguments, "__setstate__": keep_state})


def _unpickled(path: Path) -> Any:
    with reading(path):
        return _Unpickler(path.read_bytes(), path).load()


def _array(content: Any) -> np.ndarray:
    """The array that a stand-in describes: state is version, shape, dtype, column order and bytes."""
    _, shape, dtype, by_column, buffer = _state(content, "array")
    code, order = dtype.args[0], _state(dtype, "dtype")[1]
    if code not in _CODES or order not in ("<", ">", "|", "="):
        raise ValueError(f"an array of {code!r}, not of numbers")
    raw = buffer.encode("latin1") if isinstance(buffer, str) else buffer
    flat = np.frombuffer(raw, dtype=np.dtype(code).newbyteorder(order))
    array = flat.reshape(shape, order="F" if by_column else "C").astype(code)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError("an array with values that are not finite")
    return array


def _state(content: Any, kind: str) -> Any:
    if getattr(content, "kind", None) != kind or not hasattr(content, "state"):
        raise ValueError(f"{_called(content)} in place of {kind}")
    return content.state


def _called(content: Any) -> str:
    return type(content).__name__
