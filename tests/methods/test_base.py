from __future__ import annotations

import pytest

from fgsam.methods.base import Method
from fgsam.methods.protonet import ProtoNet
from fgsam.nn.encoders import field_of
from tests.methods.tiny import make_gcn, tiny_episode, tiny_graph


def test_a_method_without_logits_cannot_be_made():
    class Half(Method):
        def represent(self, field):
            return (self.encoder(field),)

    with pytest.raises(TypeError, match="logits"):
        Half(make_gcn)


def test_a_field_of_other_nodes_is_refused():
    method, episode = ProtoNet(make_gcn), tiny_episode()
    field = field_of(method.encoder, tiny_graph(), episode.support)
    with pytest.raises(ValueError, match=r"got 9 targets, 21 nodes.*field of episode.nodes"):
        method.loss(field, episode)
