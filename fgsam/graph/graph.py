"""A graph with node features and labels, and the only way to look at it: receptive fields."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from fgsam.checks import check_choice, check_non_negative, check_positive
from fgsam.graph import field as fields
from fgsam.graph.arrays import (
    checked_edges,
    checked_features,
    checked_labels,
    in_edges,
    is_symmetric,
    preview,
    stored,
    symmetrised,
)
from fgsam.graph.convert import arrays_of_networkx, arrays_of_pyg
from fgsam.graph.normalise import normalised, ring_weights, two_hop_pairs
from fgsam.graph.sparse import SparseMatrix
from fgsam.typing import Boundary, EdgeKind

if TYPE_CHECKING:
    from fgsam.graph.field import Field
    from fgsam.typing import NodeIds

KEEP_BELOW = 1.5
"""The product A·X is kept when its rows one hop away cost less than this many times the rows of X two hops away."""


class Graph:
    """Nodes with features, labels and edges, stored for cheap receptive fields.

    Use :meth:`from_arrays`, :meth:`from_pyg` or :meth:`from_networkx`. Edges are stored as given; weights with
    self-loops, which some encoders ask for, are derived from them.

    Attributes:
        x: Node features, shape ``[num_nodes, num_features]``: a tensor, or a :class:`SparseMatrix` when few are set.
        labels: Class of each node, int64, shape ``[num_nodes]``; -1 where it is not known.
        adjacency: Row ``i`` holds the in-edges of node ``i``: a :class:`SparseMatrix` of the edge weights (1 without).
        is_weighted: Whether the edges came with weights.
        is_directed: Whether some edge lacks a reverse of the same weight; False where missing reverses were added.
        edge_order: Place of each edge among those given; None where reverse edges were added.
        name: What to call the graph in results.
        memory_mb: Limit for one derived matrix, in MiB.
    """

    def __init__(
        self,
        x: Tensor | SparseMatrix,
        labels: Tensor,
        adjacency: SparseMatrix,
        *,
        is_weighted: bool,
        is_directed: bool,
        edge_order: np.ndarray | None = None,
        name: str = "own",
        memory_mb: float = 512,
    ) -> None:
        check_positive(memory_mb=memory_mb)
        self.x = x
        self.labels = labels
        self.adjacency = adjacency
        self.is_weighted = is_weighted
        self.is_directed = is_directed
        self.edge_order = edge_order
        self.name = name
        self.memory_mb = memory_mb
        self._derived: dict[tuple[str, str], Any] = {}
        self._digest: str | None = None
        self._local = np.full(self.num_nodes, -1, dtype=np.int32)  # scratch: a node's place in the field being built

    @classmethod
    def from_arrays(
        cls,
        x: Any,
        edge_index: Any,
        labels: Any,
        *,
        directed: bool,
        edge_weight: Any = None,
        name: str = "own",
        memory_mb: float = 512,
    ) -> Graph:
        """Build a graph from arrays.

        Args:
            x: Features, shape ``[num_nodes, num_features]``: array, tensor or scipy sparse matrix; finite. None for a
                graph without features, which then has no feature column.
            edge_index: Source and target of each edge, shape ``[2, num_edges]``, in ``0..num_nodes-1``.
            labels: Class of each node, whole numbers, shape ``[num_nodes]``; -1 where it is not known.
            directed: Keep the edges as given (True), or add the missing reverse edges and drop duplicates (False).
            edge_weight: Weight of each edge, shape ``[num_edges]``, finite; None for an unweighted graph.
            name: What to call the graph in results.
            memory_mb: Limit for one derived matrix, in MiB.

        Raises:
            ValueError: If an index is out of range, a value is not finite, or lengths do not fit.

        Example:
            >>> graph = Graph.from_arrays(np.eye(3), [[0, 1], [1, 2]], [0, 0, 1], directed=False)
            >>> graph.num_edges, graph.num_classes
            (4, 2)
        """
        features = checked_features(np.zeros((len(labels), 0), dtype=np.float32) if x is None else x)
        num_nodes = features.shape[0]
        source, target, order, weight = checked_edges(edge_index, edge_weight, num_nodes)
        if not directed:
            source, target, weight = symmetrised(source, target, weight, num_nodes)
            order = None
        adjacency, place = in_edges(source, target, weight, num_nodes)
        x = stored(features, memory_mb)
        return cls(
            x,
            checked_labels(labels, num_nodes),
            adjacency.to(dtype=x.dtype),
            is_weighted=weight is not None,
            is_directed=directed and not is_symmetric(adjacency),
            edge_order=None if order is None else order[place],
            name=name,
            memory_mb=memory_mb,
        )

    @classmethod
    def from_pyg(
        cls,
        data: Any,
        *,
        directed: bool | None = None,
        node_type: str | None = None,
        edge_type: str | None = None,
        name: str = "own",
        memory_mb: float = 512,
    ) -> Graph:
        """Build a graph from a PyTorch Geometric ``Data`` object, or from one kind of nodes of a ``HeteroData``.

        Args:
            data: Holds ``edge_index``, ``y`` and perhaps ``x`` and ``edge_weight``.
            directed: Keep the edges as given, or add the missing reverse ones. Needed only when some are missing.
            node_type: Nodes to take from a ``HeteroData``, with the edges among them.
            edge_type: The middle name of the edges to take, where these nodes have several; by default all together.
            name: What to call the graph in results.
            memory_mb: Limit for one derived matrix, in MiB.

        Raises:
            TypeError: If ``data`` is heterogeneous and ``node_type`` is missing, or it is not a ``Data`` object.
            ValueError: If a part is missing, or edges lack their reverse and ``directed`` does not say what to do.
        """
        x, edge_index, labels, edge_weight = arrays_of_pyg(data, node_type, edge_type)
        return cls._from_parts(x, edge_index, labels, edge_weight, directed, name, memory_mb)

    @classmethod
    def from_networkx(
        cls,
        graph: Any,
        *,
        feature: str | None = "x",
        label: str = "y",
        weight: str | None = None,
        directed: bool | None = None,
        name: str = "own",
        memory_mb: float = 512,
    ) -> Graph:
        """Build a graph from networkx; nodes are numbered in the order of ``graph.nodes``.

        Args:
            graph: A networkx graph. An undirected one gives both directions of each edge.
            feature: Node attribute that holds the feature vector; None for a graph without features.
            label: Node attribute that holds the class, a whole number; nodes without it are unlabelled.
            weight: Edge attribute that holds the weight; None for an unweighted graph.
            directed: Keep the edges as given, or add the missing reverse ones; by default what the networkx graph is.
            name: What to call the graph in results.
            memory_mb: Limit for one derived matrix, in MiB.

        Raises:
            ValueError: If a node lacks its features, or feature vectors differ in length.

        Example:
            >>> import networkx
            >>> g = networkx.path_graph(3)
            >>> for node in g: g.nodes[node].update(x=[float(node)], y=node % 2)
            >>> Graph.from_networkx(g).num_edges
            4
        """
        x, edge_index, labels, edge_weight = arrays_of_networkx(graph, feature, label, weight)
        keep = graph.is_directed() if directed is None else directed
        return cls.from_arrays(
            x, edge_index, labels, directed=keep, edge_weight=edge_weight, name=name, memory_mb=memory_mb
        )

    @classmethod
    def _from_parts(
        cls, x: Any, edge_index: Any, labels: Any, edge_weight: Any, directed: bool | None, name: str, memory_mb: float
    ) -> Graph:
        graph = cls.from_arrays(
            x, edge_index, labels, directed=directed is not False, edge_weight=edge_weight, name=name,
            memory_mb=memory_mb,
        )  # fmt: skip
        if directed is None and graph.is_directed:
            raise ValueError(
                "Expected every edge to have its reverse, or a choice (got directed edges and directed=None). "
                "Pass directed=True to keep them as given, or directed=False to add the missing ones."
            )
        return graph

    @property
    def num_nodes(self) -> int:
        """Number of nodes."""
        return self.adjacency.shape[0]

    @property
    def num_edges(self) -> int:
        """Number of directed pairs; an undirected edge counts twice."""
        return self.adjacency.num_entries

    @property
    def num_features(self) -> int:
        """Length of a feature vector."""
        return int(self.x.shape[1])

    @property
    def num_classes(self) -> int:
        """One more than the largest label."""
        return int(self.labels.max()) + 1 if self.num_nodes else 0

    @property
    def dtype(self) -> torch.dtype:
        """Type of features and weights."""
        return self.x.dtype

    @property
    def device(self) -> torch.device:
        """Device on which fields are handed out."""
        return self.labels.device

    @property
    def edge_index(self) -> Tensor:
        """Source and target of each edge, sorted by target, int64, shape ``[2, num_edges]``."""
        targets = torch.repeat_interleave(torch.arange(self.num_nodes), self.adjacency.rowptr.diff().long())
        return torch.stack([self.adjacency.col.long(), targets])

    @property
    def edge_weight(self) -> Tensor | None:
        """Weight of each edge in the order of :attr:`edge_index`, or None for an unweighted graph."""
        return self.adjacency.values if self.is_weighted else None

    @property
    def degree(self) -> Tensor:
        """Number of in-edges of each node, self-loops left out, shape ``[num_nodes]``."""
        degree: Tensor = self._remember("degree", "raw", self._count_degree)
        return degree

    @property
    def digest(self) -> str:
        """SHA-256 of edges, weights, labels and features; the way they are stored makes no difference."""
        if self._digest is None:
            self._digest = self._content_digest()
        return self._digest

    def weights(self, edges: EdgeKind) -> SparseMatrix:
        """In-edges of every node as a matrix: as given, or with self-loops and full-graph weights.

        Args:
            edges: ``"raw"``: as given. ``"row"``: each row of ``A + I`` divided by its sum. ``"sym"``: ``A + I``
                divided by the square roots of both ends' sums (Kipf and Welling, 2017, Eq. 2).

        Raises:
            ValueError: If ``edges`` is none of these.
        """
        check_choice(get_args(EdgeKind), edges=edges)
        if edges == "raw":
            return self.adjacency
        weights: SparseMatrix = self._remember("weights", edges, lambda: normalised(self.adjacency, edges))
        return weights

    def ring(self, distance: int) -> SparseMatrix:
        """The nodes exactly so many in-edges away from each node, without self-loops, weighted and computed once.

        Args:
            distance: 1 or 2 hops.

        Returns:
            ``1 / sqrt(d_i d_j)`` where ``j`` lies at that distance from ``i``, shape ``[num_nodes, num_nodes]``.
            ``d_i`` counts the entries of row ``i`` and ``d_j`` those of column ``j``: the same on an undirected graph.
            Parallel edges count once, and edge weights do not count.

        Raises:
            ValueError: If ``distance`` is neither, or the pairs at most two hops apart would exceed ``memory_mb``.

        Source:
            Zhu et al., Beyond Homophily in Graph Neural Networks, 2020, section 3.2.
        """
        if distance not in (1, 2):
            raise ValueError(f"Expected 'distance' to be 1 or 2 (got distance={distance})")
        ring: SparseMatrix = self._remember("ring", str(distance), lambda: self._make_ring(distance))
        return ring

    def both_directions(self) -> SparseMatrix:
        """The edges followed either way, as a pattern: the adjacency itself where every edge has its reverse."""
        if not self.is_directed:
            return self.adjacency

        def combine() -> SparseMatrix:
            matrix = self.adjacency.scipy().copy()  # adding merges parallel edges in place
            matrix.data[:] = 1.0  # and drops entries that are zero
            return SparseMatrix.from_scipy(matrix + matrix.T)

        both: SparseMatrix = self._remember("both", "raw", combine)
        return both

    def field(
        self,
        nodes: NodeIds,
        num_hops: int,
        *,
        edges: EdgeKind = "raw",
        boundary: Boundary = "narrow",
        kept: bool = False,
    ) -> Field:
        """Collect what an encoder must read to embed some nodes.

        Args:
            nodes: Target nodes, without repetition, in the order in which their rows shall come.
            num_hops: How far the encoder reads; 0 gives the peer's view: rows that see only themselves.
            edges: What the weights mean, see :meth:`weights`.
            boundary: ``"narrow"`` holds the in-edges of nodes nearer than ``num_hops``, exact for weights of the full
                graph and for layers that look at a node's own in-edges only. ``"closed"`` adds one hop and all edges
                among the nodes, exact also for layers that count degrees themselves.
            kept: The encoder begins with ``A @ (X @ W)`` and can use kept rows of ``A @ X`` in place of the last hop.

        Raises:
            ValueError: If a node is no whole number, out of range or named twice, ``num_hops`` is negative, or
                ``edges`` or ``boundary`` is unknown.

        Example:
            >>> graph = Graph.from_arrays(np.eye(4), [[0, 1, 2], [1, 2, 3]], [0, 0, 1, 1], directed=False)
            >>> graph.field([0], num_hops=2).node_ids
            tensor([0, 1, 2])
        """
        targets = self._checked_nodes(nodes)
        check_non_negative(num_hops=num_hops)
        check_choice(get_args(Boundary), boundary=boundary)
        if num_hops == 0:
            return fields.peer_field(self, targets, edges)
        if boundary == "closed":
            return fields.closed_field(self, targets, num_hops, edges)
        return fields.narrow_field(self, targets, num_hops, edges, folded=kept and self.keeps_product(edges))

    def keeps_product(self, edges: EdgeKind) -> bool:
        """Whether the product of :meth:`weights` and features is cheap enough to be kept."""
        return bool(self._remember("keeps", edges, lambda: self._is_product_worthwhile(edges)))

    def product(self, edges: EdgeKind) -> Tensor | SparseMatrix:
        """The features averaged over in-edges once, ``weights(edges) @ x``, computed once."""
        product: Tensor | SparseMatrix = self._remember("product", edges, lambda: self._multiply(edges))
        return product

    def without(self, nodes: NodeIds) -> Graph:
        """The graph as it looks before some nodes are there; the other nodes keep their numbers.

        Args:
            nodes: Nodes to hide: their edges are dropped, their features are zero, their labels -1. A directed graph
                counts as directed whatever is left of it.

        Raises:
            ValueError: If a node is no whole number or out of range.

        Example:
            >>> graph = Graph.from_arrays(np.eye(3), [[0, 1], [1, 2]], [0, 0, 1], directed=False)
            >>> hidden = graph.without([2])
            >>> hidden.num_nodes, hidden.num_edges, hidden.labels.tolist()
            (3, 2, [0, 0, -1])
        """
        hidden = np.zeros(self.num_nodes, dtype=bool)
        hidden[self._checked_nodes(nodes)] = True
        source, target = self.edge_index.numpy()
        kept = ~(hidden[source] | hidden[target])
        weight = self.adjacency.values.numpy()[kept] if self.is_weighted else None
        adjacency, _ = in_edges(source[kept], target[kept], weight, self.num_nodes)
        features = self.x.scipy() if isinstance(self.x, SparseMatrix) else scipy.sparse.csr_array(self.x.numpy())
        features = scipy.sparse.diags_array((~hidden).astype(features.dtype)) @ features
        features.eliminate_zeros()
        return self.replaced(
            # Stored as if the hidden rows had never been seen, so that nothing depends on them.
            x=stored(features, self.memory_mb),
            labels=self.labels.masked_fill(torch.from_numpy(hidden).to(self.device), -1),
            adjacency=adjacency.to(dtype=self.dtype),
            edge_order=None if self.edge_order is None else self.edge_order[kept],
        )

    def replaced(self, *, digest: str | None = None, **changes: Any) -> Graph:
        """A new graph with some arguments of the constructor changed and the others as they are here; unchecked.

        Args:
            digest: SHA-256 of what the new parts are made of, where their last bits depend on the machine; that of the
                content when not given.
            **changes: Arguments of the constructor.
        """
        parts = ("x", "labels", "adjacency", "is_weighted", "is_directed", "edge_order", "name", "memory_mb")
        graph = Graph(**{**{part: getattr(self, part) for part in parts}, **changes})
        graph._digest = digest
        return graph

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Graph:
        """The same graph with features and weights of another type, or handing out fields on another device.

        Returns itself, with all that it has derived so far, where nothing changes.
        """
        if dtype in (None, self.dtype) and device in (None, self.device, str(self.device)):
            return self
        graph = self.replaced(
            x=self.x.to(dtype=dtype) if isinstance(self.x, SparseMatrix) else self.x.to(dtype=dtype, device="cpu"),
            labels=self.labels.to(device=device),
            adjacency=self.adjacency.to(dtype=dtype),
        )
        graph._digest = self._digest
        return graph

    def __repr__(self) -> str:
        return (
            f"Graph('{self.name}', nodes={self.num_nodes}, edges={self.num_edges}, features={self.num_features}, "
            f"classes={self.num_classes})"
        )

    def _remember(self, what: str, edges: str, compute: Any) -> Any:
        if (what, edges) not in self._derived:
            self._derived[what, edges] = compute()
        return self._derived[what, edges]

    def _checked_nodes(self, nodes: NodeIds) -> np.ndarray:
        ids = nodes.cpu().numpy() if isinstance(nodes, Tensor) else np.asarray(nodes)
        if ids.size and ids.dtype.kind not in "iu":
            raise ValueError(
                f"Expected 'nodes' to be whole numbers (got {ids.dtype}: {preview(ids)}). "
                "Turn a mask into numbers with torch.where(mask)[0]."
            )
        ids = ids.astype(np.int64, copy=False)
        if ids.ndim != 1 or (ids.size and not (ids.min() >= 0 and ids.max() < self.num_nodes)):
            raise ValueError(
                f"Expected 'nodes' to be a list of numbers in 0..{self.num_nodes - 1} (got {preview(ids)})"
            )
        return ids

    def _count_degree(self) -> Tensor:
        counts = self.adjacency.rowptr.diff().long()
        source, target = self.edge_index
        loops = torch.bincount(target[source == target], minlength=self.num_nodes)
        return (counts - loops).to(self.dtype)

    def _content_digest(self) -> str:
        features = self.x.scipy() if isinstance(self.x, SparseMatrix) else scipy.sparse.csr_array(self.x.numpy())
        sha = hashlib.sha256(np.asarray(features.shape, dtype="<i8").tobytes())
        parts = [(self.adjacency.rowptr, "<i4"), (self.adjacency.col, "<i4"), (self.labels.cpu(), "<i8")]
        parts += [(self.adjacency.values, "<f4")] if self.is_weighted else []
        parts += [(features.indptr, "<i4"), (features.indices, "<i4"), (features.data, "<f4")]
        for array, dtype in parts:
            sha.update(np.ascontiguousarray(np.asarray(array), dtype=dtype).tobytes())
        return sha.hexdigest()

    def _is_product_worthwhile(self, edges: EdgeKind) -> bool:
        """Compare the rows that a field would multiply either way, on 64 nodes, and the memory of the whole product."""
        budget = self.memory_mb * 2**20
        if not isinstance(self.x, SparseMatrix):
            return self.x.numel() * self.x.element_size() <= budget
        sample = np.random.default_rng(0).permutation(self.num_nodes)[:64]
        field = fields.narrow_field(self, sample, 2, edges, folded=False)
        one_hop = field.node_ids[: field.sizes[1]].cpu().numpy()
        adjacency, features = self.weights(edges).scipy(), self.x.scipy()
        entries_kept = (adjacency[one_hop] @ features).nnz
        entries_plain = features[field.node_ids.cpu().numpy()].nnz
        per_node = (adjacency[sample] @ features).nnz / len(sample)
        fits = per_node * self.num_nodes * (4 + self.x.values.element_size()) <= budget
        return bool(fits and entries_kept < KEEP_BELOW * entries_plain)

    def _make_ring(self, distance: int) -> SparseMatrix:
        if distance == 2:
            num_pairs = two_hop_pairs(self.adjacency)
            size_mb = num_pairs * (4 + self.adjacency.values.element_size()) / 2**20
            if size_mb > self.memory_mb or num_pairs >= 2**31:
                raise ValueError(
                    f"Expected the two-hop neighbourhoods of graph '{self.name}' to fit in memory_mb={self.memory_mb} "
                    f"(got about {num_pairs:,} pairs of nodes, {size_mb:,.0f} MiB). Raise graph.memory_mb, or take an "
                    "encoder that needs none: any but h2gcn."
                )
        return ring_weights(self.adjacency, distance)

    def _multiply(self, edges: EdgeKind) -> Tensor | SparseMatrix:
        adjacency = self.weights(edges)
        if isinstance(self.x, SparseMatrix):
            return SparseMatrix.from_scipy(adjacency.scipy() @ self.x.scipy())
        return adjacency.product(self.x)
