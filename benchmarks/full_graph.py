"""The rivals of a field: encoders that pass over every node of the graph in every step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import GCNConv

from fgsam.graph.graph import Graph
from fgsam.graph.sparse import SparseMatrix
from fgsam.nn.encoders import Encoder

Losses = Callable[[], Iterator[Tensor]]
"""Gives the losses of one episode after the other."""


class FullGraph:
    """A graph whose fields only name their targets: the encoders here read all of it anyway."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def __getattr__(self, name: str) -> Any:
        return getattr(self.graph, name)

    def field(self, nodes: Tensor, num_hops: int, **_: Any) -> Targets:
        """The targets, marked as the peer's where nothing around them is to be read."""
        return Targets(self.graph, nodes, is_peer=num_hops == 0)


class Targets:
    """Which rows a full-graph encoder has to hand out."""

    def __init__(self, graph: Graph, nodes: Tensor, *, is_peer: bool) -> None:
        self.node_ids = nodes
        self.num_targets = len(nodes)
        self.is_peer = is_peer
        self._graph = graph

    @property
    def degree(self) -> Tensor:
        """Degrees of the targets."""
        return self._graph.degree[self.node_ids]

    def head(self, num_targets: int) -> Targets:
        """The first targets."""
        return Targets(self._graph, self.node_ids[:num_targets], is_peer=self.is_peer)

    def reread(self) -> Targets:
        """Nothing to prepare."""
        return self


class FullDense(Encoder):
    """The released way: dense features times weights, then a COO adjacency, for all nodes; two layers."""

    num_hops = 2

    def __init__(self, x: Tensor, adjacency: Tensor, hidden: int = 32, dim: int = 16, dropout: float = 0.5) -> None:
        super().__init__()
        self.graph = (x, adjacency)  # a tuple, so that neither becomes a parameter or buffer
        self.dim = dim
        self.layers = nn.ModuleList([nn.Linear(x.size(1), hidden), nn.Linear(hidden, dim)])
        self.dropout = nn.Dropout(dropout)

    def forward(self, field: Any) -> Tensor:
        """Rows of the targets, from a pass over all nodes; the peer reads the targets' rows alone."""
        x, adjacency = self.graph
        first, second = self.layers
        if field.is_peer:
            return second(self.dropout(torch.relu(first(x[field.node_ids]))))
        h = torch.sparse.mm(adjacency, x @ first.weight.t()) + first.bias
        h = torch.sparse.mm(adjacency, self.dropout(torch.relu(h)) @ second.weight.t()) + second.bias
        return h[field.node_ids]


class FullSparse(Encoder):
    """The best that a careful user writes today: CSR features in PyG's own layers, normalisation cached."""

    num_hops = 2

    def __init__(self, x: Tensor, edge_index: Tensor, rows: SparseMatrix, hidden: int = 32, dim: int = 16) -> None:
        super().__init__()
        self.graph = (x, edge_index, rows)
        self.dim = dim
        self.first = GCNConv(x.size(1), hidden, cached=True)
        self.second = GCNConv(hidden, dim, cached=True)
        self.dropout = nn.Dropout(0.5)

    def forward(self, field: Any) -> Tensor:
        """Rows of the targets, from a pass over all nodes; the peer reads the targets' rows alone."""
        x, edge_index, rows = self.graph
        if field.is_peer:
            h = self.first.lin(rows.rows(field.node_ids.numpy()).dense()) + self.first.bias
            return self.second.lin(self.dropout(torch.relu(h))) + self.second.bias
        h = self.second(self.dropout(torch.relu(self.first(x, edge_index))), edge_index)
        return h[field.node_ids]


class ReleasedFGSAM:
    """FGSAM at the cost of the released code: a second backward pass through the retained graph of the GNN pass.

    For timing only: weights move between the two backward passes, so its gradient is a mixture that the package does
    not offer. Written from the description of that code.
    """

    peer = "required"

    def __init__(self, model: nn.Module, *, rho: float = 0.05, lam: float = 0.5, **base_options: Any) -> None:
        self.params = list(model.parameters())
        self.rho, self.lam = rho, lam
        self.base = torch.optim.Adam(self.params, **base_options)

    def step(self, closure: Losses, peer_closure: Losses) -> Tensor:
        """Take one step on a single episode and return the loss of the GNN pass."""
        self.base.zero_grad()
        loss = next(closure()).mean()
        loss.backward(retain_graph=True)
        norm = torch.stack([p.grad.norm() for p in self.params if p.grad is not None]).norm()
        saved = [p.data for p in self.params]
        for p in self.params:
            p.data = p.data if p.grad is None else p.data + self.rho / norm * p.grad
        self.base.zero_grad()
        (self.lam * next(peer_closure()).mean() + (1 - self.lam) * loss).backward()
        for p, value in zip(self.params, saved, strict=True):
            p.data = value
        self.base.step()
        return loss.detach()


def dense_parts(graph: Graph) -> tuple[Tensor, Tensor]:
    """Dense features and the normalised adjacency as a COO tensor."""
    weights = graph.weights("sym")
    rows = torch.repeat_interleave(torch.arange(graph.num_nodes), weights.rowptr.diff().long())
    adjacency = torch.sparse_coo_tensor(torch.stack([rows, weights.col.long()]), weights.values, weights.shape)
    return graph.x.dense() if isinstance(graph.x, SparseMatrix) else graph.x, adjacency.coalesce()


def sparse_parts(graph: Graph) -> tuple[Tensor, Tensor, SparseMatrix]:
    """Features as a torch CSR tensor, edges, and the features as rows to take."""
    x = graph.x if isinstance(graph.x, SparseMatrix) else SparseMatrix.from_scipy(graph.x.numpy())
    csr = torch.sparse_csr_tensor(x.rowptr.long(), x.col.long(), x.values, x.shape)
    return csr, graph.edge_index, x
