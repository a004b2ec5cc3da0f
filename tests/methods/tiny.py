"""A graph small enough to check by hand, with an isolated node and nodes of degree one."""

from __future__ import annotations

import numpy as np
import torch

from fgsam.episodes.episode import Episode
from fgsam.graph.graph import Graph
from fgsam.nn.gcn import GCN

NUM_CLASSES = 4
CLASS_SIZE = 8
NUM_FEATURES = 12


def tiny_graph(order: np.ndarray | None = None, poison: list[int] | None = None) -> Graph:
    """Four classes of eight nodes each, rings within and a few edges between; node 0 is isolated, node 8 a leaf.

    Args:
        order: ``order[new]`` is the node that gets the number ``new``.
        poison: The only nodes that keep their features; all others get NaN after the checks.
    """
    rng = np.random.default_rng(7)
    num_nodes = NUM_CLASSES * CLASS_SIZE
    labels = np.arange(num_nodes) // CLASS_SIZE
    x = 0.5 * rng.standard_normal((num_nodes, NUM_FEATURES)) + np.eye(NUM_CLASSES).repeat(3, 1)[labels]
    edges = [(c * 8 + i, c * 8 + i + 1) for c in range(NUM_CLASSES) for i in range(1, 7)]
    edges += [(c * 8 + 1, c * 8 + 7) for c in range(NUM_CLASSES)] + [(3, 12), (13, 20), (22, 28), (8, 9), (16, 18)]
    edge_index = np.array(edges).T
    if order is not None:
        place = np.argsort(order)
        x, labels, edge_index = x[order], labels[order], place[edge_index]
    graph = Graph.from_arrays(x, edge_index, labels, directed=False).to(dtype=torch.float64)
    if poison is not None:
        others = np.setdiff1d(np.arange(num_nodes), poison)
        graph.x[others] = torch.nan
    return graph


def make_gcn() -> GCN:
    return GCN(NUM_FEATURES, hidden=8, dim=4, dropout=0.0).double()


def tiny_episode() -> Episode:
    """Three classes, three support nodes each (among them an isolated one and a leaf), four query nodes each."""
    starts = torch.tensor([0, 8, 16])
    return Episode(
        classes=torch.tensor([0, 1, 2]),
        support=(starts.unsqueeze(1) + torch.tensor([0, 2, 5])).flatten(),
        support_labels=torch.arange(3).repeat_interleave(3),
        query=(starts.unsqueeze(1) + torch.tensor([1, 3, 4, 7])).flatten(),
        query_labels=torch.arange(3).repeat_interleave(4),
    )
