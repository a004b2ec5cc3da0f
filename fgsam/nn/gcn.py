"""Graph convolutional network."""

from __future__ import annotations

import torch
from torch import Tensor

from fgsam.checks import check_positive
from fgsam.graph.field import Field
from fgsam.nn.encoders import Encoder
from fgsam.nn.layers import Dropout, Layers, checked_normalisation
from fgsam.typing import EdgeKind


class GCN(Encoder):
    """Graph convolutions: every layer averages neighbours, ReLU and dropout between them.

    Each layer is ``A @ (H @ W) + b`` with the full-graph weights ``A``.

    Args:
        num_features: Length of a feature vector.
        hidden: Width of the inner layers.
        dim: Length of an embedding.
        num_layers: Number of layers, each reading one hop, at least 1.
        dropout: Share of entries set to zero between layers while training, in ``[0, 1]``.
        normalise: ``"sym"`` scales by the square roots of both degrees, ``"row"`` takes the mean.

    Source:
        Kipf and Welling, Semi-Supervised Classification with Graph Convolutional Networks, 2017, Eq. 2. Widths and
        dropout as in Ding et al., Graph Prototypical Networks, 2020.
    """

    folds_first_hop = True
    stacks = True

    def __init__(
        self,
        num_features: int,
        *,
        hidden: int = 32,
        dim: int = 16,
        num_layers: int = 2,
        dropout: float = 0.5,
        normalise: EdgeKind = "sym",
    ) -> None:
        super().__init__()
        check_positive(num_layers=num_layers)
        self.edges = checked_normalisation(normalise)
        self.num_hops = num_layers
        self.dim = dim
        self.layers = Layers([num_features, *[hidden] * (num_layers - 1), dim])
        self.dropout = Dropout(dropout)

    def forward(self, field: Field) -> Tensor:
        """Embed the targets of a field, shape ``[field.num_targets, dim]``."""
        first, *others = self.layers
        h = field.first_product(first.weight, propagate=True) + first.bias
        for depth, layer in enumerate(others, start=2):
            h = self.dropout(torch.relu(h))
            h = field.propagate(h @ layer.weight, self.num_hops - depth) + layer.bias
        return h
