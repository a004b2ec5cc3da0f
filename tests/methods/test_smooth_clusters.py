from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import fgsam
from fgsam.engine.evaluate import BankScorer
from fgsam.methods.scales import Scales
from fgsam.methods.smooth_clusters import FIRST_MIX, FIRST_SHARPNESS, PACE, SmoothClusters
from fgsam.testing import check_method
from tests.helpers import assert_close
from tests.methods.test_sgc_kmeans import uneven_bank
from tests.methods.tiny import make_gcn, tiny_episode, tiny_graph

EPISODE = tiny_episode()
OPTIONS = {"n_way": 2, "k_shot": 1, "num_query": 2, "num_episodes": 4, "val_every": 2, "progress": "none"}


def made(**options: int) -> SmoothClusters:
    return SmoothClusters(make_gcn, [0, 1], tiny_graph(), **options).double()


def scored(learner: SmoothClusters, *, peer: bool = False, episode=EPISODE) -> torch.Tensor:
    return learner.score(learner.field(tiny_graph(), episode.nodes, peer=peer), episode)


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def twin(balance: float = 0.0, num_steps: int = 4) -> np.ndarray:
    """The logits of the untrained learner, one class and one query node after the other."""
    graph = tiny_graph()
    rows = Scales(graph, 128).rows(graph, graph.field(EPISODE.nodes, 0), peer=False).numpy()
    rows = np.concatenate([np.sqrt(w) * rows[:, j] for j, w in enumerate(softmax(np.array(FIRST_MIX)))], axis=-1)
    known, asked = rows[: EPISODE.num_support], rows[EPISODE.num_support :]

    def scores(classes: np.ndarray) -> np.ndarray:
        found = 2 * FIRST_SHARPNESS * asked @ classes.T
        for _ in range(3):
            sizes = softmax(found).sum(0)
            found = found - balance * np.log((sizes + 0.5) / (len(asked) / 3 + 0.5))
        return found

    sums = np.stack([known[EPISODE.support_labels.numpy() == c].sum(0) for c in range(3)])
    classes = unit(sums)
    for _ in range(num_steps):
        shares = softmax(scores(classes))
        classes = unit(np.stack([sums[c] + sum(shares[i, c] * asked[i] for i in range(len(asked))) for c in range(3)]))
    return scores(classes)


@pytest.mark.parametrize("num_steps", [1, 4])
def test_it_begins_as_plain_clusters(num_steps: int):
    assert_close(scored(made(num_steps=num_steps)), torch.from_numpy(twin(num_steps=num_steps)))


def test_a_balance_pulls_classes_to_equal_sizes():
    learner = made()
    with torch.no_grad():
        learner.balance.fill_(1.2 / PACE)
    assert_close(scored(learner), torch.from_numpy(twin(1.2)))
    few = replace(EPISODE, query=EPISODE.query[[0, 1, 2, 3, 4]], query_labels=EPISODE.query_labels[[0, 1, 2, 3, 4]])
    spread = [float(scored(m, episode=few).softmax(-1).sum(0).std().detach()) for m in (learner, made())]
    assert spread[0] < spread[1]


def test_every_weight_moves_in_training():
    learner = made()
    optimizer = torch.optim.Adam(learner.parameters(), lr=0.01)
    for peer in (False, True):
        field = learner.field(tiny_graph(), EPISODE.nodes, peer=peer)
        optimizer.zero_grad()
        learner.loss(field, EPISODE).mean().backward()
        if not peer:  # at every scale a peer has the same row, so that their weights cannot matter
            assert all(param.grad.abs().sum() > 0 for param in learner.parameters())
        optimizer.step()
    assert all(param.abs().sum() > 0 for param in learner.parameters())


def test_a_query_that_only_fills_its_row_does_not_count():
    learner, bank = made(), uneven_bank()
    with torch.no_grad():
        learner.balance.fill_(0.3)
    expected = [(scored(learner, episode=e).argmax(-1) == e.query_labels).sum().item() for e in bank]
    assert BankScorer(tiny_graph(), bank).correct(learner).tolist() == expected
    rows = learner.represent(learner.field(tiny_graph(), torch.arange(32)))[0]
    labels = bank.query_labels
    shown = learner.logits((rows[bank.support],), bank.support_labels, (rows[bank.query],), 3, is_query=labels >= 0)
    filled = learner.logits((rows[bank.support],), bank.support_labels, (rows[bank.query],), 3)
    assert not torch.allclose(shown[0], filled[0])
    assert_close(shown[1], filled[1])


def test_a_peer_reads_its_own_rows_alone():
    learner, graph = made(), tiny_graph(poison=EPISODE.nodes.tolist())
    view = learner.field(graph, EPISODE.nodes, peer=True)
    assert view.node_ids.tolist() == EPISODE.nodes.tolist()
    assert torch.equal(learner.score(view, EPISODE), scored(learner, peer=True))
    assert not torch.allclose(scored(learner), scored(learner, peer=True))


def test_it_keeps_the_promises_of_all_learners_with_other_options_too():
    assert len(check_method(SmoothClusters, num_steps=1, only="matter")) == 6


@pytest.mark.parametrize("optimizer", ["adam", "fgsam_plus"])
def test_it_runs_under_optimizers_with_and_without_peer(optimizer: str, tmp_path):
    graph = fgsam.load_graph("synthetic", num_nodes=300, num_classes=6, num_features=300, words_per_node=20)
    options = {**OPTIONS, "method": "smooth_clusters", "optimizer": optimizer, "evaluate": {"num_episodes": 20}}
    first, second = (fgsam.run(graph, root=str(tmp_path / name), **options) for name in "ab")
    assert first.results["weights_digest"] == second.results["weights_digest"]
    assert first.results["test_accuracy"] > 0.6
    nodes = [torch.where(graph.labels == c)[0][:2].tolist() for c in (0, 1)]
    found = first.predict([row[0] for row in nodes], [7, 8], [row[1] for row in nodes])
    assert set(np.asarray(found).tolist()) <= {7, 8}


def test_in_the_inductive_setting_directions_are_those_of_the_training_graph(tmp_path):
    graph = fgsam.load_graph("synthetic", num_nodes=300, num_classes=6, num_features=300, words_per_node=20)
    run = fgsam.run(graph, root=str(tmp_path), method="smooth_clusters", setting="inductive", **OPTIONS)
    assert run.results["test_accuracy"] > 0.6
    material = run._load()
    digest = material.data.train_graph.digest
    assert material.learner._scales._key == (digest, 128)
    assert digest != material.data.graph.digest


def test_it_makes_no_encoder():
    learner = SmoothClusters(lambda: pytest.fail("made"), [0, 1], tiny_graph())
    assert learner.encoder(learner.field(tiny_graph(), [4, 2, 7])).shape == (3, 0)
    assert learner.field(tiny_graph(), [4, 2, 7]).num_nodes == 3


def test_a_field_of_another_learner_is_refused():
    with pytest.raises(ValueError, match="rows of all scales"):
        made().represent(tiny_graph().field([0, 1], 0))


@pytest.mark.parametrize("options", [{"num_steps": 0}, {"dim": 0}])
def test_impossible_options_are_refused(options: dict[str, int]):
    with pytest.raises(ValueError, match="at least 1"):
        made(**options)
