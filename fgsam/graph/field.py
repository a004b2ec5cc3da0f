"""The receptive field of some target nodes: all that an encoder reads to embed them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from fgsam.graph.ego import EgoSets, ego_sets
from fgsam.graph.sparse import SparseMatrix
from fgsam.typing import Boundary, EdgeKind

if TYPE_CHECKING:
    from fgsam.graph.graph import Graph

Kept = TypeVar("Kept")


class Field:
    """Feature rows, relabelled edges and weights around some targets.

    Nodes are numbered by distance: targets first in the order asked for, then the nodes one hop away, and so on. An
    encoder of as many layers as the field has hops gives the target rows of a pass over the full graph.

    Built by :meth:`fgsam.graph.graph.Graph.field`.

    Attributes:
        node_ids: Number of each node in the graph, int64, shape ``[num_nodes]``.
        num_targets: How many of them are targets.
        num_hops: How far the field reaches; 0 for the peer's view, in which every row sees only itself.
        edges: What the weights mean: ``"raw"``, ``"row"`` or ``"sym"``.
        boundary: ``"narrow"`` or ``"closed"``, see :meth:`fgsam.graph.graph.Graph.field`.
        sizes: The nodes at most ``d`` hops away are the first ``sizes[d]`` ones; in a :meth:`head`, among them.
    """

    def __init__(
        self,
        graph: Graph,
        ids: np.ndarray,
        adjacency: SparseMatrix | None,
        *,
        sizes: tuple[int, ...],
        num_hops: int,
        edges: EdgeKind,
        boundary: Boundary = "narrow",
        edge_places: np.ndarray | None = None,
        is_folded: bool = False,
    ) -> None:
        self._graph = graph
        self._ids = ids
        self._edge_places = edge_places
        self._is_folded = is_folded
        self._heads: dict[int, Field] = {}
        self._blocks: dict[int, SparseMatrix] = {}
        self._rings: dict[int, SparseMatrix] = {}
        self._kept: dict[Hashable, Any] = {}
        self._adjacency = adjacency
        self.sizes = sizes
        self.num_hops = num_hops
        self.edges = edges
        self.boundary = boundary

    @property
    def num_targets(self) -> int:
        """Number of target nodes."""
        return self.sizes[0]

    @property
    def num_nodes(self) -> int:
        """Number of nodes in the field."""
        return len(self._ids)

    @property
    def is_peer(self) -> bool:
        """Whether every row sees only itself."""
        return self.num_hops == 0

    @property
    def adjacency(self) -> SparseMatrix:
        """In-edges of each node within the field, shape ``[num_nodes, num_nodes]``; empty rows where none is read."""
        if self._adjacency is None:  # the peer's, which no built-in encoder asks for
            self._adjacency = _self_loops(self.num_nodes, self._graph)
        return self._adjacency

    @cached_property
    def node_ids(self) -> Tensor:
        """Number of each node in the graph, int64, shape ``[num_nodes]``."""
        return torch.from_numpy(self._ids).to(self._graph.device)

    @cached_property
    def distance(self) -> Tensor:
        """Hops from the nearest target, int64, shape ``[num_nodes]``; in a :meth:`head` of a field, at most these."""
        steps = np.diff((0, *self.sizes, self.num_nodes))
        return torch.repeat_interleave(torch.arange(len(steps)), torch.from_numpy(steps)).to(self._graph.device)

    @cached_property
    def degree(self) -> Tensor:
        """In-edges of each node in the full graph, self-loops left out, shape ``[num_nodes]``."""
        return self._graph.degree[self._ids].to(self._graph.device)

    @cached_property
    def x(self) -> Tensor | SparseMatrix:
        """Feature rows, shape ``[num_nodes, num_features]``."""
        return self._take(self._graph.x, self._ids)

    def dense_x(self) -> Tensor:
        """Feature rows with all their zeros, shape ``[num_nodes, num_features]``."""
        return self.x.dense() if isinstance(self.x, SparseMatrix) else self.x

    @cached_property
    def edge_index(self) -> Tensor:
        """Source and target of each edge, numbered within the field, int64, shape ``[2, num_edges]``."""
        counts = self.adjacency.rowptr.diff().long()
        targets = torch.repeat_interleave(torch.arange(self.num_nodes, device=counts.device), counts)
        return torch.stack([self.adjacency.col.long(), targets])

    @property
    def edge_weight(self) -> Tensor | None:
        """Weight of each edge, shape ``[num_edges]``; None where the edges are the graph's own and have none."""
        is_plain = self.edges == "raw" and not self._graph.is_weighted
        return None if is_plain else self.adjacency.values

    def of_nodes(self, values: Tensor) -> Tensor:
        """The rows of a full-graph node tensor ``[graph.num_nodes, ...]`` that belong to this field's nodes."""
        return values[self.node_ids]

    def of_edges(self, values: Tensor) -> Tensor:
        """The rows of a full-graph edge tensor, in the order in which the edges were given, for this field's edges.

        Raises:
            ValueError: If the field's edges are not the given ones (normalised weights, symmetrised edges, the peer).
        """
        order = self._graph.edge_order
        if self._edge_places is None or order is None or self.edges != "raw":
            raise ValueError(
                "Expected a field of the edges as given (got one with added or re-weighted edges). "
                "Use edges='raw', num_hops >= 1 and a graph built with directed=True."
            )
        return values[torch.from_numpy(order[self._edge_places])]

    def first_product(self, weight: Tensor, *, propagate: bool = False) -> Tensor:
        """Multiply the feature rows with a weight, the costliest product of an encoder.

        Args:
            weight: Shape ``[num_features, width]``.
            propagate: Give the first layer ``A @ (x @ weight)`` of the nodes at most ``num_hops - 1`` hops away,
                from kept rows of ``A @ x`` where the graph keeps them.

        Returns:
            Shape ``[num_nodes, width]``, or ``[sizes[num_hops - 1], width]`` after propagation.
        """
        if propagate and self._is_folded:
            return _times(self._kept_rows, weight)
        product = _times(self.x, weight)
        return self.propagate(product, self.num_hops - 1) if propagate else product

    def reread(self) -> Field:
        """Prepare for many backward passes, and return the field itself.

        The transpose of the rows that :meth:`first_product` reads is built, which pays from three passes on.
        """
        if isinstance(self.first_rows, SparseMatrix):
            _ = self.first_rows.transpose
        return self

    @property
    def first_rows(self) -> Tensor | SparseMatrix:
        """What the first layer multiplies with its weight: the features, or kept rows of ``A @ x``."""
        return self._kept_rows if self._is_folded else self.x

    def propagate(self, h: Tensor, to_hop: int) -> Tensor:
        """Sum the rows of in-neighbours, weighted.

        Args:
            h: Rows of the nodes at most ``to_hop + 1`` hops away, or more of them.
            to_hop: Give the rows of the nodes at most that many hops away.

        Returns:
            Shape ``[sizes[to_hop], width]``.
        """
        if self.is_peer:  # one self-loop of weight 1 each
            return h
        block = self.block(to_hop)
        return block.product(h[: block.shape[1]])

    def block(self, to_hop: int) -> SparseMatrix:
        """In-edges of the nodes at most ``to_hop`` hops away, shape ``[sizes[to_hop], sizes[to_hop + 1]]``."""
        if to_hop not in self._blocks:
            last = len(self.sizes) - 1
            num_rows, num_columns = self.sizes[max(0, min(to_hop, last))], self.sizes[max(0, min(to_hop + 1, last))]
            self._blocks[to_hop] = self.adjacency.head(num_rows, num_columns)
        return self._blocks[to_hop]

    def propagate_ring(self, h: Tensor, to_hop: int, distance: int) -> Tensor:
        """Sum the rows of the nodes exactly so many hops away, with the weights of :meth:`Graph.ring`.

        Args:
            h: Rows of the nodes at most ``to_hop + distance`` hops away, or more of them.
            to_hop: Give the rows of the nodes at most that many hops away.
            distance: 1 or 2.

        Returns:
            Shape ``[sizes[to_hop], width]``; zeros in the peer's view, whose rows have no others around.

        Raises:
            ValueError: If the field does not reach that far, or the graph refuses the ring.
        """
        if self.is_peer:
            return torch.zeros_like(h)
        last = len(self.sizes) - 1
        if to_hop + distance > last:
            raise ValueError(
                f"Expected a field of {to_hop + distance} hops (got {last}). Build it with a larger num_hops."
            )
        if distance not in self._rings:
            self._rings[distance] = self._slice_ring(distance, num_rows=self.sizes[last - distance])
        ring = self._rings[distance].head(self.sizes[to_hop], self.sizes[to_hop + distance])
        return ring.product(h[: ring.shape[1]])

    def ego_sets(
        self, num_hops: int, *, seeds: Tensor | None = None, sets: Tensor | None = None, edges: EdgeKind = "raw"
    ) -> EgoSets:
        """Collect the rows around some rows, each neighbourhood by itself, with the edges within it.

        Args:
            num_hops: A set holds what lies at most so many in-edges away from its seeds, at least 0.
            seeds: Rows of the field to start from, shape ``[num_seeds]``; by default the targets.
            sets: Number of the set that each seed belongs to, from 0, shape ``[num_seeds]``; by default each seed has
                one of its own. A number that is left out gives an empty set.
            edges: What the weights mean: the graph's own, or those of the full graph with self-loops, see
                :meth:`fgsam.graph.graph.Graph.weights`.

        Returns:
            The sets, in the order of their numbers. In the peer's view they are the seeds alone, each with one
            self-loop of weight 1.

        Raises:
            ValueError: If a set reaches out of the field, a seed is no row of it, or ``num_hops`` or a number is
                negative.

        Example:
            >>> from fgsam.graph.graph import Graph
            >>> graph = Graph.from_arrays(np.eye(4), [[0, 1, 2], [1, 2, 3]], [0, 0, 1, 1], directed=False)
            >>> graph.field([0, 3], 2).ego_sets(1).rows
            tensor([0, 2, 1, 3])
        """
        weights, is_cut = self.remember(("edges within", edges), lambda: self._edges_within(edges))
        found = torch.arange(self.num_targets) if seeds is None else seeds.cpu()
        numbers = torch.arange(len(found)) if sets is None else sets.cpu()
        made = ego_sets(found.numpy(), numbers.numpy(), num_hops, weights, is_cut)
        return made.to(self._graph.device)

    def remember(self, key: Hashable, make: Callable[[], Kept]) -> Kept:
        """Give what was made for a key before, or make it: what all passes over this field share.

        Args:
            key: A name, and whatever beside the field it depends on.
            make: Makes it, from constants: no weight may enter.
        """
        if key not in self._kept:
            self._kept[key] = make()
        kept: Kept = self._kept[key]
        return kept

    def head(self, num_targets: int) -> Field:
        """The field of the first targets alone, sharing memory; it reads no row that they do not need.

        Args:
            num_targets: How many targets to keep, at least 1 and at most ``num_targets``.

        Raises:
            ValueError: If it is out of that range.
        """
        if num_targets == self.num_targets:
            return self
        if not 1 <= num_targets < self.num_targets:
            raise ValueError(f"Expected 'num_targets' to be in 1..{self.num_targets} (got num_targets={num_targets})")
        if num_targets not in self._heads:
            self._heads[num_targets] = self._make_head(num_targets)
        return self._heads[num_targets]

    def __repr__(self) -> str:
        return (
            f"Field({self.num_targets} targets, {self.num_hops} hops, {self.num_nodes} nodes, "
            f"{self.adjacency.num_entries} edges, '{self.edges}')"
        )

    @cached_property
    def _kept_rows(self) -> Tensor | SparseMatrix:
        return self._take(self._graph.product(self.edges), self._ids[: self.sizes[self.num_hops - 1]])

    def _take(self, matrix: Tensor | SparseMatrix, ids: np.ndarray) -> Tensor | SparseMatrix:
        if isinstance(matrix, SparseMatrix):
            return matrix.rows(ids).to(device=self._graph.device)
        return matrix[torch.from_numpy(ids)].to(self._graph.device)

    def _edges_within(self, edges: EdgeKind) -> tuple[SparseMatrix, np.ndarray]:
        """The edges among all nodes of the field, and whether a node has others, on the CPU."""
        if self.is_peer:
            return _self_loops(self.num_nodes, self._graph).to(device="cpu"), np.zeros(self.num_nodes, dtype=bool)
        matrix = self._graph.weights(edges)
        rowptr, col, places, counts = _edges_among(self._graph, matrix, self._ids)
        within = SparseMatrix._from_arrays(rowptr, col, matrix.values.numpy()[places], (self.num_nodes,) * 2)
        return within, np.diff(rowptr) < counts

    def _slice_ring(self, distance: int, num_rows: int) -> SparseMatrix:
        """The first rows of a ring of the graph, its columns numbered within the field."""
        rowptr, col, values = self._graph.ring(distance).rows(self._ids[:num_rows])._arrays
        local = self._graph._local
        try:
            local[self._ids] = np.arange(self.num_nodes, dtype=np.int32)
            col = local[col]
        finally:
            local[self._ids] = -1
        ring = SparseMatrix._from_arrays(rowptr, col, values, (num_rows, self.num_nodes))
        return ring.to(device=self._graph.device)

    def _make_head(self, num_targets: int) -> Field:
        if self.is_peer:
            sizes: tuple[int, ...] = (num_targets,)
            adjacency = None
        elif self.boundary == "closed":  # layers that count degrees need every row and edge
            sizes, adjacency = (num_targets, *self.sizes[1:]), self.adjacency
        else:
            sizes = self._needed_sizes(num_targets)
            adjacency = self.adjacency.head(sizes[-1], sizes[-1]) if len(sizes) == 1 else self._cut_adjacency(sizes)
        places = None if adjacency is None or self._edge_places is None else self._edge_places[: adjacency.num_entries]
        head = Field(
            self._graph,
            self._ids[: sizes[-1]],
            adjacency,
            sizes=sizes,
            num_hops=self.num_hops,
            edges=self.edges,
            boundary=self.boundary,
            edge_places=places,
            is_folded=self._is_folded,
        )
        for name, rows in (("x", sizes[-1]), ("_kept_rows", sizes[self.num_hops - 1] if self._is_folded else 0)):
            if name in self.__dict__:  # rows that were sliced already are shared
                whole = self.__dict__[name]
                head.__dict__[name] = whole.head(rows) if isinstance(whole, SparseMatrix) else whole[:rows]
        return head

    def _needed_sizes(self, num_targets: int) -> tuple[int, ...]:
        """How many leading nodes hold all rows at most 0, 1, ... hops from the first targets.

        Nodes are numbered in the order of their discovery, so what the first targets reach comes early. The count may
        take in a few nodes that they do not reach; those cost a little and change nothing.
        """
        sizes = [num_targets]
        for _ in self.sizes[1:]:
            end = int(self.adjacency.rowptr[sizes[-1]])
            reached = int(self.adjacency.col[:end].max()) + 1 if end else 0
            sizes.append(max(sizes[-1], reached))
        return tuple(sizes)

    def _cut_adjacency(self, sizes: tuple[int, ...]) -> SparseMatrix:
        """Rows of all nodes but the outermost, and empty rows for those."""
        return self.adjacency.head(sizes[-2], sizes[-1]).padded(sizes[-1])


