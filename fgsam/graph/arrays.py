"""From arrays of any library to the parts of a graph, with every fault named."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from fgsam.graph.sparse import SparseMatrix

DENSE_ABOVE = 0.2
"""Features with a larger share of non-zeros are stored dense, if they fit the memory limit."""

Features: TypeAlias = Any
"""A float array, or scipy compressed rows."""


def checked_features(x: Any) -> Features:
    """Features as a float array or compressed rows without zeros, all finite.

    Raises:
        ValueError: If the shape is wrong or a value is not a finite number.
    """
    if isinstance(x, Tensor):
        x = x.detach().cpu().to_dense().numpy() if x.layout != torch.strided else x.detach().cpu().numpy()
    if not scipy.sparse.issparse(x):
        x = np.asarray(x)
    if x.ndim != 2 or x.dtype.kind not in "fiub":
        raise ValueError(
            f"Expected 'x' to be numbers of shape [num_nodes, num_features] (got {x.dtype} of shape {list(x.shape)})"
        )
    dtype = np.float64 if x.dtype == np.float64 else np.float32
    if scipy.sparse.issparse(x):
        x = scipy.sparse.csr_array(x, dtype=dtype, copy=True)  # tidied in place, which must not touch the caller's
        x.sum_duplicates()
        x.eliminate_zeros()
    else:
        x = np.ascontiguousarray(x, dtype=dtype)
    bad = ~np.isfinite(x.data if scipy.sparse.issparse(x) else x)
    if bad.any():
        raise ValueError(
            f"Expected finite features in 'x' (got {int(bad.sum())} NaN or infinite values). Clean them first."
        )
    return x


def checked_labels(labels: Any, num_nodes: int) -> Tensor:
    """Labels as int64, one a node, at least -1; whole numbers stored as floats are accepted.

    Raises:
        ValueError: If there are too few or too many, or one is no whole number from -1 on.
    """
    array = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if array.ndim == 2 and 1 in array.shape:
        array = array.reshape(-1)
    if array.ndim != 1 or len(array) != num_nodes:
        raise ValueError(
            f"Expected 'labels' to hold one class a node (got shape {list(array.shape)} for {num_nodes} nodes)"
        )
    is_number = array.dtype.kind in "iuf" and bool(np.isfinite(array).all())
    if not is_number or not np.array_equal(array, np.floor(array)) or (array < -1).any():
        raise ValueError(
            f"Expected 'labels' to be whole numbers from 0 on, -1 where unknown (got {preview(array)}). "
            "Number the classes 0, 1, 2, ... first."
        )
    return torch.from_numpy(array.astype(np.int64))


def checked_edges(
    edge_index: Any, edge_weight: Any, num_nodes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Source, target, given order and weight of each edge.

    Raises:
        ValueError: If a node number is out of range, or the weights do not fit the edges.
    """
    edges = edge_index.detach().cpu().numpy() if isinstance(edge_index, Tensor) else np.asarray(edge_index)
    if edges.size == 0:
        edges = np.zeros((2, 0), dtype=np.int64)
    if edges.ndim != 2 or edges.shape[0] != 2 or edges.dtype.kind not in "iu":
        raise ValueError(
            f"Expected 'edge_index' to be whole numbers of shape [2, num_edges] "
            f"(got {edges.dtype} of shape {list(edges.shape)})"
        )
    bad = (edges < 0) | (edges >= num_nodes)
    if bad.any():
        column = int(np.flatnonzero(bad.any(axis=0))[0])
        raise ValueError(
            f"Expected 'edge_index' to name nodes 0..{num_nodes - 1} "
            f"(got edge {column}: {edges[0, column]} -> {edges[1, column]}). "
            "Count nodes from 0 and pass one row of x for each."
        )
    weight = None
    if edge_weight is not None:
        weight = np.asarray(edge_weight.detach().cpu() if isinstance(edge_weight, Tensor) else edge_weight)
        if weight.shape != (edges.shape[1],) or not np.isfinite(weight).all():
            raise ValueError(
                f"Expected 'edge_weight' to hold one finite number an edge "
                f"(got shape {list(weight.shape)} for {edges.shape[1]} edges)"
            )
    source, target = edges.astype(np.int64)
    return source, target, np.arange(edges.shape[1]), weight


def symmetrised(
    source: np.ndarray, target: np.ndarray, weight: np.ndarray | None, num_nodes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Both directions of every edge, each once, with the weight first given for it, or else for its reverse."""
    both = np.concatenate([target * num_nodes + source, source * num_nodes + target])
    pairs, first = np.unique(both, return_index=True)
    return pairs % num_nodes, pairs // num_nodes, None if weight is None else np.concatenate([weight, weight])[first]


def in_edges(
    source: np.ndarray, target: np.ndarray, weight: np.ndarray | None, num_nodes: int
) -> tuple[SparseMatrix, np.ndarray]:
    """In-edges of every node in compressed rows, sorted by target and source, and where each edge came from."""
    place = np.lexsort((source, target))
    rowptr = np.concatenate([[0], np.cumsum(np.bincount(target, minlength=num_nodes))]).astype(np.int32)
    dtype = np.float64 if weight is not None and weight.dtype == np.float64 else np.float32
    values = np.ones(len(place), dtype=dtype) if weight is None else weight[place].astype(dtype)
    col = source[place].astype(np.int32)
    matrix = SparseMatrix(torch.from_numpy(rowptr), torch.from_numpy(col), torch.from_numpy(values), (num_nodes,) * 2)
    return matrix, place


def is_symmetric(adjacency: SparseMatrix) -> bool:
    """Whether every edge has its reverse with the same weight."""
    matrix = adjacency.scipy().copy()  # comparing merges parallel edges in place
    pattern = adjacency.scipy().copy()  # in which an edge of weight zero is one
    pattern.data[:] = 1.0
    return bool((pattern != pattern.T).nnz == 0 and (matrix != matrix.T).nnz == 0)


def stored(features: Features, memory_mb: float) -> Tensor | SparseMatrix:
    """Dense when dense enough and small enough, else compressed rows."""
    matrix = scipy.sparse.csr_array(features)
    size = matrix.shape[0] * matrix.shape[1]
    if matrix.nnz > DENSE_ABOVE * size and size * matrix.dtype.itemsize <= memory_mb * 2**20:
        return torch.from_numpy(matrix.toarray())
    return SparseMatrix.from_scipy(matrix)


def preview(values: np.ndarray) -> str:
    """The first few values, for messages."""
    shown = ", ".join(str(value) for value in values.reshape(-1)[:5])
    return f"{shown}{', ...' if values.size > 5 else ''}"
