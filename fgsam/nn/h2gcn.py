"""Own rows, neighbours and neighbours of neighbours kept apart, for graphs whose neighbours differ."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from fgsam.checks import check_choice, check_positive
from fgsam.graph.field import Field
from fgsam.nn.encoders import Encoder
from fgsam.nn.layers import Affine, Dropout, glorot

Reading = Literal["zero", "copy"]

_ADVICE = {
    "zero": "It leaves self-loops out, so its peer is a choice: peer='zero', the neighbour blocks are empty and the "
    "graph's term of the gradient alone moves their weight. The other is peer='copy'.",
    "copy": "It leaves self-loops out, so its peer is a choice: peer='copy', a node's own rows stand in for its "
    "neighbours'. The other is peer='zero'.",
}


class H2GCN(Encoder):
    """Rounds that put the sums over the nodes one and two hops away side by side, and a linear map of all rounds.

    ``R_0 = relu(X W + b)`` and ``R_k = [A_1 R_{k-1}, A_2 R_{k-1}]``, then dropout and an affine map of all of them side
    by side. ``A_1`` and ``A_2`` are those of :meth:`fgsam.graph.graph.Graph.ring`: exactly one and exactly two hops
    away, no self-loops, each scaled by its own degrees. Directed edges are followed as given, from target to source.
    ``A_2`` is large on dense graphs; where it would exceed the graph's ``memory_mb``, the first pass is an error.

    Rows that see only themselves have no neighbours here, so that the peer is a choice and not a consequence.

    Args:
        num_features: Length of a feature vector.
        hidden: Width of ``R_0``; ``R_k`` is ``2^k`` times as wide.
        dim: Length of an embedding.
        num_layers: Number of rounds K, each reading two hops, at least 1.
        dropout: Share of entries set to zero before the last map while training, in ``[0, 1]``.
        peer: What stands in the neighbour blocks of the peer. ``"zero"``: nothing, as on a graph of self-loops.
            ``"copy"``: the node's own rows, which keeps all weights alive.

    Source:
        Zhu et al., Beyond Homophily in Graph Neural Networks, 2020, section 3.2, with the two rounds of H2GCN-2.
    """

    uses_weights = False

    def __init__(
        self,
        num_features: int,
        *,
        hidden: int = 32,
        dim: int = 16,
        num_layers: int = 2,
        dropout: float = 0.5,
        peer: Reading = "zero",
    ) -> None:
        super().__init__()
        check_positive(hidden=hidden, dim=dim, num_layers=num_layers)
        check_choice(get_args(Reading), peer=peer)
        self.num_hops = 2 * num_layers
        self.dim = dim
        self.peer = peer
        self.peer_rule = ("chosen", _ADVICE[peer])
        self.first = Affine(num_features, hidden)
        # Drawn as the one map that the two halves are, so that the bound is that of its whole width.
        own, neighbours = glorot(hidden * (2 ** (num_layers + 1) - 1), dim).tensor_split([hidden])
        self.own_weight = nn.Parameter(own.clone())
        self.neighbour_weight = nn.Parameter(neighbours.clone())
        self.bias = nn.Parameter(torch.zeros(dim))
        self.dropout = Dropout(dropout)

    def forward(self, field: Field) -> Tensor:
        """Embed the targets of a field, shape ``[field.num_targets, dim]``."""
        r = torch.relu(field.first_product(self.first.weight) + self.first.bias)
        own: Tensor = self.dropout(r[: field.num_targets]) @ self.own_weight + self.bias
        if field.is_peer and self.peer == "zero":
            return own
        rounds = []
        for to_hop in range(self.num_hops - 2, -1, -2):
            r = torch.cat([r, r] if field.is_peer else [field.propagate_ring(r, to_hop, d) for d in (1, 2)], dim=1)
            rounds.append(r[: field.num_targets])
        rows: Tensor = own + self.dropout(torch.cat(rounds, dim=1)) @ self.neighbour_weight
        return rows
