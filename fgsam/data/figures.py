"""What can be counted in a graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fgsam.graph.graph import Graph
from fgsam.graph.sparse import SparseMatrix


def figures(graph: Graph) -> dict[str, Any]:
    """Count what the card of a graph says, under the names of ``Card``.

    Example:
        >>> graph = Graph.from_arrays(torch.eye(4), [[0, 1], [1, 2]], [0, 0, 1, -1], directed=False)
        >>> found = figures(graph)
        >>> found["class_counts"], found["isolated_nodes"], found["edge_homophily"]
        ([2, 1], 1, 0.5)
    """
    labels = graph.labels
    counts = labels[labels >= 0].bincount(minlength=graph.num_classes)
    source, target = graph.edge_index
    other = source != target
    known = other & (labels[source] >= 0) & (labels[target] >= 0)
    same = (labels[source] == labels[target])[known].double().mean().item() if known.any() else None
    ends = torch.cat([source[other], target[other]])
    return {
        "num_nodes": graph.num_nodes,
        "num_edges": graph.num_edges,
        "num_features": graph.num_features,
        "num_classes": graph.num_classes,
        "unlabelled_nodes": int((labels < 0).sum()),
        "class_sizes": _summary(counts, "min", "median", "max"),
        "class_counts": counts.tolist(),
        "degree": _summary(graph.degree, "min", "median", "mean", "max"),
        "edge_homophily": None if same is None else round(same, 3),
        "self_loops": int((~other).sum()),
        "isolated_nodes": int((ends.bincount(minlength=graph.num_nodes) == 0).sum()),
        "empty_rows": int((_row_sizes(graph) == 0).sum()),
    }


def warnings(found: dict[str, Any], *, n_way: int, size: int) -> list[str]:
    """Say what a user has to mind who draws episodes from a graph, a sentence each.

    Args:
        found: What :func:`figures` counted.
        n_way: Classes of an episode.
        size: Nodes that an episode takes from each class.
    """
    small = [str(label) for label, count in enumerate(found["class_counts"]) if count < size]
    large = found["num_classes"] - len(small)
    shown = ", ".join(small[:20]) + (f" and {len(small) - 20} more" if len(small) > 20 else "")
    texts = {
        f"{found['unlabelled_nodes']:,} nodes have no label and are never drawn.": found["unlabelled_nodes"],
        f"{found['isolated_nodes']:,} nodes have no edge.": found["isolated_nodes"],
        f"{found['empty_rows']:,} nodes have no feature that is not zero.": found["empty_rows"],
        f"{found['self_loops']:,} edges lead from a node to itself.": found["self_loops"],
        f"Classes with fewer than {size} labelled nodes (k_shot + num_query) are never drawn: {shown}.": small,
        f"{large} classes are large enough; a class split for {n_way}-way episodes takes {2 * n_way}, and {3 * n_way} "
        "with validation classes. Lower episode.n_way, k_shot or num_query.": large < 3 * n_way,
    }
    return [text for text, applies in texts.items() if applies]


def _summary(values: Tensor, *parts: str) -> dict[str, float] | None:
    """Chosen figures of some numbers, whole ones without a point; None where there are no numbers."""
    if not len(values):
        return None
    values = values.double()
    ordered = values.sort().values
    middle = (ordered[(len(values) - 1) // 2] + ordered[len(values) // 2]) / 2
    found = {
        "min": ordered[0].item(),
        "median": middle.item(),
        "mean": round(values.mean().item(), 2),
        "max": ordered[-1].item(),
    }
    return {part: int(found[part]) if found[part] == int(found[part]) else found[part] for part in parts}


def _row_sizes(graph: Graph) -> Tensor:
    return graph.x.rowptr.diff() if isinstance(graph.x, SparseMatrix) else (graph.x != 0).sum(dim=1)
