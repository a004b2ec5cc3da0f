from __future__ import annotations

import pytest
import torch

from fgsam.methods.protonet import ProtoNet
from fgsam.nn.encoders import field_of
from tests.methods.tiny import make_gcn, tiny_episode, tiny_graph
from tests.twins.methods import slow_protonet_loss


def test_logits_of_an_episode_worked_by_hand():
    support = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 3.0]])  # means (1, 0) and (0, 3)
    query = torch.tensor([[1.0, 1.0], [0.0, 3.0]])
    logits = ProtoNet(make_gcn).logits((support,), torch.tensor([0, 0, 1]), (query,), 2)
    torch.testing.assert_close(logits, torch.tensor([[-1.0, -5.0], [-10.0, 0.0]]))


@pytest.mark.parametrize("peer", [False, True])
def test_loss_equals_a_loop_over_classes(peer):
    graph, episode, method = tiny_graph(), tiny_episode(), ProtoNet(make_gcn)
    loss = method.loss(field_of(method.encoder, graph, episode.nodes, peer=peer), episode)
    torch.testing.assert_close(loss, slow_protonet_loss(method, graph, episode, peer=peer), rtol=1e-12, atol=1e-12)
