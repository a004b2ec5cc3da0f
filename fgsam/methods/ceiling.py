"""How far the linear probe comes when nothing is kept from it."""

from __future__ import annotations

from typing import ClassVar

from fgsam.methods.base import Lesson
from fgsam.methods.linear_probe import LinearProbe


class Ceiling(LinearProbe):
    """The linear probe, taught all classes with all their labels: it has seen what it is tested on.

    No few-shot learner. The labels of the very nodes that it is asked about went into its encoder, so that its score
    says what encoder and graph allow, and how much is lost by knowing only the base classes. Transductive only: in the
    inductive setting the training graph does not hold the classes, and a run is refused.

    Args:
        make_encoder: Makes the encoder, with fresh weights at each call.
        classes: Ids of the classes that are taught: all of the class split.
        batch_size: Nodes in a step; None for all of them.
        max_epochs: Most times that every node is learned from.
        scaling: What is done to embeddings before the regression: none, unit (rows to length one) or min_max (columns
            to the range that they have in the support nodes).
        cost: Weight of the loss against the penalty in the regression: scikit-learn's C.
    """

    learns_from: ClassVar[Lesson] = "all_nodes"
