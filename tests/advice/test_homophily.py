from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fgsam.advice.homophily import Homophily, homophily
from fgsam.data.load import load_graph
from fgsam.graph.graph import Graph


def graph_of(edges: list[list[int]], labels: list[int], *, directed: bool = False) -> Graph:
    return Graph.from_arrays(np.eye(len(labels)), np.asarray(edges).reshape(2, -1), labels, directed=directed)


def test_self_loops_and_unlabelled_nodes_do_not_count():
    plain = graph_of([[0, 1, 2], [1, 2, 3]], [0, 0, 1, 1])
    more = graph_of([[0, 1, 2, 0, 3, 3], [1, 2, 3, 0, 3, 4]], [0, 0, 1, 1, -1])
    assert homophily(more) == homophily(plain) == Homophily(pytest.approx(2 / 3), pytest.approx(1 / 3))


def test_an_edge_counts_in_both_directions_also_where_only_one_was_given():
    edges = [[0, 1, 2], [1, 2, 3]]
    assert homophily(graph_of(edges, [0, 0, 1, 1], directed=True)) == homophily(graph_of(edges, [0, 0, 1, 1]))


def test_what_cannot_be_told_is_none():
    assert homophily(graph_of([[], []], [0, 1])) == Homophily(None, None)
    assert homophily(graph_of([[0], [1]], [1, 1])) == Homophily(1.0, None)


def test_edges_that_know_nothing_of_classes_have_no_adjusted_homophily():
    rng = np.random.default_rng(0)
    labels = (rng.random(2000) < 0.2).astype(int).tolist()
    found = homophily(graph_of(rng.integers(0, 2000, (2, 20000)).tolist(), labels))
    assert found.edge == pytest.approx(0.68, abs=0.02)
    assert found.adjusted == pytest.approx(0.0, abs=0.03)


@pytest.mark.dataset
@pytest.mark.parametrize(
    ("name", "edge", "adjusted"),
    [
        ("cora", 0.81, 0.77),
        ("chameleon_filtered", 0.24, 0.03),
        ("squirrel_filtered", 0.21, 0.01),
        ("minesweeper", 0.68, 0.01),
        ("tolokers", 0.59, 0.09),
    ],
)
def test_published_values_are_met(name: str, edge: float, adjusted: float, data_root: Path):
    # Platonov et al., A Critical Look at the Evaluation of GNNs under Heterophily, 2023, rounded to two digits there.
    found = homophily(load_graph(name, data_root))
    assert found.adjusted is not None
    assert (round(found.edge or 0, 2), round(found.adjusted, 2)) == (edge, adjusted)


def test_weights_do_not_count():
    edges, labels = [[0, 1, 2], [1, 2, 3]], [0, 0, 1, 1]
    weighted = Graph.from_arrays(np.eye(4), edges, labels, directed=False, edge_weight=torch.tensor([3.0, 1.0, 2.0]))
    assert homophily(weighted) == homophily(graph_of(edges, labels))