def peer_field(graph: Graph, targets: np.ndarray, edges: EdgeKind) -> Field:
    """The field of zero hops: target rows, each with one self-loop of weight 1."""
    _check_distinct(targets)
    return Field(graph, targets, None, sizes=(len(targets),), num_hops=0, edges=edges)


def narrow_field(graph: Graph, targets: np.ndarray, num_hops: int, edges: EdgeKind, *, folded: bool) -> Field:
    """The in-edges of all nodes nearer than ``num_hops``; with ``folded`` the outermost hop is left to kept rows."""
    matrix = graph.weights(edges)
    hops = num_hops - 1 if folded else num_hops
    ids, sizes, places, col = _breadth_first(graph, matrix, targets, hops)
    # Rows of the inner nodes lie one after another in `places`; outermost nodes have none.
    rowptr = np.zeros(len(ids) + 1, dtype=np.int32)
    pointers = matrix.rowptr.numpy()
    inner = ids[: sizes[-2]] if hops else ids[:0]
    np.cumsum(pointers[inner + 1] - pointers[inner], out=rowptr[1 : len(inner) + 1])
    rowptr[len(inner) + 1 :] = rowptr[len(inner)]
    values = matrix.values.numpy()[places]
    adjacency = SparseMatrix._from_arrays(rowptr, col, values, (len(ids), len(ids))).to(device=graph.device)
    return Field(
        graph, ids, adjacency, sizes=sizes, num_hops=num_hops, edges=edges, edge_places=places, is_folded=folded
    )


