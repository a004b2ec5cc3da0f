"""A learner that is trained without message passing and tested with it."""

from __future__ import annotations

from typing import ClassVar

from fgsam.methods.protonet import ProtoNet


class PeerMLP(ProtoNet):
    """A prototypical network whose encoder sees edges in validation and test only.

    Both passes of FGSAM then read the same field, and differ in dropout alone.

    Args:
        make_encoder: Makes the encoder, with fresh weights at each call.

    Source:
        Yang et al., Graph Neural Networks are Inherently Good Generalizers: Insights by Bridging GNNs and MLPs, 2023.
    """

    trains_on_edges: ClassVar[bool] = False
