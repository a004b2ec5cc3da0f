"""An MLP spread by a PageRank whose weights are learned."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fgsam.checks import check_fraction, check_positive
from fgsam.graph.field import Field
from fgsam.nn.encoders import Encoder
from fgsam.nn.layers import Dropout, Layers
from fgsam.typing import EdgeKind


class GPRGNN(Encoder):
    """An MLP whose outputs are spread by a generalised PageRank: ``Z = sum_k gamma_k A^k H`` with learned ``gamma``.

    The ``gamma`` may become negative, which suits graphs whose neighbours differ. They begin as those of personalised
    PageRank, ``teleport (1 - teleport)^k`` and ``(1 - teleport)^K`` for the last, which sum to 1. The peer is the MLP
    times the sum of the ``gamma``: the MLP itself at first, and up to that scale later.

    Args:
        num_features: Length of a feature vector.
        hidden: Width of the MLP's inner layer.
        dim: Length of an embedding.
        dropout: Share of entries set to zero between layers while training, in ``[0, 1]``.
        num_hops: Number of propagation steps K; the published setting 10 reads most of a small graph.
        teleport: Sets the first values of ``gamma``, in ``[0, 1]``.

    Source:
        Chien et al., Adaptive Universal Generalized PageRank Graph Neural Network, 2021, section 3. Steps and
        ``teleport`` as in the released code's defaults (K=10, alpha=0.1, init PPR).
    """

    edges: EdgeKind = "sym"
    peer_rule = ("defined", "Nothing: the peer is the MLP times the sum of gamma, which is 1 before training.")

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
        self.layers = Layers([num_features, hidden, dim])
        left = (1 - teleport) ** torch.arange(num_hops + 1)
        self.gamma = nn.Parameter(torch.cat([teleport * left[:-1], left[-1:]]))
        self.dropout = Dropout(dropout)

    def forward(self, field: Field) -> Tensor:
        """Embed the targets of a field, shape ``[field.num_targets, dim]``."""
        first, second = self.layers
        h: Tensor = torch.relu(field.first_product(first.weight) + first.bias)
        h = second(self.dropout(h))
        z = self.gamma[0] * h[: field.num_targets]
        for step in range(1, self.num_hops + 1):
            h = field.propagate(h, self.num_hops - step)
            z = z + self.gamma[step] * h[: field.num_targets]
        return z
