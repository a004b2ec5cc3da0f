"""GraphSAGE with the mean of in-neighbours."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from fgsam.checks import check_positive
from fgsam.graph.field import Field
from fgsam.nn.encoders import Encoder
from fgsam.nn.layers import Dropout, Layers, glorot


class SAGE(Encoder):
    """Each layer joins a node's own row with the mean of its in-neighbours: ``W_l mean(h_j) + W_r h_i + b``.

    A node without in-neighbours has a mean of zero; edge weights weigh the mean.

    Args:
        num_features: Length of a feature vector.
        hidden: Width of the inner layers.
        dim: Length of an embedding.
        num_layers: Number of layers, each reading one hop, at least 1.
        dropout: Share of entries set to zero between layers while training, in ``[0, 1]``.

    Source:
        Hamilton et al., Inductive Representation Learning on Large Graphs, 2017, Algorithm 1 with the mean aggregator.
    """

    def __init__(
        self, num_features: int, *, hidden: int = 32, dim: int = 16, num_layers: int = 2, dropout: float = 0.5
    ) -> None:
        super().__init__()
        check_positive(num_layers=num_layers)
        self.num_hops = num_layers
        self.dim = dim
        widths = [num_features, *[hidden] * (num_layers - 1), dim]
        self.neighbour_layers = Layers(widths)
        self.own_weights = nn.ParameterList([glorot(*pair) for pair in pairwise(widths)])
        self.dropout = Dropout(dropout)

    def forward(self, field: Field) -> Tensor:
        """Embed the targets of a field, shape ``[field.num_targets, dim]``."""
        h: Tensor | None = None
        for depth, (neighbour, own) in enumerate(zip(self.neighbour_layers, self.own_weights, strict=True), start=1):
            weight = torch.cat([neighbour.weight, own], dim=1)
            product = field.first_product(weight) if h is None else self.dropout(torch.relu(h)) @ weight
            from_neighbours, from_own = product.split(own.size(1), dim=1)
            to_hop = self.num_hops - depth
            mean = field.propagate(from_neighbours, to_hop) / _sums_of_weights(field, to_hop)
            h = mean + from_own[: len(mean)] + neighbour.bias
        assert h is not None
        return h


def _sums_of_weights(field: Field, to_hop: int) -> Tensor:
    """The weights of each row's in-edges added up, 1 for rows without any, shape ``[num_rows, 1]``."""
    if field.is_peer:
        return field.adjacency.values.unsqueeze(1)
    block = field.block(to_hop)
    sums = block.product(block.values.new_ones(block.shape[1], 1))
    return torch.where(sums == 0, torch.ones_like(sums), sums)
