from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import MinMaxScaler, normalize

from fgsam.methods.linear_probe import LinearProbe
from fgsam.methods.probe import scaled
from fgsam.nn.encoders import field_of
from tests.methods.tiny import make_gcn, tiny_episode, tiny_graph

CLASSES = [0, 1, 3]


def make_probe(**options) -> LinearProbe:
    torch.manual_seed(0)
    return LinearProbe(make_gcn, CLASSES, **options).double()


def split_rows(method, graph, episode):
    (rows,) = method.represent(field_of(method.encoder, graph, episode.nodes))
    return rows[: episode.num_support].detach(), rows[episode.num_support :].detach()


@pytest.mark.parametrize("peer", [False, True])
def test_loss_is_the_negative_log_probability_of_each_node_s_class(peer):
    graph, method = tiny_graph(), make_probe()
    nodes = torch.tensor([1, 30, 9, 2, 25])
    labels = torch.tensor([0, 2, 1, 0, 2])
    loss = method.loss(field_of(method.encoder, graph, nodes, peer=peer), labels)
    weights, biases = method.head.weight.detach(), method.head.bias.detach()
    for node, label, value in zip(nodes, labels, loss, strict=True):
        row = method.encoder(field_of(method.encoder, graph, [int(node)], peer=peer))[0].detach()
        chances = [float((weight @ row + bias).exp()) for weight, bias in zip(weights, biases, strict=True)]
        assert float(value.detach().exp()) == pytest.approx(sum(chances) / chances[label], rel=1e-12)


@pytest.mark.parametrize("scaling", ["none", "unit", "min_max"])
def test_scores_are_those_of_scikit_learn_on_scaled_embeddings(scaling):
    graph, episode, method = tiny_graph(), tiny_episode(), make_probe(scaling=scaling, cost=2.0)
    support, query = split_rows(method, graph, episode)
    rescale = {
        "none": lambda rows: rows,
        "unit": normalize,
        "min_max": MinMaxScaler().fit(support.numpy()).transform,
    }[scaling]
    model = LogisticRegression(C=2.0, tol=1e-9, max_iter=10_000)
    model.fit(rescale(support.numpy()), episode.support_labels.numpy())
    logits = method.logits((support,), episode.support_labels, (query,), 3)
    np.testing.assert_allclose(logits.softmax(-1), model.predict_proba(rescale(query.numpy())), atol=2e-4)


@pytest.mark.parametrize("scaling", ["none", "unit", "min_max"])
def test_a_query_changes_no_other_query_s_score(scaling):
    graph, episode, method = tiny_graph(), tiny_episode(), make_probe(scaling=scaling)
    support, query = split_rows(method, graph, episode)
    whole = method.logits((support,), episode.support_labels, (query,), 3)
    query[0] = 1e6
    changed = method.logits((support,), episode.support_labels, (query,), 3)
    torch.testing.assert_close(changed[1:], whole[1:], rtol=0, atol=0)
    assert not torch.equal(changed[0], whole[0])


def test_columns_in_which_supports_agree_count_for_nothing():
    support = torch.tensor([[0.0, 5.0], [4.0, 5.0], [2.0, 5.0]])
    expected = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 0.0]])
    torch.testing.assert_close(scaled(support, support, "min_max"), expected)
    method = make_probe(scaling="min_max")
    labels = torch.tensor([0, 1, 1])
    one, other = (method.logits((support,), labels, (torch.tensor([[1.0, c]]),), 2) for c in (5.0, -50.0))
    torch.testing.assert_close(one, other)


def test_the_encoder_stays_as_it_is_in_an_episode():
    graph, episode, method = tiny_graph(), tiny_episode(), make_probe()
    before = [param.clone() for param in method.parameters()]
    method.score(field_of(method.encoder, graph, episode.nodes), episode)
    assert all(torch.equal(param, old) for param, old in zip(method.parameters(), before, strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cost": 0.0}, "'cost' to be positive"),
        ({"scaling": "minmax"}, "'scaling' to be one of none, unit, min_max .*Did you mean 'min_max'"),
        ({"batch_size": 0}, "'batch_size' to be positive"),
        ({"max_epochs": 0}, "'max_epochs' to be positive"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_probe(**options)
