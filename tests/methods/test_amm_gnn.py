from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fgsam.graph.graph import Graph
from fgsam.methods.amm_gnn import AMMGNN
from fgsam.methods.maml import MAML
from fgsam.nn.encoders import field_of
from tests.helpers import assert_close
from tests.methods.tiny import make_gcn, tiny_episode, tiny_graph


def make_amm(**options) -> AMMGNN:
    torch.manual_seed(0)
    return AMMGNN(make_gcn, **{"num_steps": 3, "inner_lr": 0.5, "strength": 0.5, **options}).double()


def field_of_episode(method, graph=None, episode=None, *, peer=False):
    return field_of(method.encoder, graph or tiny_graph(), (episode or tiny_episode()).nodes, peer=peer)


def maml_on(method, columns: torch.Tensor, *, peer: bool) -> torch.Tensor:
    """Scores of MAML with the same encoder on a graph with scaled features."""
    torch.manual_seed(0)
    maml = MAML(make_gcn, num_steps=3, inner_lr=0.5).double()
    maml.encoder.load_state_dict(method.encoder.state_dict())
    graph = tiny_graph()
    edges = graph.edge_index
    twin = Graph.from_arrays(graph.x * columns, edges, graph.labels, directed=True).to(dtype=torch.float64)
    return maml.score(field_of(maml.encoder, twin, tiny_episode().nodes, peer=peer), tiny_episode())


def cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a * b).sum() / (a.square().sum() * b.square().sum()).sqrt()


@pytest.mark.parametrize("peer", [False, True])
def test_the_mean_form_is_maml_on_scaled_features_with_a_matching_term(peer):
    method, episode = make_amm(), tiny_episode()
    field = field_of_episode(method, peer=peer)
    x = tiny_graph().x
    scale, shift = method.attention.weight.item(), method.attention.bias.item()
    attention = torch.stack([scale * x[episode.support, f].mean() + shift for f in range(12)])
    scores = maml_on(method, 1 + 0.5 * attention, peer=peer)
    assert_close(method.score(field, episode), scores, rtol=1e-11)
    match = torch.stack([cosine(attention, scale * x[node] + shift) for node in episode.query])
    slow = F.cross_entropy(scores, episode.query_labels, reduction="none") - 0.5 * match
    assert_close(method.loss(field, episode), slow, rtol=1e-11)


@pytest.mark.parametrize("peer", [False, True])
def test_the_released_form_is_maml_on_scaled_features_with_two_matching_terms(peer):
    method, episode = make_amm(variant="tlp").eval(), tiny_episode()
    field = field_of_episode(method, peer=peer)
    rows = tiny_graph().x[episode.nodes]
    torch.manual_seed(5)
    sets = [rows[torch.randperm(21)[:10]] for _ in range(2)]
    alphas, betas = (
        [(m.weight @ rows).squeeze(0) + m.bias for rows in sets] for m in (method.attention, method.unused)
    )
    scores = maml_on(method, 1 + 0.5 * (alphas[0] + alphas[1]) / 2, peer=peer)
    torch.manual_seed(5)
    assert_close(method.score(field, episode), scores, rtol=1e-11)
    slow = F.cross_entropy(scores, episode.query_labels, reduction="none") - 0.5 * (cosine(*alphas) + cosine(*betas))
    torch.manual_seed(5)
    assert_close(method.loss(field, episode), slow, rtol=1e-11)


def test_second_maps_of_the_released_form_change_no_score():
    method, episode = make_amm(variant="tlp").eval(), tiny_episode()
    field = field_of_episode(method)
    with torch.no_grad():
        scores, loss = method.score(field, episode), method.loss(field, episode)
        torch.nn.init.ones_(method.unused.weight)
        assert torch.equal(method.score(field, episode), scores)
        assert not torch.allclose(method.loss(field, episode), loss)


def test_sets_of_the_released_form_are_drawn_while_training_and_fixed_in_evaluation():
    method, episode = make_amm(variant="tlp"), tiny_episode()
    field = field_of_episode(method)
    assert not torch.equal(method.score(field, episode), method.score(field, episode))
    torch.manual_seed(5)
    first = method.score(field, episode)
    torch.manual_seed(5)
    assert torch.equal(method.score(field, episode), first)
    torch.manual_seed(5)
    assert torch.equal(method.eval().score(field, episode), first)  # a peer pass without dropout draws the same sets
    with torch.no_grad():
        assert torch.equal(method.score(field, episode), method.score(field, episode))


@pytest.mark.parametrize(("variant", "is_invariant"), [("mean", True), ("tlp", False)])
def test_only_the_mean_form_keeps_order_and_other_queries_out_of_the_scores(variant, is_invariant):
    method, episode = make_amm(variant=variant).eval(), tiny_episode()
    scores = method.score(field_of_episode(method), episode)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    shuffled = replace(episode, support=episode.support[order], support_labels=episode.support_labels[order])
    others = method.score(field_of_episode(method, episode=shuffled), shuffled)
    assert torch.allclose(others, scores, rtol=1e-10, atol=1e-12) == is_invariant
    graph = tiny_graph()
    graph.x[episode.query] += torch.from_numpy(np.random.default_rng(0).standard_normal((12, 12)))
    peers = [method.score(field_of_episode(method, g, peer=True), episode) for g in (tiny_graph(), graph)]
    graph.x[episode.query[0]] = tiny_graph().x[episode.query[0]]
    kept = method.score(field_of_episode(method, graph, peer=True), episode)[0]
    assert torch.allclose(kept, peers[0][0], rtol=1e-10, atol=1e-12) == is_invariant


def test_an_episode_too_small_for_the_released_form_is_refused():
    method, episode = make_amm(variant="tlp"), tiny_episode()
    small = replace(episode, support=episode.support[::3], support_labels=torch.arange(3), query=episode.query[:4])
    with pytest.raises(ValueError, match=r"at least 10 nodes for variant='tlp' \(got 7\)"):
        method.score(field_of_episode(method, episode=small), small)
    assert make_amm().score(field_of_episode(method, episode=small), small).shape == (4, 3)


@pytest.mark.parametrize("option", [{"variant": "paper"}, {"strength": 0.0}])
def test_options_out_of_range_are_refused(option):
    with pytest.raises(ValueError, match=f"Expected '{next(iter(option))}'"):
        make_amm(**option)


def test_the_features_of_the_targets_are_written_out_once_for_a_field():
    method, episode = make_amm(), tiny_episode()
    field = field_of_episode(method)
    method.score(field, episode)
    kept = field.remember("features of the targets", lambda: pytest.fail("not kept"))
    assert_close(kept, tiny_graph().x[episode.nodes], rtol=0)
