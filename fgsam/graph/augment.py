"""Fields of a graph that has lost some of its edges or features, at random."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fgsam.checks import check_fraction
from fgsam.graph.field import Field
from fgsam.graph.graph import Graph
from fgsam.graph.scaled import scaled
from fgsam.graph.sparse import SparseMatrix
from fgsam.typing import EdgeKind


def random_views(field: Field, *, feature_drop: float, edge_drop: float) -> tuple[Field, Field]:
    """Look at a field twice, each time as if a share of the feature columns and of the graph's edges were lost.

    What is lost comes from torch's global generator of the CPU: the columns of both views, the same for all nodes, then
    the edges of the whole graph, each direction by itself. The peer's views lose the same columns as those of the
    field with edges.

    Args:
        field: Any field; one with kept rows of ``A @ X`` only with ``edge_drop=0``.
        feature_drop: Chance of a column to be lost, in ``[0, 1]``.
        edge_drop: Chance of an edge to be lost, in ``[0, 1]``.

    Raises:
        ValueError: If a share is out of range, or edges are lost of a field that was made for kept rows.

    Source:
        Zhu et al., Deep Graph Contrastive Representation Learning, 2020: removing edges and masking features.
    """
    check_fraction(feature_drop=feature_drop, edge_drop=edge_drop)
    graph = field._graph
    columns = [torch.rand(graph.num_features) >= feature_drop for _ in range(2)]
    views = [field, field]
    if edge_drop and not field.is_peer:
        num_entries = graph.weights(field.edges).num_entries
        views = [without_edges(field, torch.rand(num_entries) < edge_drop) for _ in range(2)]
    factors = (kept.to(device=graph.device, dtype=graph.dtype) for kept in columns)
    first, second = map(scaled, views, factors)
    return first, second


def without_edges(field: Field, lost: Tensor) -> Field:
    """The field as it is in the graph without some edges, its weights those of that graph.

    Nothing is approximated: row sums are those of the whole graph after the loss, also at the rim of the field. Nodes
    that are no longer reached stay in the field and are read by nobody. Self-loops are never lost, so that a row keeps
    itself. What does not come from the field's edges stays whole: degrees, and the rings of h2gcn.

    Args:
        field: Any field but one made for kept rows of ``A @ X``, which hold all edges.
        lost: Which entries of ``graph.weights(field.edges)``, booleans on the CPU, shape ``[num_entries]``; where rows
            are scaled, their weights must be positive. The peer's view has no edges to lose.

    Returns:
        A field of the same nodes that shares the feature rows; the field itself in the peer's view.

    Raises:
        ValueError: If the field was made for kept rows.
    """
    if field.is_peer:
        return field
    if field._is_folded or field._edge_places is None:
        raise ValueError(
            "Expected a field that holds every edge it needs (got one made for kept rows of A @ X). "
            "Build it with kept=False."
        )
    graph, places = field._graph, field._edge_places
    is_left = ~lost.numpy() | _self_loops(graph, field.edges)
    inside = is_left[places]
    rowptr, col, values = field.adjacency._arrays
    rows = np.repeat(np.arange(field.num_nodes), np.diff(rowptr))[inside]
    col, values = col[inside], values[inside]
    if field.edges != "raw":
        share = _share_left(graph, is_left)[field._ids]
        values = values / (share[rows] if field.edges == "row" else np.sqrt(share[rows] * share[col]))
    starts = np.concatenate([[0], np.bincount(rows, minlength=field.num_nodes).cumsum()])
    adjacency = SparseMatrix._from_arrays(starts, col, values, field.adjacency.shape).to(device=graph.device)
    view = Field(
        graph,
        field._ids,
        adjacency,
        sizes=field.sizes,
        num_hops=field.num_hops,
        edges=field.edges,
        boundary=field.boundary,
        edge_places=places[inside],
    )
    view.__dict__["x"] = field.x  # sliced once for all views
    return view


def _share_left(graph: Graph, is_left: np.ndarray) -> np.ndarray:
    """The share of each row of ``A + I`` that is left, shape ``[num_nodes]``."""
    weights = graph.weights("row")  # entry by entry beside those of "sym"
    shares: np.ndarray = np.add.reduceat(weights.values.numpy() * is_left, weights.rowptr.numpy()[:-1])
    return shares


def _self_loops(graph: Graph, edges: EdgeKind) -> np.ndarray:
    """Mark the entries of a node with itself, shape ``[num_entries]``."""

    def find() -> np.ndarray:
        rowptr, col, _ = graph.weights(edges)._arrays
        loops: np.ndarray = np.repeat(np.arange(graph.num_nodes), np.diff(rowptr)) == col
        return loops

    loops: np.ndarray = graph._remember("loops", edges, find)
    return loops
