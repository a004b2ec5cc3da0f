"""Deep graph convolutions with initial residual and identity mapping."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fgsam.checks import check_fraction, check_positive
from fgsam.graph.field import Field
from fgsam.nn.encoders import Encoder
from fgsam.nn.layers import Affine, Dropout, glorot
from fgsam.typing import EdgeKind


class GCNII(Encoder):
    """Deep graph convolutions: each layer mixes in the first rows, and its weight begins near the identity.

    ``H <- relu(M ((1 - beta) I + beta W))`` with ``M = (1 - alpha) A H + alpha H_0`` and
    ``beta = log(theta / depth + 1)``, between two affine maps. The peer is the residual MLP with ``A`` left out.

    Args:
        num_features: Length of a feature vector.
        hidden: Width of all layers.
        dim: Length of an embedding.
        num_layers: Number of layers, each reading one hop, at least 1. Published runs take 8 to 64; the default is the
            shallowest of these, since 8 hops are already most of a small graph.
        dropout: Share of entries set to zero before each layer but the first map while training, in ``[0, 1]``.
        alpha: Weight of the first rows, in ``[0, 1]``.
        theta: Strength of the weights: ``beta`` falls about as ``theta / depth``; positive.

    Source:
        Chen et al., Simple and Deep Graph Convolutional Networks, 2020, Eq. 5; defaults of ``alpha`` and ``theta``
        (there lambda) as in its released code.
    """

    edges: EdgeKind = "sym"

    def __init__(
        self,
        num_features: int,
        *,
        hidden: int = 32,
        dim: int = 16,
        num_layers: int = 8,
        dropout: float = 0.5,
        alpha: float = 0.1,
        theta: float = 0.5,
    ) -> None:
        super().__init__()
        check_positive(hidden=hidden, dim=dim, num_layers=num_layers, theta=theta)
        check_fraction(alpha=alpha)
        self.num_hops = num_layers
        self.dim = dim
        self.alpha = alpha
        self.theta = theta
        self.first = Affine(num_features, hidden)
        self.weights = nn.ParameterList([glorot(hidden, hidden) for _ in range(num_layers)])
        self.last = Affine(hidden, dim)
        self.dropout = Dropout(dropout)

    def forward(self, field: Field) -> Tensor:
        """Embed the targets of a field, shape ``[field.num_targets, dim]``."""
        first_rows = torch.relu(field.first_product(self.first.weight) + self.first.bias)
        h = first_rows
        for depth, weight in enumerate(self.weights, start=1):
            h = field.propagate(self.dropout(h), self.num_hops - depth)
            h = (1 - self.alpha) * h + self.alpha * first_rows[: len(h)]
            beta = math.log(self.theta / depth + 1)
            h = torch.relu((1 - beta) * h + beta * (h @ weight))
        rows: Tensor = self.last(self.dropout(h))
        return rows
