"""An encoder taught by no labels at all, and logistic regression on what it makes of new classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fgsam.checks import check_choice, check_fraction, check_positive
from fgsam.functional.contrast import bootstrap_loss, info_nce
from fgsam.graph.augment import random_views
from fgsam.graph.field import Field
from fgsam.graph.graph import Graph
from fgsam.methods.probe import Probe, Scaling
from fgsam.nn.encoders import Encoder, field_of

if TYPE_CHECKING:
    from fgsam.typing import NodeIds

Pretext = Literal["grace", "bgrl"]


class TLP(Probe):
    """Learns to recognise nodes through random losses of features and edges, then fits a classifier an episode.

    Both views of a step lose a share of the feature columns and of the graph's edges, each its own; row sums are those
    of the graph that is left. Nodes of all classes are learned from, without labels; in the inductive setting, those of
    the training graph. In an episode the encoder stays as it is, and logistic regression learns from the embeddings of
    the support nodes. The peer's views lose the same feature columns, and have no edges to lose.

    ``pretext="grace"`` tells the two views of a node from those of the other nodes of the batch, behind a projection.
    ``pretext="bgrl"`` predicts one view's embedding, made by a moving average of the encoder, from the other's; there
    are no other nodes to tell it from. The average starts at the encoder's weights and moves once a step of the
    optimizer, however many passes that takes; it is no parameter, gets no gradient, and is saved with the weights.

    A run is kept under the name of what it computes, with the digest of its weights, so that the pre-training of a
    class split is done once.

    Args:
        make_encoder: Makes the encoder, with fresh weights at each call.
        pretext: What is learned: grace (contrast) or bgrl (bootstrap).
        batch_size: Nodes in a step; None for all of them, of which grace compares each pair.
        max_epochs: Most times that every node is learned from.
        feature_drop: Share of the feature columns that a view loses, in [0, 1].
        edge_drop: Share of the edges that a view loses, in [0, 1]; self-loops stay. With 0 kept products of edges
            and features can be used, which is faster.
        hidden: Width between the two layers of the projection or prediction.
        temperature: Divides the cosines of grace, positive.
        decay: How much of the average of bgrl is left after a step, in [0, 1].
        scaling: What is done to embeddings before the regression: none, unit (rows to length one) or min_max (columns
            to the range that they have in the support nodes).
        cost: Weight of the loss against the penalty in the regression: scikit-learn's C.

    Raises:
        ValueError: If an option is out of range.

    Source:
        Tan et al., Transductive Linear Probing: A Novel Framework for Few-Shot Node Classification, 2022, whose code
        pre-trains for up to 10,000 epochs and scales columns; Zhu et al., Deep Graph Contrastive Representation
        Learning, 2020; Thakoor et al., Large-Scale Representation Learning on Graphs via Bootstrapping, 2022, where the
        decay grows to 1 by the end of training.
    """

    learns_from = "unlabelled_nodes"

    def __init__(
        self,
        make_encoder: Callable[[], nn.Module],
        *,
        pretext: Pretext = "grace",
        batch_size: int | None = 256,
        max_epochs: int = 200,
        feature_drop: float = 0.3,
        edge_drop: float = 0.2,
        hidden: int = 64,
        temperature: float = 0.5,
        decay: float = 0.99,
        scaling: Scaling = "unit",
        cost: float = 10.0,
    ) -> None:
        super().__init__(make_encoder, batch_size=batch_size, max_epochs=max_epochs, scaling=scaling, cost=cost)
        check_choice(get_args(Pretext), pretext=pretext)
        check_fraction(feature_drop=feature_drop, edge_drop=edge_drop, decay=decay)
        check_positive(hidden=hidden, temperature=temperature)
        self.pretext = pretext
        self.feature_drop = feature_drop
        self.edge_drop = edge_drop
        self.temperature = temperature
        dim = cast(Encoder, self.encoder).dim
        self.head = nn.Sequential(nn.Linear(dim, hidden), nn.ELU(), nn.Linear(hidden, dim))
        self.average = Average(self.encoder, decay) if pretext == "bgrl" else None

    def field(self, graph: Graph, nodes: NodeIds, *, peer: bool = False) -> Field:
        """Build the encoder's field, with all its edges where some will be lost."""
        return field_of(cast(Encoder, self.encoder), graph, nodes, peer=peer, kept=not self.edge_drop)

    def loss(self, field: Field, labels: Tensor) -> Tensor:
        """Compare two views of each target, shape ``[num_targets]``; ``labels`` are not read.

        What views lose comes from torch's global generator, which is in the same state in every pass of a step.
        """
        views = random_views(field, feature_drop=self.feature_drop, edge_drop=self.edge_drop)
        if self.average is None:
            first, second = (self.head(self.encoder(view)) for view in views)
            return info_nce(first, second, temperature=self.temperature)
        targets = [self.average(self.encoder, view) for view in views]
        losses = [
            bootstrap_loss(self.head(self.encoder(view)), target)
            for view, target in zip(views, reversed(targets), strict=True)
        ]
        return torch.stack(losses).mean(0)

    def stepped(self) -> None:
        """Move the average towards the encoder."""
        if self.average is not None:
            self.average.follow(self.encoder)


class Average(nn.Module):
    """A moving average of a module's weights, held in buffers.

    Args:
        module: Whose weights; the average starts there.
        decay: How much of it is left after a step, in ``[0, 1]``.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        super().__init__()
        self.decay = decay
        for place, param in enumerate(module.parameters()):
            self.register_buffer(f"weight_{place}", param.detach().clone())

    @torch.no_grad()
    def forward(self, module: nn.Module, field: Field) -> Tensor:
        """Give what the module makes of a field with these weights, and copies of its own buffers; no gradient."""
        names = [name for name, _ in module.named_parameters()]
        weights = dict(zip(names, self.buffers(), strict=True))
        rows: Tensor = functional_call(module, weights | {n: b.clone() for n, b in module.named_buffers()}, (field,))
        return rows

    @torch.no_grad()
    def follow(self, module: nn.Module) -> None:
        """Move a step towards the weights that the module has now."""
        torch._foreach_lerp_(list(self.buffers()), list(module.parameters()), 1 - self.decay)
