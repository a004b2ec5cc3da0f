"""Graph attention network."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from fgsam.checks import check_positive
from fgsam.graph.field import Field
from fgsam.nn.encoders import Encoder
from fgsam.nn.layers import Dropout, glorot
from fgsam.typing import EdgeKind


class GAT(Encoder):
    """Attention over in-neighbours and the node itself, several heads side by side.

    In the peer every row attends only to itself, so the attention vectors get no gradient there.

    Args:
        num_features: Length of a feature vector.
        hidden: Width of the inner layers, all heads together; divisible by ``heads``.
        dim: Length of an embedding; the last layer takes the mean over its heads.
        num_layers: Number of layers, each reading one hop, at least 1.
        dropout: Share of entries set to zero between layers while training, in ``[0, 1]``.
        heads: Number of attention heads.

    Source:
        Velickovic et al., Graph Attention Networks, 2018, Eq. 3 to 6.
    """

    edges: EdgeKind = "row"  # for its self-loops; the weights are not used
    uses_weights = False

    def __init__(
        self,
        num_features: int,
        *,
        hidden: int = 32,
        dim: int = 16,
        num_layers: int = 2,
        dropout: float = 0.5,
        heads: int = 4,
    ) -> None:
        super().__init__()
        check_positive(num_layers=num_layers, heads=heads)
        if hidden % heads:
            raise ValueError(f"Expected 'hidden' to be divisible by 'heads' (got hidden={hidden}, heads={heads})")
        self.num_hops = num_layers
        self.dim = dim
        self.heads = heads
        outs = [hidden // heads] * (num_layers - 1) + [dim]
        ins = [num_features] + [hidden] * (num_layers - 1)
        self.weights = nn.ParameterList([glorot(i, heads * o) for i, o in zip(ins, outs, strict=True)])
        self.biases = nn.ParameterList([torch.zeros(width) for width in [hidden] * (num_layers - 1) + [dim]])
        self.from_source = nn.ParameterList([glorot(heads, out) for out in outs])
        self.from_target = nn.ParameterList([glorot(heads, out) for out in outs])
        self.dropout = Dropout(dropout)

    def forward(self, field: Field) -> Tensor:
        """Embed the targets of a field, shape ``[field.num_targets, dim]``."""
        h: Tensor | None = None
        for depth, weight in enumerate(self.weights, start=1):
            product = field.first_product(weight) if h is None else self.dropout(torch.relu(h)) @ weight
            h = self._attend(field, product.unflatten(1, (self.heads, -1)), depth)
            h = (h.mean(dim=1) if depth == self.num_hops else h.flatten(1)) + self.biases[depth - 1]
        assert h is not None
        return h

    def _attend(self, field: Field, h: Tensor, depth: int) -> Tensor:
        """Average the rows of in-neighbours by attention, shape ``[num_rows, heads, width]``."""
        block = field.block(self.num_hops - depth)
        source, num_rows = block.col.long(), block.shape[0]
        target = torch.repeat_interleave(torch.arange(num_rows, device=h.device), block.rowptr.diff().long())
        from_source = (h * self.from_source[depth - 1]).sum(-1)
        from_target = (h[:num_rows] * self.from_target[depth - 1]).sum(-1)
        score = functional.leaky_relu(from_source[source] + from_target[target], 0.2)
        # Subtracting each row's maximum changes nothing but keeps the exponentials finite.
        top = score.new_full((num_rows, self.heads), -torch.inf)
        top = top.scatter_reduce(0, target.unsqueeze(1).expand_as(score), score.detach(), "amax")
        share = (score - top[target]).exp()
        total = share.new_zeros(num_rows, self.heads).index_add(0, target, share)
        attention = (share / total[target]).unsqueeze(-1)
        messages = attention * h[source]
        averaged: Tensor = messages.new_zeros(num_rows, *h.shape[1:]).index_add(0, target, messages)
        return averaged
