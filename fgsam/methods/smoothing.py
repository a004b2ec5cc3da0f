"""Node features averaged over neighbours, a few numbers a node, without any training."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import reduce

import scipy.sparse
import scipy.sparse.linalg
import torch
from torch import Tensor

from fgsam.episodes.streams import generator
from fgsam.functional.svd import truncated_svd
from fgsam.graph.graph import Graph
from fgsam.graph.sparse import SparseMatrix
from fgsam.typing import EdgeKind

PLAIN_BELOW = 256
"""Graphs with at most this many features need no SVD."""

CACHE_BYTES = 512 * 2**20
"""Oldest features are dropped when more than this is kept."""

_cache: OrderedDict[tuple[str, str, int, int, torch.dtype], Tensor] = OrderedDict()


def smoothed_features(graph: Graph, edges: EdgeKind, num_hops: int, dim: int) -> Tensor:
    """Average features ``num_hops`` times over neighbours, and keep their leading directions.

    Rows of ``x`` are brought to unit length, multiplied by the normalised adjacency ``num_hops`` times, projected on
    the leading right singular vectors of the result (from more than 256 features on; the smoothed matrix itself is
    never formed) and brought to unit length again. Features of the last graphs are kept in memory, so that several
    floors and class splits pay once.

    Args:
        graph: Gives features and weights; labels are not read.
        edges: Weights with self-loops, ``"row"`` or ``"sym"``; ``"raw"`` only with ``num_hops=0``.
        num_hops: Number of products, at least 0.
        dim: Number of directions to keep, at least 1.

    Returns:
        Float32 features, shape ``[num_nodes, num_kept]``; rows have length one, or zero where all features are zero.

    Source:
        Wu et al., Simplifying Graph Convolutional Networks, 2019.
    """
    # Graphs of two types may share a digest, but weights are computed in the graph's own.
    key = (graph.digest, edges if num_hops else "raw", num_hops, dim, graph.dtype)
    if key not in _cache:
        _cache[key] = _compute(graph, edges, num_hops, dim)
        while len(_cache) > 1 and sum(rows.numel() * rows.element_size() for rows in _cache.values()) > CACHE_BYTES:
            _cache.popitem(last=False)
    _cache.move_to_end(key)
    return _cache[key]


@dataclass(frozen=True)
class Chain:
    """A product of sparse matrices that is never multiplied out.

    Attributes:
        factors: The matrices from left to right, at least one.
    """

    factors: tuple[SparseMatrix, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of columns of the product."""
        return self.factors[0].shape[0], self.factors[-1].shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """Type of the entries."""
        return self.factors[0].dtype

    @property
    def transpose(self) -> Chain:
        """The transposed product."""
        return Chain(tuple(factor.transpose for factor in reversed(self.factors)))

    def product(self, dense: Tensor) -> Tensor:
        """Multiply with a dense matrix, shape ``[num_columns, width]``, from right to left."""
        return reduce(lambda rows, factor: factor.product(rows), reversed(self.factors), dense)


def _compute(graph: Graph, edges: EdgeKind, num_hops: int, dim: int) -> Tensor:
    hops = (graph.weights(edges).to(dtype=torch.float32),) * num_hops
    if graph.num_features <= PLAIN_BELOW:
        dense = graph.x.dense() if isinstance(graph.x, SparseMatrix) else graph.x
        smoothed = _unit_rows(dense.float())
        return _unit_rows(Chain(hops).product(smoothed)) if hops else smoothed
    # The stream depends on what is computed, not on who asks first, so that the cache changes no result.
    seed = int(generator("svd", edges if num_hops else "raw", num_hops).integers(2**62))
    matrix = Chain((*hops, _sparse_unit_rows(graph.x)))
    _, _, directions = truncated_svd(
        matrix,
        min(dim, *matrix.shape),
        generator=torch.Generator().manual_seed(seed),
        num_iterations=1,  # a second iteration moves floor accuracies by less than 0.3 points, either way
    )
    # Not left vectors times values: there, rounding would turn rows of zeros into rows of noise of length one.
    return _unit_rows(matrix.product(directions))


def _unit_rows(rows: Tensor) -> Tensor:
    return torch.nn.functional.normalize(rows, dim=-1)


def _sparse_unit_rows(x: Tensor | SparseMatrix) -> SparseMatrix:
    rows = x.scipy() if isinstance(x, SparseMatrix) else scipy.sparse.csr_array(x.numpy())
    lengths = scipy.sparse.linalg.norm(rows, axis=1)
    lengths[lengths == 0] = 1.0
    return SparseMatrix.from_scipy(scipy.sparse.diags_array(1 / lengths) @ rows).to(dtype=torch.float32)
