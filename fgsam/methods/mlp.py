"""A learner that never sees an edge."""

from __future__ import annotations

from typing import ClassVar

from fgsam.methods.protonet import ProtoNet


class MLP(ProtoNet):
    """A prototypical network whose encoder sees no edges, neither in training nor in test: the floor without a graph.

    Both passes of FGSAM then read the same field, and differ in dropout alone.

    Args:
        make_encoder: Makes the encoder, with fresh weights at each call.
    """

    trains_on_edges: ClassVar[bool] = False
    tests_on_edges: ClassVar[bool] = False