def closed_field(graph: Graph, targets: np.ndarray, num_hops: int, edges: EdgeKind) -> Field:
    """All edges among the nodes within ``num_hops + 1`` hops, against the edges' direction and along it."""
    matrix = graph.weights(edges)
    ids, sizes, _, _ = _breadth_first(graph, graph.both_directions(), targets, num_hops + 1)
    rowptr, col, places, _ = _edges_among(graph, matrix, ids)
    adjacency = SparseMatrix._from_arrays(rowptr, col, matrix.values.numpy()[places], (len(ids), len(ids))).to(
        device=graph.device
    )
    return Field(
        graph, ids, adjacency, sizes=sizes, num_hops=num_hops, edges=edges, boundary="closed", edge_places=places
    )


def _breadth_first(
    graph: Graph, matrix: SparseMatrix, targets: np.ndarray, num_hops: int
) -> tuple[np.ndarray, tuple[int, ...], np.ndarray, np.ndarray]:
    """Nodes in the order of their discovery, how many within each hop, and the edges that were followed.

    Returns:
        Node numbers; sizes by hop; places of the followed edges in ``matrix``; their sources, numbered in the field.
    """
    rowptr, columns = matrix.rowptr.numpy(), matrix.col.numpy()
    local = graph._local
    layers, places, sources = [targets], [], []
    frontier, num_found = targets, len(targets)
    try:
        local[targets] = np.arange(num_found, dtype=np.int32)
        if not (local[targets] == np.arange(num_found, dtype=np.int32)).all():
            _check_distinct(targets)
        for _ in range(num_hops):
            followed, _ = _row_places(rowptr, frontier)
            source = columns[followed]
            fresh = source[local[source] < 0]
            # Of equal writes the last one stays, so going backwards leaves each node's first occurrence.
            turn = np.arange(len(fresh), dtype=np.int32)
            local[fresh[::-1]] = turn[::-1]
            frontier = fresh[local[fresh] == turn]
            local[frontier] = np.arange(num_found, num_found + len(frontier), dtype=np.int32)
            num_found += len(frontier)
            layers.append(frontier)
            places.append(followed)
            sources.append(source)
        ids = np.concatenate(layers).astype(np.int64, copy=False)
        col = local[np.concatenate(sources)] if sources else np.zeros(0, dtype=np.int32)
    finally:
        for layer in layers:
            local[layer] = -1
    sizes = tuple(np.cumsum([len(layer) for layer in layers]).tolist())
    return ids, sizes, _joined(places), col


