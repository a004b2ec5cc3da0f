"""Graph prototypical networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from fgsam.checks import check_choice
from fgsam.functional.distances import euclidean, squared_euclidean
from fgsam.functional.prototypes import class_members, class_softmax
from fgsam.graph.field import Field
from fgsam.methods.base import Method, divided

Variant = Literal["published", "fgsam"]


class GPN(Method):
    """Prototypes that weigh support nodes by a learned importance, scaled by their centrality.

    With ``z = log(degree + degree_offset) * valuator(node)`` and ``s = sigmoid(z)``, the published form weighs a
    support node by ``s`` over the sum of ``s`` in its class, and scores by negative squared Euclidean distance.

    ``variant="fgsam"`` is the form released with FGSAM: weights are the softmax of ``s`` in the class, the weighted
    embeddings are averaged (which shrinks each prototype by its class size), the distance is not squared, and
    ``z = log(degree) * valuator(node)``, with degree 0 read as degree 1. It ignores ``degree_offset``.

    Args:
        make_encoder: Makes an encoder, with fresh weights at each call; called twice, the second time for the valuator.
        variant: ``"published"`` or ``"fgsam"``.
        degree_offset: Added to the degree, which counts no self-loop, before the logarithm; greater than 1. A support
            node with ``log(degree + degree_offset)`` of zero gives the valuator no gradient, and an isolated one with
            offset 0 gives NaN: with the plain logarithm the first holds for the many nodes of degree 1 in co-purchase
            graphs. From 2 on every node counts.

    Raises:
        ValueError: If ``variant`` is unknown or ``degree_offset`` is not greater than 1.

    Source:
        Ding et al., Graph Prototypical Networks for Few-shot Learning on Attributed Networks, 2020, where the
        centrality is ``log(degree + eps)`` with a small ``eps``.
    """

    def __init__(
        self,
        make_encoder: Callable[[], nn.Module],
        *,
        variant: Variant = "published",
        degree_offset: float = 2.0,
    ) -> None:
        super().__init__(make_encoder)
        check_choice(get_args(Variant), variant=variant)
        if not degree_offset > 1:
            raise ValueError(
                f"Expected 'degree_offset' to be greater than 1 (got degree_offset={degree_offset}). "
                "At 1 or below the scores of isolated support nodes vanish or change sign."
            )
        self.variant = variant
        self.degree_offset = degree_offset
        self.valuator = Valuator(make_encoder())

    def represent(self, field: Field) -> tuple[Tensor, ...]:
        """Embed and value the targets.

        Returns:
            Embeddings, shape ``[num_targets, dim]``, and scores ``z``, shape ``[num_targets]``.
        """
        return self.encoder(field), self._scores(field)

    def logits(
        self, support: tuple[Tensor, ...], support_labels: Tensor, query: tuple[Tensor, ...], n_way: int
    ) -> Tensor:
        """Score by distance to the weighted prototypes, shape ``[..., num_query, n_way]``."""
        embeddings, scores = support
        weights = self.weights(scores, support_labels, n_way)
        if self.variant == "published":
            return -squared_euclidean(query[0], weights @ embeddings)
        sizes = class_members(support_labels, n_way).sum(-1, keepdim=True)
        return -euclidean(query[0], weights @ embeddings / sizes)

    def weights(self, scores: Tensor, support_labels: Tensor, n_way: int) -> Tensor:
        """Weight of each support node in its class.

        Args:
            scores: Scores ``z`` of the support nodes, shape ``[..., num_support]``.
            support_labels: Episode labels in ``0..n_way-1``, shape ``[num_support]`` or ``[..., num_support]``.
            n_way: Number of classes in the episode.

        Returns:
            Weights, shape ``[..., n_way, num_support]``; rows sum to one.
        """
        # s / sum(s) is the softmax of log(s), which stays finite where every s of a class underflows.
        values = F.logsigmoid(scores) if self.variant == "published" else scores.sigmoid()
        return class_softmax(values, support_labels, n_way)

    def _represent_episode(self, field: Field, num_support: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        support, query = divided(self.encoder(field), num_support)
        return (support, self._scores(field.head(num_support))), (query,)

    def _scores(self, field: Field) -> Tensor:
        degree = field.degree[: field.num_targets]
        shifted = degree + self.degree_offset if self.variant == "published" else degree.clamp(min=1.0)
        values: Tensor = self.valuator(field)
        return shifted.to(values.dtype).log() * values


class Valuator(nn.Module):
    """Scores the importance of each target: an encoder, a ReLU and a linear layer with one output.

    Args:
        encoder: Module with an attribute ``dim`` that takes a field and returns ``[num_targets, dim]``.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(int(encoder.dim), 1)  # type: ignore[arg-type]

    def forward(self, field: Field) -> Tensor:
        """Compute one score for each target, shape ``[num_targets]``."""
        rows: Tensor = self.head(self.encoder(field).relu())
        return rows.squeeze(-1)
