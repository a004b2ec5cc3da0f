"""Slow, obvious versions of what a graph derives from its edges, in float64 and without compressed rows."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fgsam.graph.graph import Graph


def random_graph(
    num_nodes: int = 40, num_edges: int = 90, num_features: int = 6, *, directed: bool = True, seed: int = 0
) -> Graph:
    """A graph with self-loops, parallel edges and isolated nodes, in float64."""
    rng = np.random.default_rng(seed)
    edges = rng.integers(0, num_nodes - 4, (2, num_edges))  # the last four nodes stay isolated
    edges = np.concatenate([edges, [[1, 2], [1, 2]], edges[:, :2]], axis=1)
    x = rng.standard_normal((num_nodes, num_features))
    return Graph.from_arrays(x, edges, rng.integers(0, 5, num_nodes), directed=directed)


def dense_adjacency(graph: Graph) -> Tensor:
    """Entry ``[i, j]`` adds up the weights of all edges from j to i."""
    matrix = torch.zeros(graph.num_nodes, graph.num_nodes, dtype=torch.float64)
    weights = torch.ones(graph.num_edges) if graph.edge_weight is None else graph.edge_weight
    for (source, target), weight in zip(graph.edge_index.t().tolist(), weights.tolist(), strict=True):
        matrix[target, source] += weight
    return matrix


def dense_normalised(graph: Graph, edges: str) -> Tensor:
    """``D^-1 (A + I)`` or ``D^-1/2 (A + I) D^-1/2``, self-loops set to 1."""
    matrix = dense_adjacency(graph)
    matrix.fill_diagonal_(1.0)
    sums = matrix.sum(1)
    if edges == "row":
        return matrix / sums[:, None]
    return matrix / sums.sqrt()[:, None] / sums.sqrt()[None, :]


def dense_ring(graph: Graph, distance: int) -> Tensor:
    """One over the root of both ends' counts where a node lies at just that distance from another."""
    matrix = torch.zeros(graph.num_nodes, graph.num_nodes, dtype=torch.float64)
    for node in range(graph.num_nodes):
        nearer, found = (nodes_within(graph, [node], hops) for hops in (distance - 1, distance))
        matrix[node, sorted(found - nearer)] = 1.0
    scale = (matrix.sum(1)[:, None] * matrix.sum(0)[None, :]).sqrt()
    return torch.where(matrix > 0, matrix / scale, 0.0)


def nodes_within(graph: Graph, targets: list[int], num_hops: int) -> set[int]:
    """Nodes from which a target can be reached along at most ``num_hops`` edges."""
    found = set(targets)
    for _ in range(num_hops):
        found |= {source for source, target in graph.edge_index.t().tolist() if target in found}
    return found
