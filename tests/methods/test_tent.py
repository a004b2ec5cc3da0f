from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression

from fgsam.episodes.episode import Episode
from fgsam.graph.field import Field
from fgsam.graph.graph import Graph
from fgsam.methods.tent import TENT
from fgsam.nn.encoders import Encoder, field_of
from tests.engine.tiny import tiny_run
from tests.methods.tiny import make_gcn, tiny_episode, tiny_graph
from tests.twins.methods import slow_gcn
from tests.twins.tent import slow_tent_loss

both_forms = pytest.mark.parametrize("variant", ["mended", "released"])
both_passes = pytest.mark.parametrize("peer", [False, True])


def make_tent(make_encoder=make_gcn, classes=(0, 1, 2, 3), seed: int = 0, **options) -> TENT:
    torch.manual_seed(seed)
    return TENT(make_encoder, list(classes), hidden=options.pop("hidden", 5), **options).double()


class OwnRows(Encoder):
    """Gives the features of a node as they are."""

    num_hops = 2
    dim = 2

    def forward(self, field):
        return field.dense_x()[: field.num_targets]


def hand_made(variant: str) -> tuple[TENT, Graph, Episode]:
    """Supports 0, with neighbour 1, and 2; queries 3, with neighbour 4, and 5. Both layers are the identity.

    The generator adds the second entry of what it is told to the first of the last bias.
    """
    x = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
    graph = Graph.from_arrays(x, [[0, 3], [1, 4]], [0, 0, 1, 0, 1, 1], directed=False)
    method = make_tent(OwnRows, hidden=2, variant=variant)
    with torch.no_grad():
        for part in (method.first, method.second):
            part.weight.copy_(torch.eye(2))
            part.bias.zero_()
        for param in method.generator.parameters():
            param.zero_()
        method.generator.weight[12 + 10, 1] = 1.0  # behind 12 scales and the shifts of the other ten parameters
    labels = torch.tensor([0, 1])
    return method, graph, Episode(torch.tensor([8, 9]), torch.tensor([0, 2]), labels, torch.tensor([3, 5]), labels)


WORKED = {
    # Class 0: the virtual node (1, 0) and nodes (1, 0), (0, 1) see each other: their mean (2/3, 1/3). Class 1: (0, 1).
    # Queries: (1/2, 1/2) and (0, 2). Class 0 shifts nothing; class 1 shifts by 1: its node (1, 1), (3/2, 1/2), (1, 2).
    "mended": [[6 / 10**0.5, 4 / 5**0.5], [2 / 5**0.5, 6 / 10**0.5]],
    # Virtual nodes stay (1, 0) and (0, 1), the task shifts all by 1/2: (3/2, 0), (1/2, 1), (1, 1/2) and (1/2, 2).
    "released": [[4 / 5**0.5, 1.6], [2 / 17**0.5, 18 / 85**0.5]],
}


@both_forms
def test_loss_of_an_episode_worked_by_hand(variant):
    method, graph, episode = hand_made(variant)
    field = method.field(graph, episode.nodes)
    logits = torch.tensor(WORKED[variant], dtype=torch.float64)
    torch.testing.assert_close(
        method.loss(field, episode), F.cross_entropy(logits, episode.query_labels, reduction="none")
    )
    if variant == "mended":
        torch.testing.assert_close(method.score(field, episode), logits)


@both_passes
@both_forms
def test_loss_and_gradient_equal_a_loop_over_ego_graphs(variant, peer):
    graph, episode, method = tiny_graph(), tiny_episode(), make_tent(variant=variant)
    keep = torch.tensor([0, 1, 2, 3, 6, 7])
    episode = replace(episode, support=episode.support[keep], support_labels=episode.support_labels[keep])
    loss = method.loss(method.field(graph, episode.nodes, peer=peer), episode)
    slow = slow_tent_loss(method, graph, episode, peer=peer)
    torch.testing.assert_close(loss, slow, rtol=1e-12, atol=1e-12)
    weights = list(method.parameters())
    torch.testing.assert_close(
        torch.autograd.grad(loss.mean(), weights), torch.autograd.grad(slow.mean(), weights), rtol=1e-9, atol=1e-12
    )


@both_passes
@both_forms
def test_every_weight_moves_in_both_passes(variant, peer):
    graph, episode, method = tiny_graph(), tiny_episode(), make_tent(variant=variant)
    method.loss(method.field(graph, episode.nodes, peer=peer), episode).mean().backward()
    for name, param in method.named_parameters():
        assert param.grad.isfinite().all(), name
        assert param.grad.any(), name


def test_the_objective_adds_the_mean_of_the_classifier_over_the_nodes_of_the_episode():
    graph, episode = tiny_graph(), replace(tiny_episode(), classes=torch.tensor([5, 9, 2]))
    method = make_tent(classes=(2, 5, 7, 9))
    field = method.field(graph, episode.nodes)
    rows = method.classifier(slow_gcn(method.encoder, graph, episode.nodes, peer=False))
    places = torch.tensor([1, 3, 0])[torch.cat([episode.support_labels, episode.query_labels])]
    added = F.cross_entropy(rows, places)
    alone = F.cross_entropy(method.score(field, episode), episode.query_labels)
    torch.testing.assert_close(method.loss(field, episode).mean(), alone + added)


def test_an_episode_with_a_class_that_is_not_taught_is_without_the_classifier():
    graph, episode, method = tiny_graph(), tiny_episode(), make_tent(classes=(0, 1, 3))
    field = method.field(graph, episode.nodes)
    alone = F.cross_entropy(method.score(field, episode), episode.query_labels, reduction="none")
    torch.testing.assert_close(method.loss(field, episode), alone)


