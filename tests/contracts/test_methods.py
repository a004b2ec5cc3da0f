"""What every few-shot learner promises."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fgsam.episodes.bank import EpisodeBank
from fgsam.episodes.sampler import EpisodeSampler
from fgsam.nn.encoders import field_of
from fgsam.registry import METHODS
from tests.methods.tiny import NUM_CLASSES, make_gcn, tiny_episode, tiny_graph

TRAINED = [name for name in sorted(METHODS) if METHODS.load(name).is_trained]
FLOORS = [name for name in sorted(METHODS) if not METHODS.load(name).is_trained]


def make_method(name: str):
    torch.manual_seed(0)
    return METHODS.load(name)(make_gcn).double()


def loss_of(method, graph, episode, peer=False):
    return method.loss(field_of(method.encoder, graph, episode.nodes, peer=peer), episode)


def logits_of(method, graph, episode):
    support = method.represent(field_of(method.encoder, graph, episode.support))
    query = method.represent(field_of(method.encoder, graph, episode.query))
    return method.logits(support, episode.support_labels, query, episode.n_way)


def tiny_bank(num_episodes: int = 6) -> EpisodeBank:
    sampler = EpisodeSampler(tiny_graph().labels, range(NUM_CLASSES), n_way=3, k_shot=2, num_query=4)
    return EpisodeBank.draw(sampler, num_episodes, np.random.default_rng(0))


@pytest.mark.parametrize("peer", [False, True])
@pytest.mark.parametrize("name", TRAINED)
def test_loss_is_one_finite_value_a_query(name, peer):
    episode = tiny_episode()
    loss = loss_of(make_method(name), tiny_graph(), episode, peer)
    assert loss.shape == episode.query.shape
    assert loss.isfinite().all()


@pytest.mark.parametrize("peer", [False, True])
@pytest.mark.parametrize("name", TRAINED)
def test_every_weight_gets_a_gradient(name, peer):
    method = make_method(name)
    loss_of(method, tiny_graph(), tiny_episode(), peer).mean().backward()
    for key, param in method.named_parameters():
        assert param.grad is not None, key
        assert param.grad.isfinite().all(), key


@pytest.mark.parametrize("peer", [False, True])
@pytest.mark.parametrize("name", TRAINED)
def test_a_few_steps_lower_the_loss(name, peer):
    method, graph, episode = make_method(name), tiny_graph(), tiny_episode()
    optimizer = torch.optim.Adam(method.parameters(), lr=0.02)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        losses.append(loss_of(method, graph, episode, peer).mean())
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("name", TRAINED)
def test_scoring_gives_the_logits_of_training(name):
    method, graph, episode = make_method(name), tiny_graph(), tiny_episode()
    scored = torch.nn.functional.cross_entropy(
        logits_of(method, graph, episode), episode.query_labels, reduction="none"
    )
    torch.testing.assert_close(scored, loss_of(method, graph, episode))


@pytest.mark.parametrize("name", TRAINED)
def test_order_of_support_nodes_does_not_matter(name):
    method, graph, episode = make_method(name), tiny_graph(), tiny_episode()
    order = torch.randperm(episode.num_support, generator=torch.Generator().manual_seed(0))
    shuffled = replace(episode, support=episode.support[order], support_labels=episode.support_labels[order])
    torch.testing.assert_close(logits_of(method, graph, shuffled), logits_of(method, graph, episode))


@pytest.mark.parametrize("name", TRAINED)
def test_names_of_classes_do_not_matter(name):
    method, graph, episode = make_method(name), tiny_graph(), tiny_episode()
    new_name = torch.tensor([2, 0, 1])
    renamed = replace(episode, support_labels=new_name[episode.support_labels])
    torch.testing.assert_close(logits_of(method, graph, renamed)[:, new_name], logits_of(method, graph, episode))


@pytest.mark.parametrize("peer", [False, True])
@pytest.mark.parametrize("name", TRAINED)
def test_numbers_of_nodes_do_not_matter(name, peer):
    method, graph, episode = make_method(name), tiny_graph(), tiny_episode()
    order = np.random.default_rng(0).permutation(graph.num_nodes)
    place = torch.from_numpy(np.argsort(order))
    renumbered = replace(episode, support=place[episode.support], query=place[episode.query])
    torch.testing.assert_close(
        loss_of(method, tiny_graph(order), renumbered, peer), loss_of(method, graph, episode, peer)
    )


@pytest.mark.parametrize("name", TRAINED)
def test_a_batch_of_episodes_equals_its_episodes(name):
    method, graph, bank = make_method(name), tiny_graph(), tiny_bank()
    rows = method.represent(field_of(method.encoder, graph, torch.arange(graph.num_nodes)))
    support, query = (tuple(row[nodes] for row in rows) for nodes in (bank.support, bank.query))
    batch = method.logits(support, bank.support_labels, query, bank.n_way)
    torch.testing.assert_close(batch, torch.stack([logits_of(method, graph, episode) for episode in bank]))


@pytest.mark.parametrize("name", TRAINED)
def test_classes_may_differ_in_support(name):
    method, graph, episode = make_method(name), tiny_graph(), tiny_episode()
    keep = torch.tensor([0, 1, 2, 3, 6, 7])
    uneven = replace(episode, support=episode.support[keep], support_labels=episode.support_labels[keep])
    assert loss_of(method, graph, uneven).isfinite().all()


@pytest.mark.parametrize("name", TRAINED)
def test_a_class_without_support_is_refused(name):
    method, graph, episode = make_method(name), tiny_graph(), tiny_episode()
    empty = replace(episode, support=episode.support[:6], support_labels=episode.support_labels[:6])
    with pytest.raises(ValueError, match="support node for every class"):
        loss_of(method, graph, empty)


@pytest.mark.parametrize("name", TRAINED)
def test_peer_reads_support_and_query_rows_only(name):
    method, episode = make_method(name), tiny_episode()
    poisoned = tiny_graph(poison=episode.nodes.tolist())
    torch.testing.assert_close(
        loss_of(method, poisoned, episode, peer=True), loss_of(method, tiny_graph(), episode, peer=True), rtol=0, atol=0
    )


@pytest.mark.parametrize("name", TRAINED)
def test_queries_never_meet_supports_or_each_other(name):
    method, graph, episode = make_method(name), tiny_graph(), tiny_episode()
    graph.x[episode.query[5]] = torch.nan
    loss = loss_of(method, graph, episode, peer=True)
    assert loss.isnan().nonzero().tolist() == [[5]]


@pytest.mark.parametrize("name", TRAINED)
def test_labels_of_queries_do_not_touch_the_logits(name):
    method, graph, episode = make_method(name), tiny_graph(), tiny_episode()
    per_label = [loss_of(method, graph, replace(episode, query_labels=torch.full((12,), c))) for c in range(3)]
    torch.testing.assert_close(sum((-loss).exp() for loss in per_label), torch.ones(12, dtype=torch.float64))


@pytest.mark.parametrize("name", FLOORS)
def test_a_floor_scores_only_after_it_was_fitted(name):
    with pytest.raises(RuntimeError, match=r"Call fit\(graph, val_bank\) first"):
        METHODS.load(name)().score(tiny_bank())


@pytest.mark.parametrize("name", FLOORS)
def test_a_floor_reports_its_choice_in_plain_values(name):
    report = METHODS.load(name)().fit(tiny_graph(), tiny_bank())
    assert set(report["setting"]) == {"edges", "num_hops", "cost"}
    assert 1 / 3 < report["val_accuracy"] <= 1
    assert {"setting", "screen_accuracy"} <= set(report["candidates"][0])


@pytest.mark.parametrize("name", FLOORS)
def test_a_floor_treats_a_batch_as_its_episodes(name):
    floor, bank = METHODS.load(name)(), tiny_bank(130)
    floor.fit(tiny_graph(), bank)
    alone = [
        (floor.predict(e.support, e.support_labels, e.query, e.n_way) == e.query_labels).double().mean() for e in bank
    ]
    torch.testing.assert_close(floor.score(bank), torch.stack(alone), rtol=0, atol=0)


@pytest.mark.parametrize("name", FLOORS)
def test_a_floor_ignores_order_of_supports_and_numbers_of_nodes(name):
    bank, order = tiny_bank(), np.random.default_rng(0).permutation(NUM_CLASSES * 8)
    place = torch.from_numpy(np.argsort(order))
    renumbered = EpisodeBank(bank.classes, place[bank.support], place[bank.query])
    floor, other = METHODS.load(name)(), METHODS.load(name)()
    floor.fit(tiny_graph(), bank)
    other.fit(tiny_graph(order), renumbered)
    torch.testing.assert_close(other.score(renumbered), floor.score(bank), rtol=0, atol=0)
    shuffle = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    episode = bank[0]
    torch.testing.assert_close(
        floor.predict(episode.support[shuffle], episode.support_labels[shuffle], episode.query, 3),
        floor.predict(episode.support, episode.support_labels, episode.query, 3),
    )


@pytest.mark.parametrize("name", FLOORS)
def test_a_floor_never_reads_labels_of_the_graph(name):
    unlabelled = tiny_graph()
    floor, blind = METHODS.load(name)(), METHODS.load(name)()
    unlabelled.labels[:] = -1
    assert blind.fit(unlabelled, tiny_bank()) == floor.fit(tiny_graph(), tiny_bank())
