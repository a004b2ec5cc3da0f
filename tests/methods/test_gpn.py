from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fgsam.episodes.episode import Episode
from fgsam.graph.graph import Graph
from fgsam.methods.gpn import GPN
from fgsam.nn.encoders import field_of
from fgsam.nn.gcn import GCN
from tests.methods.tiny import make_gcn, tiny_episode, tiny_graph
from tests.twins.methods import slow_gpn_loss

RELEASED = json.loads((Path(__file__).parents[1] / "data" / "gpn_released.json").read_text())


def make_gpn(seed: int = 0, **options) -> GPN:
    torch.manual_seed(seed)
    return GPN(make_gcn, **options).double()


@pytest.mark.parametrize("peer", [False, True])
@pytest.mark.parametrize("variant", ["published", "fgsam"])
def test_loss_and_gradient_equal_a_loop_over_classes_and_nodes(variant, peer):
    graph, episode, method = tiny_graph(), tiny_episode(), make_gpn(variant=variant)
    loss = method.loss(field_of(method.encoder, graph, episode.nodes, peer=peer), episode)
    slow = slow_gpn_loss(method, graph, episode, peer=peer)
    torch.testing.assert_close(loss, slow, rtol=1e-12, atol=1e-12)
    parameters = list(method.parameters())
    gradient = torch.autograd.grad(loss.mean(), parameters)
    expected = torch.autograd.grad(slow.mean(), parameters)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-12)


