"""How often the two ends of an edge are of one class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fgsam.graph.graph import Graph


@dataclass(frozen=True)
class Homophily:
    """Agreement of labels along edges.

    Attributes:
        edge: Share of the edges whose ends are of one class, in ``[0, 1]``; None without such edges.
        adjusted: The same, less what random edges between nodes of these degrees would give: 1 where all edges stay
            within a class, 0 where edges know nothing of classes, below 0 where they avoid the own one. None without
            edges, or where all of them lead to one class.
    """

    edge: float | None
    adjusted: float | None


def homophily(graph: Graph) -> Homophily:
    """Measure homophily over the edges between two different labelled nodes, each in both directions.

    Args:
        graph: Any graph; edge weights do not count.

    Example:
        >>> path = Graph.from_arrays(np.eye(4), [[0, 1, 2], [1, 2, 3]], [0, 0, 1, 1], directed=False)
        >>> homophily(path)
        Homophily(edge=0.6666666666666666, adjusted=0.33333333333333326)

    Source:
        Platonov et al., Characterizing Graph Datasets for Node Classification: Homophily-Heterophily Dichotomy and
        Beyond, 2023: h_edge and h_adj.
    """
    matrix = graph.both_directions()
    labels = graph.labels.cpu().numpy().astype(np.int32)
    counts = np.diff(matrix.rowptr.cpu().numpy())
    column = matrix.col.cpu().numpy()
    target, source = np.repeat(labels, counts), labels[column]
    is_counted = (target >= 0) & (source >= 0) & (column != np.repeat(np.arange(len(labels), dtype=np.int32), counts))
    target, source = target[is_counted], source[is_counted]
    if not len(target):
        return Homophily(None, None)
    edge = float(np.mean(target == source))
    by_chance = float(np.sum((np.bincount(target) / len(target)) ** 2))
    return Homophily(edge, (edge - by_chance) / (1 - by_chance) if by_chance < 1 else None)
