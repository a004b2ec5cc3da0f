from __future__ import annotations

import numpy as np
import torch

from fgsam.graph.graph import Graph
from fgsam.methods.scales import HOPS, WALK, Scales
from fgsam.methods.smoothing import STEPS_PER_HOP
from tests.helpers import assert_close
from tests.methods.tiny import tiny_graph


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def twin(graph: Graph) -> np.ndarray:
    weights, x = graph.weights("sym").dense().numpy(), unit(graph.x.numpy())
    walked = x
    for _ in range(STEPS_PER_HOP * WALK):
        walked = x / (WALK + 1) + WALK / (WALK + 1) * weights @ walked
    parts = [np.linalg.matrix_power(weights, hops) @ x for hops in HOPS] + [walked]
    centred = [unit(part) - unit(part).mean(0) for part in parts]
    return unit(np.stack(centred, 1))


def wide_graph() -> Graph:
    rng = np.random.default_rng(2)
    edges = rng.integers(0, 40, (2, 90))
    return Graph.from_arrays(rng.random((40, 300)), edges, np.zeros(40), directed=False).to(dtype=torch.float64)


def test_rows_are_smoothed_centred_and_of_length_one():
    graph, nodes = tiny_graph(), torch.tensor([5, 0, 9])
    found = Scales(graph, 128).rows(graph, graph.field(nodes, 0), peer=False)
    assert_close(found, torch.from_numpy(twin(graph)[nodes]))


def test_a_peer_has_the_row_of_no_hops_at_every_scale():
    for graph in (tiny_graph(), wide_graph()):
        scales, field = Scales(graph, 16), graph.field([5, 0, 9], 0)
        whole, peer = (scales.rows(graph, field, peer=is_peer) for is_peer in (False, True))
        for place in range(len(HOPS) + 1):
            assert_close(peer[:, place], whole[:, 0], rtol=1e-5)  # directions are float32


def test_directions_and_mean_rows_are_those_of_the_first_graph():
    graph = wide_graph()
    part = graph.without(torch.arange(30, 40))
    of_part = Scales(part, 16)
    lonely = graph.field([0, 1, 2], 0)
    expected = of_part.rows(part, part.field([0, 1, 2], 0), peer=True)
    assert_close(of_part.rows(graph, lonely, peer=False)[:, 0], expected[:, 0], rtol=1e-5)
    assert not torch.allclose(
        Scales(graph, 16).rows(graph, lonely, peer=False), of_part.rows(graph, lonely, peer=False)
    )


def test_only_graphs_with_many_features_are_projected():
    assert Scales(tiny_graph(), 8).dim == tiny_graph().num_features
    assert Scales(wide_graph(), 8).dim == 8
