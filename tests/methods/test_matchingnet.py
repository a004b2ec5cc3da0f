from __future__ import annotations

import math

import pytest
import torch

from fgsam.methods.matchingnet import MatchingNet
from fgsam.nn.encoders import field_of
from tests.methods.tiny import make_gcn, tiny_episode, tiny_graph
from tests.twins.methods import slow_matchingnet_loss


def test_logits_of_an_episode_worked_by_hand():
    # At temperature 1 / log 2 a cosine c has the weight 2^c: the votes of the first query are 2, 2, 1 and 1/2, those
    # of the second 1, 1, 2 and 1.
    support = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [-1.0, 0.0]])
    query = torch.tensor([[5.0, 0.0], [0.0, 0.5]])
    method = MatchingNet(make_gcn, temperature=1 / math.log(2))
    logits = method.logits((support,), torch.tensor([0, 0, 1, 1]), (query,), 2)
    torch.testing.assert_close(logits, torch.tensor([[8 / 11, 3 / 11], [2 / 5, 3 / 5]]).log())


@pytest.mark.parametrize("peer", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_loss_and_gradient_equal_a_loop_over_pairs(temperature, peer):
    torch.manual_seed(0)
    graph, episode, method = tiny_graph(), tiny_episode(), MatchingNet(make_gcn, temperature=temperature)
    loss = method.loss(field_of(method.encoder, graph, episode.nodes, peer=peer), episode)
    slow = slow_matchingnet_loss(method, graph, episode, peer=peer)
    torch.testing.assert_close(loss, slow, rtol=1e-12, atol=1e-12)
    weights = list(method.parameters())
    torch.testing.assert_close(
        torch.autograd.grad(loss.mean(), weights), torch.autograd.grad(slow.mean(), weights), rtol=1e-10, atol=1e-12
    )


def test_logits_are_log_probabilities_however_cold():
    support = torch.eye(3, requires_grad=True)
    method = MatchingNet(make_gcn, temperature=1e-3)
    logits = method.logits((support,), torch.arange(3), (torch.tensor([[1.0, -2.0, 0.0]]),), 3)
    torch.testing.assert_close(logits.logsumexp(-1), torch.zeros(1))
    assert logits.min() < -1000  # its exponential is zero
    logits.min().backward()
    assert support.grad.isfinite().all()
    assert support.grad.abs().max() > 0


def test_embeddings_of_zeros_vote_alike_and_keep_gradients_finite():
    support = torch.zeros(4, 2, requires_grad=True)
    query = torch.tensor([[0.0, 0.0], [1.0, 2.0]], requires_grad=True)
    logits = MatchingNet(make_gcn).logits((support,), torch.tensor([0, 0, 0, 1]), (query,), 2)
    torch.testing.assert_close(logits, torch.tensor([[3 / 4, 1 / 4]] * 2).log())
    logits[:, 0].sum().backward()
    assert (support.grad == 0).all()
    assert (query.grad == 0).all()


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ValueError, match=r"'temperature' to be positive \(got"):
        MatchingNet(make_gcn, temperature=temperature)
