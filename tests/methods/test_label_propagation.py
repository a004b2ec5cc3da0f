from __future__ import annotations

import numpy as np
import pytest
import torch

from fgsam.episodes.bank import EpisodeBank
from fgsam.episodes.sampler import EpisodeSampler
from fgsam.graph.graph import Graph
from fgsam.methods.label_propagation import LabelPropagation
from tests.methods.tiny import tiny_graph


def bank_of(graph: Graph, num_episodes: int = 20) -> EpisodeBank:
    sampler = EpisodeSampler(graph.labels, range(4), n_way=3, k_shot=2, num_query=4)
    return EpisodeBank.draw(sampler, num_episodes, np.random.default_rng(0))


@pytest.mark.parametrize("edges", ["row", "sym"])
def test_scores_are_those_of_a_dense_random_walk_with_restarts(edges: str):
    graph, num_hops = tiny_graph(), 3
    bank = bank_of(graph)
    floor = LabelPropagation(hops=[num_hops], edges=[edges])  # type: ignore[list-item]
    floor.fit(graph, bank)
    step = graph.weights(edges).dense().numpy()  # type: ignore[arg-type]
    stop = 1 / (num_hops + 1)
    walk = np.linalg.inv(np.eye(graph.num_nodes) - (1 - stop) * step) * stop
    for episode in bank:
        support = episode.support[episode.support_labels.argsort()].view(3, 2)
        scores = walk[:, support].mean(-1)
        reached = scores[episode.query].any(-1)
        predicted = floor.predict(episode.support, episode.support_labels, episode.query, 3).numpy()
        sorted_scores = np.sort(scores[episode.query], axis=-1)
        is_clear = sorted_scores[:, -1] - sorted_scores[:, -2] > 0.02  # walks are cut, so that close calls may differ
        chosen = reached & is_clear
        assert (predicted[chosen] == scores[episode.query].argmax(-1)[chosen]).all()
        assert is_clear.sum() > 5


def test_features_are_not_read():
    graph, other = tiny_graph(), tiny_graph()
    other.x[:] = torch.nan
    floor, blind = LabelPropagation(), LabelPropagation()
    assert blind.fit(other, bank_of(graph)) == floor.fit(graph, bank_of(graph))


def test_an_isolated_query_gets_the_class_that_reaches_most_of_the_graph():
    edges = [[0, 0, 0, 4], [1, 2, 3, 5]]  # a star of four, a pair, and node 6 alone
    graph = Graph.from_arrays(np.eye(7), edges, [0, 0, 0, 0, 1, 1, 0], directed=False)
    floor = LabelPropagation(hops=[2], edges=["row"])
    floor._use(graph, floor.candidates()[0])
    for star, pair in ((0, 1), (1, 0)):
        labels = torch.tensor([star, pair])
        found = floor.predict(torch.tensor([0, 4]), labels, torch.tensor([1, 5, 6]), 2)
        assert found.tolist() == [star, pair, star]


def test_an_isolated_support_speaks_for_no_other_node():
    edges = [[0, 0, 0, 4], [1, 2, 3, 5]]
    graph = Graph.from_arrays(np.eye(7), edges, [0, 0, 0, 0, 1, 1, 0], directed=False)
    floor = LabelPropagation(hops=[2], edges=["sym"])
    floor._use(graph, floor.candidates()[0])
    assert floor.predict(torch.tensor([6, 0]), torch.tensor([0, 1]), torch.tensor([1, 2, 3, 5]), 2).tolist() == [1] * 4


def test_edges_alone_tell_classes_apart_where_neighbours_share_one():
    graph = tiny_graph()
    floor = LabelPropagation()
    floor.fit(graph, bank_of(graph, 60))
    assert floor.score(bank_of(graph, 60)).mean() > 0.7


@pytest.mark.parametrize("options", [{"hops": [0]}, {"edges": ["raw"]}, {"edges": []}, {"num_trials": 0}])
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match="Expected '"):
        LabelPropagation(**options)
