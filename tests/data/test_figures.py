import numpy as np

from fgsam.data.figures import figures, warnings
from fgsam.graph.graph import Graph

EDGES = [[0, 1, 2, 3, 4, 4], [1, 2, 0, 3, 0, 1]]


def test_figures_of_a_graph_counted_by_hand():
    x = np.ones((7, 2))
    x[5] = 0
    graph = Graph.from_arrays(x, EDGES, [0, 0, 1, 1, -1, 3, 3], directed=True)
    assert figures(graph) == {
        "num_nodes": 7,
        "num_edges": 6,
        "num_features": 2,
        "num_classes": 4,
        "unlabelled_nodes": 1,
        "class_sizes": {"min": 0, "median": 2, "max": 2},
        "class_counts": [2, 2, 0, 2],
        "degree": {"min": 0, "median": 0, "mean": 0.71, "max": 2},
        "edge_homophily": 0.333,  # of 0-1, 1-2 and 2-0; the loop and the edges of node 4 are left out
        "self_loops": 1,
        "isolated_nodes": 3,  # 3 has a loop only, 4 has edges that leave it
        "empty_rows": 1,
    }


def test_the_way_of_storing_features_makes_no_difference():
    rng = np.random.default_rng(0)
    x = (rng.random((40, 8)) < 0.3) * rng.random((40, 8))
    dense, sparse = (Graph.from_arrays(x, EDGES, rng.integers(0, 1, 40), directed=True, memory_mb=m) for m in (9, 1e-9))
    assert type(dense.x) is not type(sparse.x)
    assert figures(dense) == figures(sparse)


def test_a_graph_without_labels_and_edges_has_figures():
    found = figures(Graph.from_arrays(np.eye(3), np.zeros((2, 0), dtype=int), [-1, -1, -1], directed=True))
    assert (found["class_sizes"], found["edge_homophily"], found["isolated_nodes"]) == (None, None, 3)


def test_long_lists_of_small_classes_are_cut():
    graph = Graph.from_arrays(np.eye(30), np.zeros((2, 0), dtype=int), np.arange(30), directed=True)
    assert any("18, 19 and 10 more" in text for text in warnings(figures(graph), n_way=2, size=2))
