"""An MLP spread by personalised PageRank."""

from __future__ import annotations

import torch
from torch import Tensor

from fgsam.checks import check_fraction, check_positive
from fgsam.graph.field import Field
from fgsam.nn.encoders import Encoder
from fgsam.nn.layers import Dropout, Layers
from fgsam.typing import EdgeKind


class APPNP(Encoder):
    """An MLP whose outputs are spread by personalised PageRank: ``Z <- (1 - teleport) A Z + teleport H``.

    All weights live in the MLP, so the peer is that MLP itself.

    Args:
        num_features: Length of a feature vector.
        hidden: Width of the MLP's inner layer.
        dim: Length of an embedding.
        dropout: Share of entries set to zero between layers while training, in ``[0, 1]``.
        num_hops: Number of propagation steps; the published setting 10 reads most of a small graph.
        teleport: Weight of a node's own output, in ``[0, 1]``.

    Source:
        Gasteiger et al., Predict then Propagate, 2019, Eq. 4.
    """

    edges: EdgeKind = "sym"

    def __init__(
        self,
        num_features: int,
        *,
        hidden: int = 32,
        dim: int = 16,
        dropout: float = 0.5,
        num_hops: int = 10,
        teleport: float = 0.1,
    ) -> None:
        super().__init__()
        check_positive(num_hops=num_hops)
        check_fraction(teleport=teleport)
        self.num_hops = num_hops
        self.dim = dim
        self.teleport = teleport
        self.layers = Layers([num_features, hidden, dim])
        self.dropout = Dropout(dropout)

    def forward(self, field: Field) -> Tensor:
        """Embed the targets of a field, shape ``[field.num_targets, dim]``."""
        first, second = self.layers
        h: Tensor = torch.relu(field.first_product(first.weight) + first.bias)
        h = second(self.dropout(h))
        z = h
        for hop in reversed(range(self.num_hops)):
            z = field.propagate(z, hop)
            z = (1 - self.teleport) * z + self.teleport * h[: len(z)]
        return z
