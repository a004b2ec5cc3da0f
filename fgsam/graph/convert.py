"""Graphs of other libraries as plain arrays."""

from __future__ import annotations

from typing import Any

import numpy as np


def arrays_of_pyg(data: Any) -> tuple[Any, Any, Any, Any]:
    """Features, edges, labels and edge weights (or None) of a PyTorch Geometric ``Data`` object.

    Raises:
        TypeError: If it is heterogeneous or no ``Data`` object.
        ValueError: If ``x``, ``edge_index`` or ``y`` is missing.
    """
    if hasattr(data, "node_types") and hasattr(data, "edge_types"):
        raise TypeError(
            "Expected 'data' to be a homogeneous torch_geometric.data.Data (got HeteroData with node types "
            f"{', '.join(map(str, data.node_types))}). Convert it with data.to_homogeneous() and set x and y first."
        )
    if not hasattr(data, "edge_index"):
        raise TypeError(f"Expected 'data' to be a torch_geometric.data.Data object (got {type(data).__name__})")
    for part in ("x", "edge_index", "y"):
        if getattr(data, part, None) is None:
            raise ValueError(f"Expected 'data' to hold '{part}' (got None). Set data.{part} first.")
    return data.x, data.edge_index, data.y, getattr(data, "edge_weight", None)


def arrays_of_networkx(graph: Any, feature: str, label: str, weight: str | None) -> tuple[Any, Any, Any, Any]:
    """Features, edges, labels and edge weights (or None) of a networkx graph, nodes in the order of ``graph.nodes``.

    Edges of an undirected graph come in both directions, first all as networkx lists them, then their reverses.

    Raises:
        ValueError: If a node lacks its features, or feature vectors differ in length.
    """
    number = {node: index for index, node in enumerate(graph.nodes)}
    rows = [attributes.get(feature) for _, attributes in graph.nodes(data=True)]
    missing = [node for node, row in zip(graph.nodes, rows, strict=True) if row is None]
    if missing:
        raise ValueError(
            f"Expected every node to have the attribute '{feature}' ({len(missing)} lack it, first: {missing[0]!r}). "
            "Name the attribute that holds the features with feature=..."
        )
    rows = [np.atleast_1d(np.asarray(row, dtype=np.float32)) for row in rows]
    lengths = sorted({len(row) for row in rows})
    if len(lengths) > 1:
        raise ValueError(f"Expected feature vectors of one length (got lengths {lengths})")
    labels = np.array([attributes.get(label, -1) for _, attributes in graph.nodes(data=True)])
    edges = [(number[u], number[v], d) for u, v, d in graph.edges(data=True)]
    if not graph.is_directed():  # networkx lists each edge once
        edges += [(v, u, d) for u, v, d in edges if u != v]
    edge_index = np.array([(u, v) for u, v, _ in edges], dtype=np.int64).reshape(-1, 2).T
    weights = None if weight is None else np.array([d.get(weight, 1.0) for _, _, d in edges], dtype=np.float32)
    return np.stack(rows) if rows else np.zeros((0, 0), np.float32), edge_index, labels, weights
