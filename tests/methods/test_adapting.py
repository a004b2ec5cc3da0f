from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from fgsam.episodes.bank import EpisodeBank
from fgsam.episodes.sampler import EpisodeSampler
from fgsam.graph.stacked import StackedFields
from fgsam.methods import adapting
from fgsam.methods.adapting import Adapting
from fgsam.methods.amm_gnn import AMMGNN
from fgsam.methods.boil import BOIL
from fgsam.methods.maml import MAML
from fgsam.methods.meta_sgd import MetaSGD
from fgsam.nn.appnp import APPNP
from fgsam.nn.gcn import GCN
from fgsam.nn.sgc import SGC
from tests.helpers import assert_close
from tests.methods.tiny import NUM_CLASSES, NUM_FEATURES, tiny_graph

LEARNERS = [MAML, BOIL, MetaSGD, AMMGNN, partial(AMMGNN, variant="tlp"), partial(MAML, num_outputs=3)]
ENCODERS = {
    "gcn": partial(GCN, NUM_FEATURES, hidden=8, dim=4),
    "deep": partial(GCN, NUM_FEATURES, hidden=8, dim=4, num_layers=3),
    "sgc": partial(SGC, NUM_FEATURES, dim=4),
    "appnp": partial(APPNP, NUM_FEATURES, hidden=8, dim=4, num_hops=2),
}


def make(learner=MAML, encoder: str = "gcn") -> Adapting:
    torch.manual_seed(0)
    return learner(ENCODERS[encoder], num_steps=4, inner_lr=0.5).double().eval()


def bank_of(k_shot: int = 2) -> list:
    sampler = EpisodeSampler(tiny_graph().labels, range(NUM_CLASSES), n_way=3, k_shot=k_shot, num_query=4)
    return list(EpisodeBank.draw(sampler, 5, np.random.default_rng(k_shot)))


def fields_of(method, episodes, *, peer=False):
    graph = tiny_graph()
    return [method.field(graph, episode.nodes, peer=peer) for episode in episodes]


@pytest.fixture
def stacks(monkeypatch):
    """Stacks that were made."""
    made = []
    monkeypatch.setattr(adapting, "StackedFields", lambda fields: made.append(StackedFields(fields)) or made[-1])
    return made


@pytest.mark.parametrize("peer", [False, True])
@pytest.mark.parametrize("encoder", sorted(ENCODERS))
@pytest.mark.parametrize("learner", LEARNERS)
def test_episodes_side_by_side_score_as_each_alone(learner, encoder, peer, stacks):
    method, episodes = make(learner, encoder), bank_of()
    fields = fields_of(method, episodes, peer=peer)
    with torch.no_grad():
        together = method.score_all(fields, episodes)
        alone = [method.score(field, episode) for field, episode in zip(fields, episodes, strict=True)]
    assert len({field.num_nodes for field in fields}) > 1 or peer
    assert len(stacks) == (0 if encoder == "appnp" else 2)
    assert_close(together, alone, rtol=1e-12)


def test_episodes_of_other_sizes_are_scored_one_by_one(stacks):
    method, episodes = make(), bank_of(1) + bank_of(2)
    with torch.no_grad():
        scores = method.score_all(fields_of(method, episodes), episodes)
    assert [tuple(rows.shape) for rows in scores] == [(12, 3)] * 10
    assert not stacks


def test_scores_with_gradients_are_taken_one_by_one(stacks):
    method, episodes = make(), bank_of()
    assert method.score_all(fields_of(method, episodes), episodes)[0].requires_grad
    assert not stacks


def test_an_encoder_of_ones_own_that_derives_from_gcn_is_not_stacked(stacks):
    class Doubled(GCN):
        def forward(self, field):
            return 2 * super().forward(field)[: field.num_targets]

    method, episodes = MAML(lambda: Doubled(NUM_FEATURES)).double().eval(), bank_of()
    with torch.no_grad():
        method.score_all(fields_of(method, episodes), episodes)
    assert not stacks


def test_a_field_of_other_nodes_or_a_class_without_support_is_refused_side_by_side():
    method, episodes = make(), bank_of()
    fields = fields_of(method, episodes)
    with torch.no_grad():
        with pytest.raises(ValueError, match=r"Make the field of episode\.nodes"):
            method.score_all([*fields[:4], fields[4].head(7)], episodes)
        episodes[1].support_labels.clamp_(max=1)
        with pytest.raises(ValueError, match="support node for every class"):
            method.score_all(fields, episodes)


def test_nothing_to_score_gives_nothing():
    with torch.no_grad():
        assert make().score_all([], []) == []
