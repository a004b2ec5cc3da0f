from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.transforms import AddRandomWalkPE

from fgsam.data.features import NUM_STEPS, with_features
from fgsam.data.load import load_graph
from fgsam.graph.graph import Graph
from fgsam.graph.sparse import SparseMatrix
from tests.data.own_graphs import graph_of
from tests.helpers import assert_close


@pytest.mark.parametrize("directed", [True, False])
@pytest.mark.parametrize("num_nodes", [30, 600])
def test_random_walk_features_equal_those_of_pyg(directed: bool, num_nodes: int):
    graph = graph_of(directed=directed, features=None, num_nodes=num_nodes, num_edges=2 * num_nodes)
    edge_index = graph.edge_index.unique(dim=1)  # of parallel edges PyTorch Geometric takes one
    data = AddRandomWalkPE(NUM_STEPS, attr_name="x")(Data(edge_index=edge_index, num_nodes=num_nodes))
    single = Graph.from_arrays(None, edge_index, graph.labels, directed=True)
    assert_close(with_features(single, "random_walk").x, data.x, rtol=1e-6)


def test_degree_features_count_in_and_out_edges():
    edges = [[0, 1, 2, 2], [2, 2, 0, 2]]
    graph = Graph.from_arrays(None, edges, [0, 0, 0], directed=True)
    counts = torch.tensor([[1.0, 1.0], [0.0, 1.0], [3.0, 2.0]])
    assert_close(with_features(graph, "degree").x, torch.cat([torch.ones(3, 1), counts.log1p()], dim=1), rtol=1e-6)


def test_one_hot_features_are_the_identity():
    x = with_features(graph_of(features=None), "one_hot").x
    assert isinstance(x, SparseMatrix)
    assert torch.equal(x.dense(), torch.eye(30))


@pytest.mark.parametrize("kind", ["degree", "one_hot", "random_walk"])
@pytest.mark.parametrize("features", ["float64", "sparse", None])
def test_edges_and_labels_stay_as_they_are(kind: str, features: str | None):
    graph = graph_of(features=features, directed=True, weighted=True, parallel=True)
    made = with_features(graph, kind)
    assert torch.equal(made.edge_index, graph.edge_index)
    assert_close(made.edge_weight, graph.edge_weight, rtol=1e-6)
    assert torch.equal(made.labels, graph.labels)
    assert np.array_equal(made.edge_order, graph.edge_order)
    assert made.is_directed
    assert made.dtype == torch.float32
    assert made.digest != graph.digest


def test_an_unknown_kind_names_the_choices():
    with pytest.raises(ValueError, match=r"'features' to be one of degree, one_hot, random_walk \(got 'degrees'\)"):
        with_features(graph_of(), "degrees")


def test_features_can_be_chosen_for_any_graph():
    options = {"num_nodes": 300, "num_features": 200, "num_classes": 10, "words_per_node": 20}
    assert load_graph("synthetic", features="random_walk", **options).num_features == NUM_STEPS
    assert load_graph("synthetic", **options).num_features == 200
