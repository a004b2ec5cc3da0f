"""Node features averaged over neighbours, a few numbers a node, without any training."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Literal, cast, get_args

import scipy.sparse
import scipy.sparse.linalg
import torch
from torch import Tensor

from fgsam.checks import check_choice, check_positive
from fgsam.episodes.streams import generator
from fgsam.functional.svd import Products, truncated_svd
from fgsam.graph.graph import Graph
from fgsam.graph.sparse import SparseMatrix
from fgsam.typing import EdgeKind

PLAIN_BELOW = 256
"""Graphs with at most this many features need no SVD."""

DIM = 128
"""Directions kept of more features than that."""

CACHE_BYTES = 2**30
"""Oldest features are dropped when more than this is kept."""

STEPS_PER_HOP = 4
"""Random walks are cut at this many times their mean length; under 3 in 100 are longer."""

Smoothing = Literal["hops", "pagerank", "scales"]
"""How features are averaged over neighbours, see :func:`smoothed_features`."""

_cache: OrderedDict[tuple[object, ...], Tensor] = OrderedDict()


def smoothed_features(
    graph: Graph,
    edges: EdgeKind,
    num_hops: int,
    dim: int,
    *,
    smoothing: Smoothing = "hops",
    basis: Graph | None = None,
) -> Tensor:
    """Average features over neighbours, and keep their leading directions.

    Rows of ``x`` are brought to unit length, multiplied by a matrix made of the normalised adjacency ``A``, projected
    on the leading right singular vectors of the result (from more than 256 features on; the smoothed matrix itself is
    never formed) and brought to unit length again. Features of the last graphs are kept in memory, so that several
    floors and class splits pay once.

    Args:
        graph: Gives features and weights; labels are not read.
        edges: Weights with self-loops, ``"row"`` or ``"sym"``; ``"raw"`` only with ``num_hops=0``.
        num_hops: Number of steps, at least 0.
        dim: Number of directions to keep, at least 1.
        smoothing: ``"hops"`` multiplies by ``A`` to the power ``num_hops``; ``"pagerank"`` by personalised PageRank,
            whose walks have ``num_hops`` steps on average; ``"scales"`` puts the results of 0, 1, 2, 4, ... hops, up
            to ``num_hops``, side by side, each with its own directions.
        basis: The graph whose leading directions are kept; ``graph`` itself when not given.

    Returns:
        Float32 features, shape ``[num_nodes, num_kept]``, times the number of scales; rows have length one, or zero
        where all features are zero.

    Source:
        Wu et al., Simplifying Graph Convolutional Networks, 2019; for ``"pagerank"`` Gasteiger et al., Predict then
        Propagate, 2019, Eq. 5; for ``"scales"`` Frasca et al., SIGN: Scalable Inception Graph Neural Networks, 2020.
    """
    if smoothing == "scales":
        scales = [0, *(2**power for power in range(num_hops.bit_length())), num_hops]
        parts = [smoothed_features(graph, edges, hops, dim, basis=basis) for hops in dict.fromkeys(scales)]
        return _unit_rows(torch.cat(parts, dim=-1))
    basis = graph if basis is None else basis
    edges = edges if num_hops else "raw"
    # Graphs of two types may share a digest, but weights are computed in the graph's own.
    key = (graph.digest, basis.digest, smoothing if num_hops else "hops", edges, num_hops, dim, graph.dtype)
    return remembered(key, lambda: _compute(graph, edges, num_hops, dim, smoothing, basis))


def remembered(key: tuple[object, ...], make: Callable[[], Tensor]) -> Tensor:
    """Give what was made for a key before, or make it; the oldest is dropped when too much is kept.

    Args:
        key: All that it is made of: digests of graphs, options.
        make: Makes it.
    """
    if key not in _cache:
        _cache[key] = make()
        while len(_cache) > 1 and sum(rows.numel() * rows.element_size() for rows in _cache.values()) > CACHE_BYTES:
            _cache.popitem(last=False)
    _cache.move_to_end(key)
    return _cache[key]


def with_smoothed_features(graph: Graph, kind: str, *, basis: Graph | None = None) -> Graph:
    """The same nodes, edges and labels with 128 smoothed features, or as many as there are up to 256, for their own.

    Args:
        graph: Any graph with features.
        kind: Smoothing, normalisation and number of hops, ``"pagerank_row_4"``; ``"smoothed"`` for ``"hops_sym_2"``.
        basis: The graph whose leading directions are kept; ``graph`` itself when not given. Features of two graphs can
            be compared where these are the same.

    Raises:
        ValueError: If ``kind`` is none of these.

    Example:
        >>> graph = Graph.from_arrays([[1.0, 0.0], [0.0, 3.0]], [[0], [1]], [0, 1], directed=False)
        >>> with_smoothed_features(graph, "hops_row_1").x
        tensor([[0.7071, 0.7071],
                [0.7071, 0.7071]])
    """
    smoothing, edges, num_hops = _parsed(kind)
    x = smoothed_features(graph, edges, num_hops, DIM, smoothing=smoothing, basis=basis)
    # What it is made of, because its last bits depend on the machine.
    parts = (graph.digest, (graph if basis is None else basis).digest, smoothing, edges, num_hops)
    digest = hashlib.sha256(repr(parts).encode()).hexdigest()
    return graph.replaced(x=x, adjacency=graph.adjacency.to(dtype=x.dtype), digest=digest)


@dataclass(frozen=True)
class PageRank:
    """Personalised PageRank as a matrix: where a random walk ends that stops with the same chance after every step.

    Attributes:
        weights: One step of the walk.
        num_hops: Mean number of steps, at least 1; walks are cut at four times that.
    """

    weights: Products
    num_hops: int

    @property
    def shape(self) -> tuple[int, int]:
        """Number of nodes, twice."""
        return self.weights.shape

    @property
    def dtype(self) -> torch.dtype:
        """Type of the entries."""
        return self.weights.dtype

    @property
    def transpose(self) -> PageRank:
        """The same of the reversed walk."""
        return PageRank(self.weights.transpose, self.num_hops)

    def product(self, dense: Tensor) -> Tensor:
        """Multiply with a dense matrix, shape ``[num_nodes, width]``, by power iteration."""
        stop = 1 / (self.num_hops + 1)
        rows = dense
        for _ in range(STEPS_PER_HOP * self.num_hops):
            rows = torch.add(stop * dense, self.weights.product(rows), alpha=1 - stop)
        return rows


@dataclass(frozen=True)
class Chain:
    """A product of matrices that is never multiplied out.

    Attributes:
        factors: The matrices from left to right, at least one.
    """

    factors: tuple[Products, ...]

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


def _compute(graph: Graph, edges: EdgeKind, num_hops: int, dim: int, smoothing: Smoothing, basis: Graph) -> Tensor:
    if graph.num_features <= PLAIN_BELOW:
        dense = graph.x.dense() if isinstance(graph.x, SparseMatrix) else graph.x
        smoothed = _unit_rows(dense.float())
        hops = _hops(graph, edges, num_hops, smoothing)
        return _unit_rows(Chain(hops).product(smoothed)) if hops else smoothed
    # The stream depends on what is computed, not on who asks first, so that the cache changes no result.
    keys = () if smoothing == "hops" or not num_hops else (smoothing,)
    seed = int(generator("svd", edges, num_hops, *keys).integers(2**62))
    matrix = _smoothed_matrix(basis, edges, num_hops, smoothing)
    _, _, directions = truncated_svd(
        matrix,
        min(dim, *matrix.shape),
        generator=torch.Generator().manual_seed(seed),
        num_iterations=1,  # a second iteration moves floor accuracies by less than 0.3 points, either way
    )
    if basis is not graph:
        matrix = _smoothed_matrix(graph, edges, num_hops, smoothing)
    # Not left vectors times values: there, rounding would turn rows of zeros into rows of noise of length one.
    return _unit_rows(matrix.product(directions))


def _smoothed_matrix(graph: Graph, edges: EdgeKind, num_hops: int, smoothing: Smoothing) -> Chain:
    return Chain((*_hops(graph, edges, num_hops, smoothing), sparse_unit_rows(graph.x)))


def _hops(graph: Graph, edges: EdgeKind, num_hops: int, smoothing: Smoothing) -> tuple[Products, ...]:
    """The matrices that average over neighbours, from left to right; none without hops."""
    if not num_hops:
        return ()
    weights = graph.weights(edges).to(dtype=torch.float32)
    return (weights,) * num_hops if smoothing == "hops" else (PageRank(weights, num_hops),)


def _parsed(kind: str) -> tuple[Smoothing, EdgeKind, int]:
    smoothing, _, rest = ("hops_sym_2" if kind == "smoothed" else kind).partition("_")
    edges, _, num_hops = rest.partition("_")
    check_choice(get_args(Smoothing), smoothing=smoothing)
    check_choice(("row", "sym"), edges=edges)
    check_positive(num_hops=int(num_hops) if num_hops.isdecimal() else 0)
    return cast(Smoothing, smoothing), cast(EdgeKind, edges), int(num_hops)


def _unit_rows(rows: Tensor) -> Tensor:
    return torch.nn.functional.normalize(rows, dim=-1)


def sparse_unit_rows(x: Tensor | SparseMatrix) -> SparseMatrix:
    """Bring the rows of features to length one, rows of zeros left out; float32."""
    rows = x.scipy() if isinstance(x, SparseMatrix) else scipy.sparse.csr_array(x.numpy())
    lengths = scipy.sparse.linalg.norm(rows, axis=1)
    lengths[lengths == 0] = 1.0
    return SparseMatrix.from_scipy(scipy.sparse.diags_array(1 / lengths) @ rows).to(dtype=torch.float32)
