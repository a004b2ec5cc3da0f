"""Edge weights of the full graph: with self-loops, or of the nodes at one distance."""

from __future__ import annotations

import numpy as np
import scipy.sparse
from scipy.sparse._sparsetools import csr_matmat_maxnnz

from fgsam.graph.sparse import SparseMatrix
from fgsam.typing import EdgeKind

_NUM_SAMPLED = 1000
_ROWS_AT_ONCE = 1000


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


def ring_weights(adjacency: SparseMatrix, distance: int) -> SparseMatrix:
    """Find the nodes exactly one or two hops away and scale by the square roots of both ends' counts.

    Args:
        adjacency: Row ``i`` holds the in-edges of node ``i``, of whatever weights, shape ``[num_nodes, num_nodes]``.
        distance: 1 or 2.

    Returns:
        ``1 / sqrt(d_i d_j)`` for ``j`` at that distance from ``i``, with the counts ``d_i`` of row ``i`` and ``d_j`` of
        column ``j``; of the same shape and dtype.
    """
    near = _pattern(adjacency)
    ring = near if distance == 1 else _two_hop_pattern(near)
    rows, columns = np.diff(ring.indptr), np.bincount(ring.indices, minlength=ring.shape[0])
    of_row, of_column = ((1 / np.sqrt(np.maximum(n, 1))).astype(adjacency.scipy().dtype) for n in (rows, columns))
    ring.data = np.repeat(of_row, rows) * of_column[ring.indices]
    return SparseMatrix.from_scipy(ring)


def two_hop_pairs(adjacency: SparseMatrix) -> int:
    """Estimate how many pairs of nodes a walk of two in-edges joins; exact on graphs of at most 1000 nodes."""
    near = _pattern(adjacency)
    num_nodes = adjacency.shape[0]
    sample = np.random.default_rng(0).permutation(num_nodes)[:_NUM_SAMPLED]
    rows = near[sample]
    found = int(csr_matmat_maxnnz(len(sample), num_nodes, rows.indptr, rows.indices, near.indptr, near.indices))
    return round(found * num_nodes / max(1, len(sample)))


def _pattern(adjacency: SparseMatrix) -> scipy.sparse.csr_array:
    """One for each pair of different nodes with an edge, however many there are and whatever their weights."""
    given = adjacency.scipy()
    target = np.repeat(np.arange(given.shape[0], dtype=np.int32), np.diff(given.indptr))
    kept = target != given.indices
    ones = np.ones(int(kept.sum()), dtype=np.float32)
    pattern = scipy.sparse.csr_array((ones, (target[kept], given.indices[kept])), shape=given.shape)
    pattern.data[:] = 1.0
    return pattern


def _two_hop_pattern(near: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    """Nonzero where two steps lead to a node that is neither one step away nor the start."""
    at_most_one = scipy.sparse.csr_array(near + scipy.sparse.eye_array(near.shape[0], dtype=near.dtype))
    parts = []
    for start in range(0, near.shape[0], _ROWS_AT_ONCE):  # all walks at once would take several times the result
        rows = slice(start, start + _ROWS_AT_ONCE)
        walks = near[rows] @ near
        parts.append(walks - walks.multiply(at_most_one[rows]))
    pattern = scipy.sparse.vstack(parts, format="csr") if parts else near
    pattern.eliminate_zeros()
    return pattern


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
