"""An encoder taught the base classes, and logistic regression on what it makes of new ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, cast

import torch.nn.functional as F
from torch import Tensor, nn

from fgsam.graph.field import Field
from fgsam.methods.probe import Probe, Scaling
from fgsam.nn.encoders import Encoder


class LinearProbe(Probe):
    """Learns to classify the nodes of the base classes, then keeps the encoder and fits a new classifier an episode.

    Pre-training minimises the cross-entropy of a linear classifier over all base classes. The encoder stays as it is
    in an episode, where logistic regression learns from the embeddings of the support nodes. A run is kept under the
    name of what it computes, with the digest of its weights, so that the pre-training of a class split is done once.

    Args:
        make_encoder: Makes the encoder, with fresh weights at each call.
        classes: Ids of the classes that are taught, at least one; only their number counts.
        batch_size: Nodes in a step; None for all of them.
        max_epochs: Most times that every node is learned from.
        scaling: What is done to embeddings before the regression: none, unit (rows to length one) or min_max (columns
            to the range that they have in the support nodes).
        cost: Weight of the loss against the penalty in the regression: scikit-learn's C.

    Raises:
        ValueError: If ``batch_size``, ``max_epochs`` or ``cost`` is not positive, or ``scaling`` is unknown.

    Source:
        Tian et al., Rethinking Few-Shot Image Classification: a Good Embedding Is All You Need?, 2020. On graphs the
        supervised arm of Tan et al., Transductive Linear Probing, 2022, whose code scales columns.
    """

    num_given: ClassVar[int] = 2

    def __init__(
        self,
        make_encoder: Callable[[], nn.Module],
        classes: Sequence[int],
        *,
        batch_size: int | None = 128,
        max_epochs: int = 200,
        scaling: Scaling = "unit",
        cost: float = 10.0,
    ) -> None:
        super().__init__(make_encoder, batch_size=batch_size, max_epochs=max_epochs, scaling=scaling, cost=cost)
        self.head = nn.Linear(cast(Encoder, self.encoder).dim, len(classes))

    def loss(self, field: Field, labels: Tensor) -> Tensor:
        """Cross-entropy of each target, shape ``[num_targets]``; ``labels`` are places in the list of classes."""
        return F.cross_entropy(self.head(self.encoder(field)), labels, reduction="none")
