"""MAML on features that every episode scales for itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fgsam.checks import check_choice, check_positive
from fgsam.episodes.episode import Episode
from fgsam.episodes.streams import generator
from fgsam.functional.inner import Order
from fgsam.graph.field import Field
from fgsam.graph.scaled import scaled
from fgsam.graph.sparse import SparseMatrix
from fgsam.methods.adapting import Adapting
from fgsam.methods.base import check_targets

Variant = Literal["mean", "tlp"]

DRAWN = 10
"""Nodes in each of the two sets of ``variant="tlp"``."""


class AMMGNN(Adapting):
    """MAML whose encoder reads ``x * (1 + strength * attention)``, one attention a feature, made from the episode.

    The attention of a feature is a linear map of its values on some nodes of the episode, the same map for all
    features. It is learned between episodes and stays in the inner steps. A matching term in the loss,
    ``-strength * cosine``, asks that two sets of nodes of an episode lead to the same attention. A peer pass makes it
    of the same rows.

    The details of the paper's architecture could not be read; both forms follow the one public implementation, which
    belongs to TLP. ``variant="tlp"`` is that form: two sets of 10 nodes, drawn from support and query nodes alike,
    have a weight for every place in the set; their attentions are averaged; a second pair of maps appears in the
    matching term only, and so changes no score. Scores depend on the draw and on the order of nodes, and on the
    features of other queries. While it is evaluated, the same places are drawn in every episode of a size.

    ``variant="mean"`` lets all nodes of a set weigh the same, so that sets of any size will do and order is nothing:
    the attention is ``scale * mean + shift`` of the support nodes, to be matched by that of each query node by itself.
    The maps that change no score are left out.

    Args:
        make_encoder: Makes the encoder, with fresh weights at each call.
        variant: ``"mean"`` or ``"tlp"``.
        strength: How much attention changes the features, and the weight of the matching term; positive.
        num_steps: Number of inner steps; 20 in the public code.
        inner_lr: Size of an inner step.
        order: ``"first"`` takes the inner gradients as constants, ``"second"`` differentiates through them.
        num_outputs: Learn a start of the head for each of so many classes, as published; by default it starts at zero.

    Raises:
        ValueError: If an option is out of range.

    Source:
        Wang et al., Graph Few-shot Learning with Attribute Matching, 2020; Tan et al., Transductive Linear Probing: A
        Novel Framework for Few-Shot Node Classification, 2022, released code.
    """

    def __init__(
        self,
        make_encoder: Callable[[], nn.Module],
        *,
        variant: Variant = "mean",
        strength: float = 0.01,
        num_steps: int = 10,
        inner_lr: float = 0.5,
        order: Order = "first",
        num_outputs: int | None = None,
    ) -> None:
        super().__init__(make_encoder, num_steps=num_steps, inner_lr=inner_lr, order=order, num_outputs=num_outputs)
        check_choice(get_args(Variant), variant=variant)
        check_positive(strength=strength)
        self.variant = variant
        self.strength = strength
        if variant == "mean":
            self.attention = nn.Linear(1, 1)
        else:
            self.attention, self.unused = nn.Linear(DRAWN, 1), nn.Linear(DRAWN, 1)

    def score(self, field: Field, episode: Episode) -> Tensor:
        """Scale the features, adapt to the support nodes and score the query nodes, shape ``[num_query, n_way]``."""
        return super().score(self._attended(field, episode)[0], episode)

    def score_all(self, fields: Sequence[Field], episodes: Sequence[Episode]) -> list[Tensor]:
        """Score several episodes, each with its own features."""
        pairs = zip(fields, episodes, strict=True)
        return super().score_all([self._attended(field, episode)[0] for field, episode in pairs], episodes)

    def loss(self, field: Field, episode: Episode) -> Tensor:
        """Cross-entropy of each query node, minus ``strength`` times the match of attentions, shape ``[num_query]``."""
        view, match = self._attended(field, episode)
        losses = F.cross_entropy(super().score(view, episode), episode.query_labels, reduction="none")
        return losses - self.strength * match

    def _attended(self, field: Field, episode: Episode) -> tuple[Field, Tensor]:
        """The field as the encoder sees it, and how well attentions match: a number, or one for each query node."""
        check_targets(field, episode)
        rows = field.remember("features of the targets", lambda: _target_rows(field))
        attend = self._attend_to_mean if self.variant == "mean" else self._attend_to_drawn
        attention, match = attend(rows, episode)
        return scaled(field, 1 + self.strength * attention), match

    def _attend_to_mean(self, rows: Tensor, episode: Episode) -> tuple[Tensor, Tensor]:
        attention = _mapped(self.attention, rows[: episode.num_support].mean(0, keepdim=True))
        of_queries: Tensor = self.attention(rows[episode.num_support :].unsqueeze(-1)).squeeze(-1)
        return attention, F.cosine_similarity(of_queries, attention, dim=-1)

    def _attend_to_drawn(self, rows: Tensor, episode: Episode) -> tuple[Tensor, Tensor]:
        first, second = (rows[self._places(len(rows), turn)] for turn in range(2))
        maps = (self.attention, self.unused)
        cosines = [F.cosine_similarity(_mapped(m, first), _mapped(m, second), dim=0) for m in maps]
        return (_mapped(self.attention, first) + _mapped(self.attention, second)) / 2, cosines[0] + cosines[1]

    def _places(self, num_nodes: int, turn: int) -> Tensor:
        if num_nodes < DRAWN:
            raise ValueError(
                f"Expected an episode of at least {DRAWN} nodes for variant='tlp' (got {num_nodes}). "
                "Raise n_way, k_shot or num_query, or take variant='mean'."
            )
        if torch.is_grad_enabled():  # a peer pass may be in evaluation mode, and has to draw what the other drew
            return torch.randperm(num_nodes)[:DRAWN]
        return torch.from_numpy(generator("attributes", num_nodes, turn).permutation(num_nodes)[:DRAWN])


def _target_rows(field: Field) -> Tensor:
    rows = field.x
    count = field.num_targets
    return rows.head(count).dense() if isinstance(rows, SparseMatrix) else rows[:count]


def _mapped(attention: nn.Linear, rows: Tensor) -> Tensor:
    """Map the values of each feature, shape ``[num_rows, num_features]``, to one number, shape ``[num_features]``."""
    mapped: Tensor = attention(rows.T)
    return mapped.squeeze(-1)
