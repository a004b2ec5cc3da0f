"""Graphs with wrong edges, as many as one asks for."""

from __future__ import annotations

import numpy as np

from fgsam.checks import check_fraction
from fgsam.graph.arrays import in_edges
from fgsam.graph.graph import Graph


def with_edge_noise(graph: Graph, share: float, rng: np.random.Generator) -> Graph:
    """Replace a share of the edges by as many random ones.

    Pairs of different nodes are removed at random, and the same number of pairs that the graph does not have is added.
    In an undirected graph both directions of a pair go and come together. Self-loops stay. A new edge takes the weight
    of a removed one. A larger share drawn by the same generator removes the same edges and more.

    Args:
        graph: The clean graph; it stays as it is.
        share: Share of the pairs to replace, between 0 and 1.
        rng: Where the choice comes from.

    Returns:
        A graph with the same nodes, features and labels.

    Raises:
        ValueError: If the share is out of range, stands for no edge, or the graph has no room for that many others.

    Example:
        >>> graph = Graph.from_arrays(np.eye(6), [[0, 1, 2, 3], [1, 2, 3, 4]], [0] * 6, directed=False)
        >>> with_edge_noise(graph, 0.5, np.random.default_rng(0)).num_edges
        8
    """
    check_fraction(edge_noise=share)
    if share == 0:
        return graph
    num_nodes = graph.num_nodes
    source, target = graph.edge_index.numpy()
    names = _pair_names(source, target, num_nodes, graph.is_directed)
    pairs, first = np.unique(names[source != target], return_index=True)
    number = round(share * len(pairs))
    possible = num_nodes * (num_nodes - 1) // (1 if graph.is_directed else 2)
    if number == 0 or number > possible - len(pairs):
        raise ValueError(
            f"Expected 'edge_noise' to replace at least 1 edge, and at most as many as there is room for (got "
            f"edge_noise={share}, {number} of {len(pairs)} edges, room for {possible - len(pairs)}). Choose another "
            "share."
        )
    removed = np.argsort(rng.random(len(pairs)), kind="stable")[:number]
    added = _other_pairs(pairs, number, num_nodes, graph.is_directed, rng)
    kept = ~np.isin(names, pairs[removed])
    weights = graph.adjacency.values.numpy()
    new_weights = weights[source != target][first][removed]
    ends = [(added // num_nodes, added % num_nodes)]
    ends += [] if graph.is_directed else [(added % num_nodes, added // num_nodes)]
    adjacency, _ = in_edges(
        np.concatenate([source[kept], *(start for start, _ in ends)]),
        np.concatenate([target[kept], *(end for _, end in ends)]),
        np.concatenate([weights[kept], *(new_weights for _ in ends)]) if graph.is_weighted else None,
        num_nodes,
    )
    return graph.replaced(adjacency=adjacency.to(dtype=graph.dtype), edge_order=None)


def _pair_names(source: np.ndarray, target: np.ndarray, num_nodes: int, is_directed: bool) -> np.ndarray:
    """One number for each pair of nodes, whatever its direction in an undirected graph."""
    if not is_directed:
        source, target = np.minimum(source, target), np.maximum(source, target)
    names: np.ndarray = source.astype(np.int64) * num_nodes + target
    return names


def _other_pairs(
    pairs: np.ndarray, number: int, num_nodes: int, is_directed: bool, rng: np.random.Generator
) -> np.ndarray:
    """Draw pairs of different nodes that are not among the given ones."""
    found = np.empty(0, dtype=np.int64)
    while len(found) < number:
        # Twice what is missing, because some are rejected; in the order drawn, so that none is favoured.
        drawn = (rng.random((2, 2 * (number - len(found)) + 10)) * num_nodes).astype(np.int64)
        drawn = drawn[:, drawn[0] != drawn[1]]
        names = np.concatenate([found, _pair_names(drawn[0], drawn[1], num_nodes, is_directed)])
        names = names[~np.isin(names, pairs)]
        found = names[np.sort(np.unique(names, return_index=True)[1])]
    return found[:number]
