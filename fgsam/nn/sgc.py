"""Simplified graph convolution."""

from __future__ import annotations

from torch import Tensor

from fgsam.checks import check_positive
from fgsam.graph.field import Field
from fgsam.nn.encoders import Encoder
from fgsam.nn.layers import Affine, checked_normalisation
from fgsam.typing import EdgeKind


class SGC(Encoder):
    """One linear layer on features averaged over several hops, ``A^K @ X @ W + b``.

    Args:
        num_features: Length of a feature vector.
        dim: Length of an embedding.
        num_layers: Number of hops K, at least 1.
        normalise: ``"sym"`` or ``"row"``, as in :class:`GCN`.

    Source:
        Wu et al., Simplifying Graph Convolutional Networks, 2019, Eq. 8.
    """

    folds_first_hop = True
    stacks = True

    def __init__(self, num_features: int, *, dim: int = 16, num_layers: int = 2, normalise: EdgeKind = "sym") -> None:
        super().__init__()
        check_positive(num_layers=num_layers, dim=dim)
        self.edges = checked_normalisation(normalise)
        self.num_hops = num_layers
        self.dim = dim
        self.layer = Affine(num_features, dim)

    def forward(self, field: Field) -> Tensor:
        """Embed the targets of a field, shape ``[field.num_targets, dim]``."""
        h = field.first_product(self.layer.weight, propagate=True)
        for hop in reversed(range(self.num_hops - 1)):
            h = field.propagate(h, hop)
        return h + self.layer.bias
