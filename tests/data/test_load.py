from __future__ import annotations

import logging

import numpy as np
import pytest

from fgsam.data.features import with_features
from fgsam.data.load import load_graph


def no_graph(root=None):
    return 3


def test_an_unknown_option_names_the_nearest():
    with pytest.raises(TypeError, match=r"option of graph 'synthetic' \(got 'num_node'\)\. Did you mean 'num_nodes'"):
        load_graph("synthetic", num_node=300)


def test_an_unknown_name_names_the_nearest():
    with pytest.raises(ValueError, match=r"known graph .*\(got 'synthetics'\)\. Did you mean 'synthetic'\?"):
        load_graph("synthetics")


def test_an_own_loader_has_to_return_a_graph():
    with pytest.raises(TypeError, match=r"no_graph' to return a fgsam\.Graph \(got int\)\. Make one with"):
        load_graph(f"{__name__}:no_graph")


def test_edges_and_labels_are_enough(tmp_path, caplog):
    path = tmp_path / "mine.npz"
    np.savez(path, edge_index=[[0, 1, 1, 2], [1, 0, 2, 1]], labels=[0, 1, -1])
    with caplog.at_level(logging.INFO, logger="fgsam"):
        graph = load_graph(path)
    assert graph.digest == load_graph(path, features="degree").digest
    assert caplog.messages == [
        f"'{path}' has no features: each node gets its degree. dataset.features has other choices."
    ]
    assert load_graph(path, features="one_hot").digest == with_features(graph, "one_hot").digest


def test_an_unknown_option_of_an_own_graph_names_the_known_ones(tmp_path):
    with pytest.raises(TypeError, match=r"option of graph '.*mine\.npz' \(got 'directed'\)\. .*symmetrise"):
        load_graph(tmp_path / "mine.npz", directed=True)
