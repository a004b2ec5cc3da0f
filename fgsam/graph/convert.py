"""Graphs of other libraries as plain arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor


def arrays_of_pyg(data: Any, node_type: str | None = None, edge_type: str | None = None) -> tuple[Any, Any, Any, Any]:
    """Features (or None), edges, labels and edge weights (or None) of a PyTorch Geometric graph.

    Args:
        data: A ``Data`` or a ``HeteroData`` object.
        node_type: Which nodes of a ``HeteroData``.
        edge_type: The middle name of the edges among them; by default all together.

    Raises:
        TypeError: If it is heterogeneous and ``node_type`` is missing, or no ``Data`` object.
        ValueError: If ``edge_index`` or ``y`` is missing, or a type is unknown.
    """
    if hasattr(data, "node_types") and hasattr(data, "edge_types"):
        nodes, stores = _one_kind(data, node_type, edge_type)
    elif not hasattr(data, "edge_index"):
        raise TypeError(f"Expected 'data' to be a torch_geometric.data.Data object (got {type(data).__name__})")
    elif node_type is not None or edge_type is not None:
        raise ValueError(
            "Expected no 'node_type' and 'edge_type' for a homogeneous Data object "
            f"(got {node_type!r} and {edge_type!r}). Leave them out."
        )
    else:
        nodes, stores = data, [data]
    edges = [getattr(store, "edge_index", None) for store in stores]
    for part, values in (("edge_index", edges), ("y", [getattr(nodes, "y", None)])):
        if any(value is None for value in values):
            raise ValueError(f"Expected 'data' to hold '{part}' (got None). Set data.{part} first.")
    weights = [weight for store in stores if (weight := getattr(store, "edge_weight", None)) is not None]
    if len(weights) not in (0, len(stores)):
        raise ValueError(
            f"Expected an edge_weight for all of the {len(stores)} edge types or for none (got {len(weights)}). "
            "Choose one of them with edge_type=..."
        )
    return _plain(getattr(nodes, "x", None)), _joined(edges, 1), nodes.y, _joined(weights, 0) if weights else None


def arrays_of_networkx(graph: Any, feature: str | None, label: str, weight: str | None) -> tuple[Any, Any, Any, Any]:
    """Features (or None), edges, labels and edge weights (or None) of a networkx graph.

    Nodes come in the order of ``graph.nodes``. Edges of an undirected graph come in both directions, first all as
    networkx lists them, then their reverses.

    Raises:
        ValueError: If a node lacks its features, or feature vectors differ in length.
    """
    number = {node: index for index, node in enumerate(graph.nodes)}
    labels = np.array([attributes.get(label, -1) for _, attributes in graph.nodes(data=True)])
    edges = [(number[u], number[v], d) for u, v, d in graph.edges(data=True)]
    if not graph.is_directed():  # networkx lists each edge once
        edges += [(v, u, d) for u, v, d in edges if u != v]
    edge_index = np.array([(u, v) for u, v, _ in edges], dtype=np.int64).reshape(-1, 2).T
    weights = None if weight is None else np.array([d.get(weight, 1.0) for _, _, d in edges], dtype=np.float32)
    return None if feature is None else _attribute(graph, feature), edge_index, labels, weights


def _attribute(graph: Any, feature: str) -> np.ndarray:
    rows = [attributes.get(feature) for _, attributes in graph.nodes(data=True)]
    missing = [node for node, row in zip(graph.nodes, rows, strict=True) if row is None]
    if missing:
        raise ValueError(
            f"Expected every node to have the attribute '{feature}' ({len(missing)} lack it, first: {missing[0]!r}). "
            "Name the attribute that holds the features with feature=..., or pass feature=None for a graph without."
        )
    rows = [np.atleast_1d(np.asarray(row, dtype=np.float32)) for row in rows]
    lengths = sorted({len(row) for row in rows})
    if len(lengths) > 1:
        raise ValueError(f"Expected feature vectors of one length (got lengths {lengths})")
    return np.stack(rows) if rows else np.zeros((0, 0), np.float32)


def _one_kind(data: Any, node_type: str | None, edge_type: str | None) -> tuple[Any, list[Any]]:
    """The store of one kind of nodes, and those of the edges among them."""
    kinds = ", ".join(map(str, data.node_types))
    if node_type is None:
        raise TypeError(
            f"Expected 'data' to be a homogeneous torch_geometric.data.Data (got HeteroData with node types {kinds}). "
            "Choose the nodes that have the classes with node_type=..., or merge all kinds with data.to_homogeneous()."
        )
    if node_type not in data.node_types:
        raise ValueError(f"Expected 'node_type' to be one of {kinds} (got '{node_type}').")
    among = [kind for kind in data.edge_types if kind[0] == kind[2] == node_type]
    chosen = [kind for kind in among if edge_type in (None, kind[1])]
    if not chosen:
        listed = ", ".join(" ".join(kind) for kind in data.edge_types)
        raise ValueError(
            f"Expected edges{'' if edge_type is None else f' of type {edge_type!r}'} from '{node_type}' to "
            f"'{node_type}' (got edge types: {listed}). Take another node_type or edge_type, or build such edges first."
        )
    return data[node_type], [data[kind] for kind in chosen]


def _joined(parts: list[Any], dim: int) -> Any:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)


def _plain(x: Any) -> Any:
    """Sparse tensors as scipy compressed rows: filled with zeros they may not fit into memory."""
    if not isinstance(x, Tensor) or x.layout == torch.strided:
        return x
    entries = x.detach().cpu().to_sparse_coo().coalesce()  # type: ignore[no-untyped-call]
    return scipy.sparse.csr_array((entries.values().numpy(), entries.indices().numpy()), shape=tuple(entries.shape))
