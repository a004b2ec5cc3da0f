"""Features for nodes that have none, made of the edges alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse

from fgsam.checks import check_choice
from fgsam.graph.arrays import stored
from fgsam.graph.graph import Graph

NUM_STEPS = 16
"""Length of the longest random walk."""

_BLOCK = 256
"""From how many nodes walks start at once."""


def with_features(graph: Graph, kind: str) -> Graph:
    """The same nodes, edges and labels with features made of the edges, in place of those that the graph had.

    Args:
        graph: Any graph.
        kind: ``"degree"``: a column of ones and the logarithm of one more than the number of in-edges; a directed
            graph has a third column with that of the out-edges; self-loops count. ``"one_hot"``: one column for each
            node. ``"random_walk"``: the probabilities that a walk along the edges, weights left out, is back after
            1, 2, ..., 16 steps.

    Raises:
        ValueError: If ``kind`` is none of these.

    Example:
        >>> graph = Graph.from_arrays(None, [[0, 1], [1, 2]], [0, 0, 1], directed=False)
        >>> with_features(graph, "degree").x
        tensor([[1.0000, 0.6931],
                [1.0000, 1.0986],
                [1.0000, 0.6931]])

    Source:
        Random walks: Dwivedi et al., Graph Neural Networks with Learnable Structural and Positional Representations,
        2022, Eq. 6.
    """
    check_choice(KINDS, features=kind)
    x = stored(KINDS[kind](graph), graph.memory_mb)
    return graph.replaced(x=x, adjacency=graph.adjacency.to(dtype=x.dtype))


def _degree(graph: Graph) -> np.ndarray:
    source, target = graph.edge_index.numpy()
    ends = [target, source] if graph.is_directed else [target]
    counts = [np.log1p(np.bincount(end, minlength=graph.num_nodes)) for end in ends]
    return np.stack([np.ones(graph.num_nodes), *counts], axis=1).astype(np.float32)


def _one_hot(graph: Graph) -> Any:
    return scipy.sparse.eye_array(graph.num_nodes, dtype=np.float32, format="csr")


def _random_walk(graph: Graph) -> np.ndarray:
    source, target = graph.edge_index.numpy()
    degree = np.bincount(source, minlength=graph.num_nodes)
    step = scipy.sparse.csr_array((1.0 / degree[source], (target, source)), shape=(graph.num_nodes,) * 2)
    returned = np.empty((graph.num_nodes, NUM_STEPS), dtype=np.float32)
    for start in range(0, graph.num_nodes, _BLOCK):
        nodes = np.arange(start, min(start + _BLOCK, graph.num_nodes))
        places = np.zeros((graph.num_nodes, len(nodes)))
        places[nodes, nodes - start] = 1.0
        for walked in range(NUM_STEPS):
            places = step @ places
            returned[nodes, walked] = places[nodes, nodes - start]
    return returned


KINDS: dict[str, Callable[[Graph], Any]] = {"degree": _degree, "one_hot": _one_hot, "random_walk": _random_walk}
"""How each kind is made."""