def test_logits_of_an_episode_worked_by_hand():
    # sigmoid(0) = 1/2 and sigmoid(log 3) = 3/4, so class 0 weighs its nodes 2/5 and 3/5.
    scores = torch.tensor([0.0, 3.0, 1.0]).log1p().sub(torch.tensor([0.0, np.log(4 / 3), 0.0])).double()
    support = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    query = torch.tensor([[3.0, 2.0]], dtype=torch.float64)
    method, labels = make_gpn(), torch.tensor([0, 0, 1])
    torch.testing.assert_close(
        method.weights(scores, labels, 2)[0], torch.tensor([0.4, 0.6, 0.0], dtype=torch.float64), rtol=0, atol=1e-7
    )
    logits = method.logits((support, scores), labels, (query,), 2)
    torch.testing.assert_close(logits, torch.tensor([[-4.0, -10.0]], dtype=torch.float64), rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", ["published", "fgsam"])
def test_isolated_and_degree_one_supports_give_finite_losses_and_gradients(variant):
    graph, episode, method = tiny_graph(), tiny_episode(), make_gpn(variant=variant)
    assert graph.degree[episode.support].min() == 0
    assert (graph.degree[episode.support] == 1).any()
    for peer in (False, True):
        method.zero_grad()
        loss = method.loss(field_of(method.encoder, graph, episode.nodes, peer=peer), episode)
        loss.mean().backward()
        assert loss.isfinite().all()
        assert all(param.grad.isfinite().all() for param in method.parameters())


@pytest.mark.parametrize("degree", [0, 1])
def test_the_valuator_learns_from_isolated_and_degree_one_supports_alone(degree):
    rng = np.random.default_rng(0)
    edges = np.zeros((2, 0), dtype=int) if degree == 0 else np.array([[0, 2, 4, 6], [1, 3, 5, 7]])
    graph = Graph.from_arrays(rng.standard_normal((8, 12)), edges, np.arange(8) // 4, directed=False)
    method, nodes = make_gpn(), torch.arange(8)
    labels = torch.tensor([0, 0, 1, 1])
    episode = Episode(torch.tensor([0, 1]), nodes[::2], labels, nodes[1::2], labels)
    method.loss(field_of(method.encoder, graph, episode.nodes), episode).mean().backward()
    assert (method.valuator.head.weight.grad != 0).any()


def test_scores_that_underflow_keep_weights_and_gradients_finite():
    scores = torch.tensor([-500.0, -501.0, 3.0], requires_grad=True)
    weights = make_gpn().weights(scores, torch.tensor([0, 0, 1]), 2)
    torch.testing.assert_close(weights[0, :2], torch.tensor([1.0, 0.0]).softmax(0))
    weights[0, 0].backward()
    assert scores.grad.isfinite().all()
    assert scores.grad[0] > 0


def test_a_query_on_a_prototype_has_a_finite_gradient():
    support = torch.zeros(2, 3, requires_grad=True)
    method = make_gpn(variant="fgsam")
    logits = method.logits((support, torch.zeros(2)), torch.tensor([0, 1]), (torch.zeros(1, 3),), 2)
    logits[0, 0].backward()
    assert (support.grad == 0).all()


def test_the_valuator_reads_support_rows_only():
    graph, episode, method = tiny_graph(), tiny_episode(), make_gpn()
    seen = []
    method.valuator.register_forward_pre_hook(lambda _, args: seen.append(args[0].num_targets))
    method.loss(field_of(method.encoder, graph, episode.nodes), episode)
    assert seen == [episode.num_support]


def test_encoder_and_valuator_share_no_weights():
    method = make_gpn()
    assert not {id(p) for p in method.encoder.parameters()} & {id(p) for p in method.valuator.parameters()}


@pytest.mark.parametrize("offset", [0.0, 1.0, float("nan")])
def test_an_offset_that_silences_isolated_supports_is_refused(offset):
    with pytest.raises(ValueError, match=r"'degree_offset' to be greater than 1 \(got"):
        make_gpn(degree_offset=offset)


def test_an_unknown_variant_is_refused_with_the_nearest_one():
    with pytest.raises(ValueError, match=r"'variant' to be one of published, fgsam .*Did you mean 'published'"):
        make_gpn(variant="publish")


@pytest.mark.parametrize("which", ["gnn", "peer"])
def test_released_form_gives_the_released_figures(which):
    graph = Graph.from_arrays(np.array(RELEASED["x"]), np.array(RELEASED["edge_index"]), [0] * 14, directed=True)
    method, expected, k_shot = released_gpn(), RELEASED["expected"][which], RELEASED["k_shot"]
    labels = torch.arange(2).repeat_interleave(k_shot)
    support, query = torch.tensor(RELEASED["support"]), torch.tensor(RELEASED["query"])
    episode = Episode(torch.tensor([0, 1]), support, labels, query, torch.tensor(RELEASED["query_labels"]))

    field = field_of(method.encoder, graph, episode.nodes, peer=which == "peer")
    embeddings, scores = method.represent(field)
    support_rows, query_rows = embeddings[: len(support)], embeddings[len(support) :]
    weights = method.weights(scores[: len(support)], labels, 2)
    members = torch.stack([weights[c, labels == c] for c in range(2)])

    assert_released(support_rows, expected["support_embeddings"])
    assert_released(method.valuator(field.head(len(support))), expected["scores"])
    assert_released(members, expected["weights"])
    assert_released(weights @ support_rows / k_shot, expected["prototypes"])
    logits = method.logits((support_rows, scores[: len(support)]), labels, (query_rows,), 2)
    assert_released(logits, expected["logits"])
    assert_released(method.loss(field, episode).mean(), expected["loss"])


def released_gpn() -> GPN:
    method = GPN(lambda: GCN(5, hidden=8, dim=4, dropout=0.0, normalise="row"), variant="fgsam").double()
    encoder, valuator = RELEASED["encoder"], RELEASED["valuator"]
    parts = [
        (method.encoder.layers[0], encoder["gcs.0.weight"], encoder["gcs.0.bias"]),
        (method.encoder.layers[1], encoder["gcs.1.weight"], encoder["gcs.1.bias"]),
        (method.valuator.encoder.layers[0], valuator["gc1.weight"], valuator["gc1.bias"]),
        (method.valuator.encoder.layers[1], valuator["gc2.weight"], valuator["gc2.bias"]),
        (method.valuator.head, valuator["fc3.weight"], valuator["fc3.bias"]),
    ]
    with torch.no_grad():
        for layer, weight, bias in parts:
            layer.weight.copy_(torch.tensor(weight))
            layer.bias.copy_(torch.as_tensor(bias))
    return method


def assert_released(actual: torch.Tensor, expected: list | float) -> None:
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-9)