def loss_after(change, variant: str) -> bool:
    """Whether the loss of the hand-made episode stays the same after a change of the graph."""
    method, graph, episode = hand_made(variant)
    before = method.loss(method.field(graph, episode.nodes), episode)
    change(graph)
    return torch.equal(method.loss(method.field(graph, episode.nodes), episode), before)


@pytest.mark.parametrize(("variant", "is_same"), [("mended", False), ("released", True)])
def test_in_the_released_form_neighbours_of_supports_play_no_part(variant, is_same):
    assert loss_after(lambda graph: graph.x[1].fill_(0.7), variant) == is_same
    assert not loss_after(lambda graph: graph.x[4].fill_(0.7), variant)  # those of queries do


def made_for(variant: str) -> torch.Tensor:
    """The last bias that the hand-made episode's networks have, one row a class."""
    method, graph, episode = hand_made(variant)
    seen = []
    method.generator.register_forward_hook(lambda *parts: seen.append(parts[-1]))
    method.loss(method.field(graph, episode.nodes), episode)
    return seen[0][:, 22]


def test_in_the_released_form_one_network_serves_the_task():
    assert made_for("mended").tolist() == [0.0, 1.0]
    assert made_for("released").tolist() == [0.5, 0.5]


def test_in_the_released_form_scores_are_those_of_a_logistic_regression_on_the_encoder():
    graph, episode, method = tiny_graph(), tiny_episode(), make_tent(variant="released")
    rows = F.normalize(slow_gcn(method.encoder, graph, episode.nodes, peer=False)).detach().numpy()
    model = LogisticRegression(C=1.0, tol=1e-8, max_iter=1000).fit(rows[:9], episode.support_labels)
    scores = method.score(method.field(graph, episode.nodes), episode)
    torch.testing.assert_close(scores.softmax(1), torch.from_numpy(model.predict_proba(rows[9:])), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("variant", "is_same"), [("mended", False), ("released", True)])
def test_in_the_released_form_nothing_adaptive_enters_the_scores(variant, is_same):
    graph, episode, method = tiny_graph(), tiny_episode(), make_tent(variant=variant)
    field = method.field(graph, episode.nodes)
    before = method.score(field, episode)
    with torch.no_grad():
        for part in (method.generator, method.first, method.second):
            for param in part.parameters():
                param.neg_()
    assert torch.equal(method.score(field, episode), before) == is_same


@both_forms
def test_the_peer_reads_support_and_query_rows_only(variant):
    episode, method = tiny_episode(), make_tent(variant=variant)
    clean, poisoned = tiny_graph(), tiny_graph(poison=episode.nodes.tolist())
    views = [method.field(graph, episode.nodes, peer=True) for graph in (clean, poisoned)]
    assert torch.equal(views[0].node_ids, episode.nodes)
    losses = [method.loss(view, episode) for view in views]
    torch.testing.assert_close(losses[1], losses[0], rtol=0, atol=0)


def test_a_query_is_scored_by_itself():
    graph, episode, method = tiny_graph(), tiny_episode(), make_tent()
    graph.x[episode.query[5]] = torch.nan
    loss = method.loss(method.field(graph, episode.nodes, peer=True), episode)
    assert loss.isnan().nonzero().tolist() == [[5]]


def test_ego_graphs_are_built_once_for_all_passes_over_a_field(monkeypatch):
    calls, build = [], Field.ego_sets
    monkeypatch.setattr(Field, "ego_sets", lambda *args, **kwargs: (calls.append(1), build(*args, **kwargs))[1])
    graph, episode, method = tiny_graph(), tiny_episode(), make_tent()
    field = method.field(graph, episode.nodes)
    first = method.loss(field, episode)
    assert len(calls) == 2
    assert torch.equal(method.loss(field, episode), first)
    assert len(calls) == 2
    renamed = replace(episode, support_labels=torch.tensor([2, 0, 1])[episode.support_labels])
    assert not torch.equal(method.loss(field, renamed), first)


def test_a_field_that_is_not_the_episode_s_is_refused():
    graph, episode, method = tiny_graph(), tiny_episode(), make_tent(OwnRows)
    with pytest.raises(ValueError, match="first targets of 'field' to be the nodes of the episode"):
        method.score(method.field(graph, episode.query), episode)
    with pytest.raises(ValueError, match=r"targets hold the ego graphs.*method\.field\(graph"):
        method.score(field_of(method.encoder, graph, episode.nodes), episode)


def test_representations_of_single_nodes_are_not_enough():
    graph, episode, method = tiny_graph(), tiny_episode(), make_tent()
    rows = method.represent(field_of(method.encoder, graph, episode.nodes))
    assert rows[0].shape == (21, 4)
    with pytest.raises(TypeError, match=r"Call score\(field, episode\)"):
        method.logits(rows, episode.support_labels, rows, 3)


def test_a_class_without_support_is_refused():
    graph, episode, method = tiny_graph(), tiny_episode(), make_tent()
    empty = replace(episode, support=episode.support[:6], support_labels=episode.support_labels[:6])
    with pytest.raises(ValueError, match="support node for every class"):
        method.loss(method.field(graph, empty.nodes), empty)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 0}, "'hidden' to be a whole number"),
        ({"temperature": 0.0}, "'temperature' to be positive"),
        ({"variant": "publish"}, "'variant' to be one of mended, released"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_tent(**options)


@both_forms
def test_a_run_trains_on_episodes_and_scores_those_of_new_classes(variant, tmp_path):
    found = tiny_run(tmp_path, method={"name": "tent", "variant": variant}, optimizer="fgsam_plus", num_episodes=10)
    losses = [line["loss"] for line in found.history if "loss" in line]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    assert found.test.accuracy > 1 / 3
