from __future__ import annotations

import numpy as np
import pytest
import torch

from fgsam.episodes.bank import EpisodeBank
from fgsam.episodes.sampler import EpisodeSampler
from fgsam.methods.untrained import Untrained
from tests.methods.tiny import tiny_graph


def tiny_bank() -> EpisodeBank:
    sampler = EpisodeSampler(tiny_graph().labels, range(4), n_way=3, k_shot=2, num_query=4)
    return EpisodeBank.draw(sampler, 60, np.random.default_rng(0))


def test_weights_are_its_own_whatever_the_global_generator_says():
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        expected = torch.rand(1)
        torch.manual_seed(seed)
        floor = Untrained()
        found.append(floor.fit(tiny_graph(), tiny_bank()))
        assert torch.equal(torch.rand(1), expected)
    assert found[0] == found[1]


def test_a_deeper_net_reads_further():
    floor, graph, moved = Untrained(), tiny_graph(), tiny_graph()
    moved.x[7] += 1.0  # two hops from node 2, by way of node 1
    for setting in floor.candidates():
        before, after = floor._prepare(graph, setting), floor._prepare(moved, setting)
        assert torch.equal(before[2], after[2]) == (setting["num_layers"] < 2)


def test_random_weights_beat_chance():
    floor = Untrained()
    floor.fit(tiny_graph(), tiny_bank())
    assert floor.score(tiny_bank()).mean() > 0.5


@pytest.mark.parametrize("options", [{"layers": [0]}, {"edges": ["raw"]}, {"dim": 0}, {"hidden": 0}])
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match="Expected '"):
        Untrained(**options)