def _edges_among(
    graph: Graph, matrix: SparseMatrix, ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The entries of a matrix among some nodes.

    Returns:
        Start of each row; columns, numbered as the nodes are listed; places in ``matrix``; the number of entries that
        each row has there, those to other nodes included.
    """
    local = graph._local
    local[ids] = np.arange(len(ids), dtype=np.int32)
    try:
        places, counts = _row_places(matrix.rowptr.numpy(), ids)
        col = local[matrix.col.numpy()[places]]
    finally:
        local[ids] = -1
    inside = col >= 0
    rows = np.repeat(np.arange(len(ids)), counts)[inside]
    rowptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(ids)))])
    return rowptr, col[inside], places[inside], counts


def _row_places(rowptr: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of all entries of some rows, one row after another, and the number of entries of each."""
    start = rowptr[rows]
    counts = rowptr[rows + 1] - start
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(start - (ends - counts), counts), counts


def _joined(parts: Iterable[np.ndarray]) -> np.ndarray:
    parts = list(parts)
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def _check_distinct(targets: np.ndarray) -> None:
    values, counts = np.unique(targets, return_counts=True)
    if (counts > 1).any():
        raise ValueError(f"Expected 'nodes' without repetition (got node {values[counts > 1][0]} more than once)")


def _times(rows: Tensor | SparseMatrix, weight: Tensor) -> Tensor:
    return rows.product(weight) if isinstance(rows, SparseMatrix) else rows @ weight


def _self_loops(num_nodes: int, graph: Graph) -> SparseMatrix:
    numbers = np.arange(num_nodes + 1, dtype=np.int32)
    ones = np.ones(num_nodes, dtype=graph.adjacency.scipy().dtype)
    return SparseMatrix._from_arrays(numbers, numbers[:-1], ones, (num_nodes, num_nodes)).to(device=graph.device)
