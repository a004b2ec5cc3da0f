"""Graph encoders that read a field: the embeddings of its targets, as a pass over the whole graph would give them.

On a field of zero hops each encoder is its own peer MLP: the same weights, every row alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from fgsam.checks import check_fraction, check_positive
from fgsam.graph.field import Field
from fgsam.typing import Boundary, EdgeKind

if TYPE_CHECKING:
    from fgsam.graph.graph import Graph
    from fgsam.typing import NodeIds


class Encoder(nn.Module):
    """What an encoder declares, and what it owes: one row for each target of a field.

    Attributes:
        edges: The weights it wants: the graph's own (``"raw"``) or full-graph ones with self-loops.
        boundary: The width of field on which it is exact.
        folds_first_hop: Whether it begins with ``A @ (X @ W)`` and can use kept rows of ``A @ X``.
        uses_weights: Whether the graph's own edge weights enter.
        num_hops: How far it reads.
        dim: Length of an embedding.
    """

    edges: EdgeKind = "raw"
    boundary: Boundary = "narrow"
    folds_first_hop: bool = False
    uses_weights: bool = True
    num_hops: int
    dim: int

    def forward(self, field: Field) -> Tensor:
        """Embed the targets of a field, shape ``[field.num_targets, dim]``."""
        raise NotImplementedError(f"{type(self).__name__} has to define forward(field)")


def field_of(encoder: Encoder, graph: Graph, nodes: NodeIds, *, peer: bool = False) -> Field:
    """Build the field that an encoder declares.

    Args:
        encoder: Anything with the attributes of :class:`Encoder`.
        graph: Where to look.
        nodes: Target nodes, without repetition.
        peer: Build the field of zero hops, on which the encoder is its own peer MLP.

    Raises:
        ValueError: If the graph has edge weights and the encoder takes none, or a node is out of range.
    """
    if graph.is_weighted and not encoder.uses_weights:
        raise ValueError(
            f"Expected an encoder that takes edge weights, since graph '{graph.name}' has them "
            f"(got {type(encoder).__name__}, which would drop them). Use gcn, sgc, sage, gin or appnp, "
            "or build the graph without edge_weight."
        )
    hops = 0 if peer else encoder.num_hops
    return graph.field(
        nodes, hops, edges=encoder.edges, boundary=encoder.boundary, kept=encoder.folds_first_hop and hops > 0
    )


class Affine(nn.Module):
    """``h @ weight + bias``, initialised like the layers of PyTorch Geometric: Glorot weights, zero bias.

    The weight lies as ``[in, out]``, the way a product of feature rows reads it and its gradient is written.

    Args:
        num_in: Width of the input.
        num_out: Width of the output.
    """

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(_glorot(num_in, num_out))
        self.bias = nn.Parameter(torch.zeros(num_out))

    def forward(self, h: Tensor) -> Tensor:
        """Map rows, shape ``[num_rows, num_in]`` to ``[num_rows, num_out]``."""
        return torch.addmm(self.bias, h, self.weight)


class Layers(nn.ModuleList):
    """Affine layers in a row.

    Args:
        widths: Width of the input, between the layers, and of the output.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        check_positive(**{f"width of layer {depth}": width for depth, width in enumerate(widths)})
        super().__init__(Affine(num_in, num_out) for num_in, num_out in pairwise(widths))

    def __iter__(self) -> Iterator[Affine]:
        return iter(self._modules.values())  # type: ignore[arg-type]


class Dropout(nn.Module):
    """Sets a share of the entries to zero while training and scales the others up.

    torch's own dropout draws its mask three times more slowly on the CPU, which shows on matrices as small as these.

    Args:
        share: Chance of an entry to become zero, in ``[0, 1]``.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        check_fraction(dropout=share)
        self.share = share

    def forward(self, h: Tensor) -> Tensor:
        """Drop entries of ``h``, any shape; in evaluation mode nothing happens."""
        if not self.training or self.share == 0.0:
            return h
        if self.share == 1.0:
            return h * 0.0
        kept = torch.rand(h.shape, device=h.device) >= self.share
        return h * (kept.to(h.dtype) / (1.0 - self.share))


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
        self.edges = _normalised(normalise)
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

    def __init__(self, num_features: int, *, dim: int = 16, num_layers: int = 2, normalise: EdgeKind = "sym") -> None:
        super().__init__()
        check_positive(num_layers=num_layers, dim=dim)
        self.edges = _normalised(normalise)
        self.num_hops = num_layers
        self.dim = dim
        self.layer = Affine(num_features, dim)

    def forward(self, field: Field) -> Tensor:
        """Embed the targets of a field, shape ``[field.num_targets, dim]``."""
        h = field.first_product(self.layer.weight, propagate=True)
        for hop in reversed(range(self.num_hops - 1)):
            h = field.propagate(h, hop)
        return h + self.layer.bias


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
        self.own_weights = nn.ParameterList([_glorot(*pair) for pair in pairwise(widths)])
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
        self.weights = nn.ParameterList([_glorot(i, heads * o) for i, o in zip(ins, outs, strict=True)])
        self.biases = nn.ParameterList([torch.zeros(width) for width in [hidden] * (num_layers - 1) + [dim]])
        self.from_source = nn.ParameterList([_glorot(heads, out) for out in outs])
        self.from_target = nn.ParameterList([_glorot(heads, out) for out in outs])
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
        averaged: Tensor = h.new_zeros(num_rows, *h.shape[1:]).index_add(0, target, attention * h[source])
        return averaged


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


def _normalised(edges: EdgeKind) -> EdgeKind:
    if edges not in ("row", "sym"):
        raise ValueError(f"Expected 'normalise' to be 'row' or 'sym' (got '{edges}')")
    return edges


def _glorot(num_in: int, num_out: int) -> Tensor:
    return nn.init.xavier_uniform_(torch.empty(num_in, num_out))


def _sums_of_weights(field: Field, to_hop: int) -> Tensor:
    """The weights of each row's in-edges added up, 1 for rows without any, shape ``[num_rows, 1]``."""
    if field.is_peer:
        return field.adjacency.values.unsqueeze(1)
    block = field.block(to_hop)
    sums = block.product(block.values.new_ones(block.shape[1], 1))
    return torch.where(sums == 0, torch.ones_like(sums), sums)
