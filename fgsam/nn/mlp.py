"""A multilayer perceptron, which reads no edges."""

from __future__ import annotations

import torch
from torch import Tensor

from fgsam.checks import check_positive
from fgsam.graph.field import Field
from fgsam.nn.encoders import Encoder
from fgsam.nn.layers import Dropout, Layers


class MLP(Encoder):
    """Affine layers on the features alone, ReLU and dropout between them: a node sees only itself, and is its own peer.

    Args:
        num_features: Length of a feature vector.
        hidden: Width of the inner layers.
        dim: Length of an embedding.
        num_layers: Number of layers, at least 1.
        dropout: Share of entries set to zero between layers while training, in ``[0, 1]``.
    """

    num_hops = 0
    peer_rule = ("row-wise", "Nothing.")

    def __init__(
        self, num_features: int, *, hidden: int = 32, dim: int = 16, num_layers: int = 2, dropout: float = 0.5
    ) -> None:
        super().__init__()
        check_positive(num_layers=num_layers)
        self.dim = dim
        self.layers = Layers([num_features, *[hidden] * (num_layers - 1), dim])
        self.dropout = Dropout(dropout)

    def forward(self, field: Field) -> Tensor:
        """Embed the targets of a field, shape ``[field.num_targets, dim]``."""
        first, *others = self.layers
        h = field.first_product(first.weight)[: field.num_targets] + first.bias
        for layer in others:
            h = layer(self.dropout(torch.relu(h)))
        return h
