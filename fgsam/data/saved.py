"""Reads and writes a graph as PyTorch Geometric's ``Data``, saved with ``torch.save``."""

from __future__ import annotations

import contextlib
import io
import pickle
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch

from fgsam.data.parts import Parts
from fgsam.files import write_atomically
from fgsam.graph.convert import arrays_of_pyg

_WAY_OUT = "Save the Data object alone, with torch.save(data, path), its parts plain tensors."


def read(path: Path, *, node_type: str | None = None, edge_type: str | None = None) -> Parts:
    """Read a graph; nothing in the file is run, and only tensors, plain values and PyTorch Geometric's own are made.

    Args:
        path: The file.
        node_type: Nodes to take from a heterogeneous graph.
        edge_type: The middle name of the edges to take among them; by default all.

    Raises:
        ValueError: If the file is damaged, holds anything else, or lacks ``edge_index`` or ``y``.
    """
    from torch_geometric.data import Data, HeteroData

    data = _loaded(path)
    if not isinstance(data, Data | HeteroData):
        raise ValueError(
            f"Expected '{path}' to hold a torch_geometric.data.Data object (got {type(data).__name__}). {_WAY_OUT}"
        )
    try:
        x, edge_index, labels, weight = arrays_of_pyg(data, node_type, edge_type)
        directed, digest = (getattr(data, key, None) for key in ("directed", "digest"))
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"Expected '{path}' to hold a whole graph: {error}") from error
    for name, part in (("x", x), ("edge_index", edge_index), ("y", labels), ("edge_weight", weight)):
        if part is not None and not isinstance(part, torch.Tensor) and not scipy.sparse.issparse(part):
            raise ValueError(f"Expected '{name}' in '{path}' to be a tensor (got {type(part).__name__}). {_WAY_OUT}")
    return Parts(
        edge_index,
        labels,
        x,
        weight,
        directed=directed if isinstance(directed, bool) else None,
        digest=digest if isinstance(digest, str) else None,
    )


def write(parts: Parts, path: Path) -> None:
    """Write a graph as a ``Data`` object: x, edge_index, y, edge_weight, and beside them directed and digest."""
    from torch_geometric.data import Data

    tensors = {
        "x": _tensor(parts.x),
        "edge_index": _tensor(parts.edge_index),
        "y": _tensor(parts.labels),
        "edge_weight": _tensor(parts.edge_weight),
    }
    present = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    data = Data(**present, num_nodes=len(parts.labels), directed=parts.directed, digest=parts.digest)
    buffer = io.BytesIO()
    torch.save(data, buffer)
    write_atomically(path, buffer.getvalue())


def _tensor(array: Any) -> torch.Tensor | None:
    if array is None:
        return None
    if scipy.sparse.issparse(array):
        rowptr, col = (torch.from_numpy(part.astype(np.int64)) for part in (array.indptr, array.indices))
        return torch.sparse_csr_tensor(rowptr, col, torch.from_numpy(array.data), size=array.shape)
    return torch.from_numpy(np.ascontiguousarray(array))


def _loaded(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch does not look at the checksums
        if damaged is not None:
            raise ValueError(f"a wrong checksum of '{damaged}'")
        with _only_safe(_harmless()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = str(error).partition("Unsupported global: GLOBAL ")[2].split(" ")[0]
        reason = f"'{refused}', which is never loaded" if refused else "content that is never loaded"
        raise ValueError(
            f"Expected '{path}' to hold tensors and plain values only (got {reason}). {_WAY_OUT}"
        ) from error
    # A damaged file fails in one of these ways, depending on the byte that was hit.
    except (
        *(OSError, ValueError, EOFError, LookupError, AttributeError, TypeError, RuntimeError, MemoryError),
        *(zipfile.BadZipFile, zlib.error, AssertionError),
    ) as error:
        raise ValueError(
            f"Expected '{path}' to be readable as a file of torch.save (got {type(error).__name__}: {error}). "
            f"{_WAY_OUT}"
        ) from error


@contextlib.contextmanager
def _only_safe(classes: list[Any]) -> Iterator[None]:
    """Let torch load these classes, and none of those that other packages declare safe for themselves."""
    declared = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        torch.serialization.add_safe_globals(classes)
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(declared)


def _harmless() -> list[Any]:
    """The classes of PyTorch Geometric that a ``Data`` or ``HeteroData`` object is made of."""
    from torch_geometric.data import Data, HeteroData, storage
    from torch_geometric.data.data import DataEdgeAttr, DataTensorAttr
    from torch_geometric.data.feature_store import TensorAttr
    from torch_geometric.data.graph_store import EdgeAttr, EdgeLayout

    stores = [storage.BaseStorage, storage.NodeStorage, storage.EdgeStorage, storage.GlobalStorage]
    return [Data, HeteroData, DataEdgeAttr, DataTensorAttr, TensorAttr, EdgeAttr, EdgeLayout, *stores]
