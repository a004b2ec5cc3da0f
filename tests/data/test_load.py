from __future__ import annotations

import pytest

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
