"""Edge weights of the full graph, with self-loops."""

from __future__ import annotations

import numpy as np
import scipy.sparse

from fgsam.graph.sparse import SparseMatrix
from fgsam.typing import EdgeKind


def normalised(adjacency: SparseMatrix, edges: EdgeKind) -> SparseMatrix:
    """Add the missing self-loops with weight 1 and scale by the sums of in-edge weights.

    Args:
        adjacency: Row ``i`` holds the weights of the in-edges of node ``i``, shape ``[num_nodes, num_nodes]``.
        edges: ``"row"`` for ``D^-1 (A + I)``, ``"sym"`` for ``D^-1/2 (A + I) D^-1/2``, with ``D`` the row sums of
            ``A + I``.

    Returns:
        The scaled matrix, of the same shape and dtype; rows that sum to zero or less get weight 0, and for ``"sym"``
        so do their columns.

    Source:
        Kipf and Welling, Semi-Supervised Classification with Graph Convolutional Networks, 2017, Eq. 2.
    """
    matrix = _with_self_loops(adjacency)
    sums = np.add.reduceat(matrix.data, matrix.indptr[:-1]) if matrix.shape[0] else matrix.data
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.where(sums > 0, 1.0 / (sums if edges == "row" else np.sqrt(sums)), 0.0).astype(matrix.dtype)
    rows = np.repeat(inverse, np.diff(matrix.indptr))
    matrix.data *= rows if edges == "row" else rows * inverse[matrix.indices]
    return SparseMatrix.from_scipy(matrix)


def _with_self_loops(adjacency: SparseMatrix) -> scipy.sparse.csr_array:
    """One self-loop a node: its own where it has one (the last of several), else one of weight 1."""
    given = adjacency.scipy()
    num_nodes = given.shape[0]
    target = np.repeat(np.arange(num_nodes, dtype=np.int32), np.diff(given.indptr))
    is_loop = target == given.indices
    loops = np.ones(num_nodes, dtype=given.dtype)
    loops[target[is_loop]] = given.data[is_loop]
    nodes = np.arange(num_nodes, dtype=np.int32)
    row = np.concatenate([target[~is_loop], nodes])
    col = np.concatenate([given.indices[~is_loop], nodes])
    data = np.concatenate([given.data[~is_loop], loops])
    # scipy's own conversion would add up parallel edges; sorting by hand keeps each.
    order = np.lexsort((col, row))
    rowptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=num_nodes))]).astype(np.int32)
    return scipy.sparse.csr_array((data[order], col[order], rowptr), shape=given.shape)
