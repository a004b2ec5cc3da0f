"""Graph isomorphism network."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from fgsam.checks import check_positive
from fgsam.graph.field import Field
from fgsam.nn.encoders import Encoder
from fgsam.nn.layers import Dropout, Layers


class GIN(Encoder):
    """Each layer sums in-neighbours and passes the sum through a small MLP: ``mlp((1 + eps) h_i + sum_j h_j)``.

    Args:
        num_features: Length of a feature vector.
        hidden: Width of the inner layers and of the MLPs.
        dim: Length of an embedding.
        num_layers: Number of layers, each reading one hop, at least 1.
        dropout: Share of entries set to zero between layers while training, in ``[0, 1]``.
        eps: Extra weight of a node's own row.

    Source:
        Xu et al., How Powerful are Graph Neural Networks?, 2019, Eq. 4.1.
    """

    def __init__(
        self,
        num_features: int,
        *,
        hidden: int = 32,
        dim: int = 16,
        num_layers: int = 2,
        dropout: float = 0.5,
        eps: float = 0.0,
    ) -> None:
        super().__init__()
        check_positive(num_layers=num_layers)
        self.num_hops = num_layers
        self.dim = dim
        self.eps = eps
        widths = [num_features, *[hidden] * (num_layers - 1)]
        self.mlps = nn.ModuleList([Layers([i, hidden, o]) for i, o in pairwise([*widths, dim])])
        self.dropout = Dropout(dropout)

    def forward(self, field: Field) -> Tensor:
        """Embed the targets of a field, shape ``[field.num_targets, dim]``."""
        h: Tensor | None = None
        for depth, mlp in enumerate(self.mlps, start=1):
            inner, outer = cast(Layers, mlp)
            # The sum over neighbours and the first linear map commute; the narrower factor travels.
            weight = inner.weight
            product = field.first_product(weight) if h is None else self.dropout(torch.relu(h)) @ weight
            total = field.propagate(product, self.num_hops - depth)
            h = outer(torch.relu(total + (1 + self.eps) * product[: len(total)] + inner.bias))
        assert h is not None
        return h
