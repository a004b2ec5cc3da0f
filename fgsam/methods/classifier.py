"""A classifier of nodes by their embeddings."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal, cast

import torch.nn.functional as F
from torch import Tensor, nn

from fgsam.checks import check_choice
from fgsam.graph.field import Field
from fgsam.nn.encoders import Encoder

MessagePassing = Literal["always", "test", "never"]


class NodeClassifier(nn.Module):
    """Classifies a node by a linear map of its embedding.

    With ``dim`` of at least ``num_classes``, a GCN of two layers and this map make the usual GCN of two layers, its
    last weight written as a product.

    Args:
        make_encoder: Makes the encoder: a module with an attribute ``dim`` that takes a field and returns one row a
            target, shape ``[num_targets, dim]``.
        num_classes: Number of classes, at least 1.
        message_passing: ``"always"`` for a GNN; ``"test"`` for PeerMLP, which is trained without edges and tested with
            them; ``"never"`` for an MLP.

    Raises:
        ValueError: If ``message_passing`` is none of these.

    Source:
        Kipf and Welling, Semi-Supervised Classification with Graph Convolutional Networks, 2017; for ``"test"`` Yang
        et al., Graph Neural Networks are Inherently Good Generalizers: Insights by Bridging GNNs and MLPs, 2023.
    """

    is_trained: ClassVar[bool] = True

    def __init__(
        self, make_encoder: Callable[[], nn.Module], num_classes: int, *, message_passing: MessagePassing = "always"
    ) -> None:
        super().__init__()
        check_choice(("always", "test", "never"), message_passing=message_passing)
        self.encoder = make_encoder()
        self.head = nn.Linear(cast(Encoder, self.encoder).dim, num_classes)
        self.message_passing = message_passing

    @property
    def trains_on_edges(self) -> bool:
        """Whether the field of a training step has hops."""
        return self.message_passing == "always"

    @property
    def tests_on_edges(self) -> bool:
        """Whether the field of an evaluation has hops."""
        return self.message_passing != "never"

    def forward(self, field: Field) -> Tensor:
        """Score the targets of a field for each class: logits, shape ``[field.num_targets, num_classes]``."""
        logits: Tensor = self.head(self.encoder(field))
        return logits

    def loss(self, field: Field, labels: Tensor) -> Tensor:
        """Cross-entropy of each target.

        Args:
            field: Any target nodes.
            labels: Their classes, shape ``[field.num_targets]``.

        Returns:
            One loss for each target, shape ``[field.num_targets]``; their mean is the objective.
        """
        return F.cross_entropy(self(field), labels, reduction="none")
