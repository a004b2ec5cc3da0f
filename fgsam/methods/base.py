"""What every learner that is trained by episodes provides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from fgsam.episodes.episode import Episode
from fgsam.graph.field import Field


class Method(nn.Module, ABC):
    """Turns an episode into losses, and nodes into rows that are scored later.

    A method looks at the graph only through the field it is given. The same loss on a field of zero hops is the peer
    loss, so that no method knows about passes; nor does it know which optimizer minimises it.

    A subclass gives ``represent`` and ``logits``. Evaluation represents every node of a bank once and scores all its
    episodes as one batch.

    Args:
        make_encoder: Makes the encoder, with fresh weights at each call: a module with an attribute ``dim`` that
            takes a field and returns one row a target, shape ``[num_targets, dim]``.
    """

    is_trained: ClassVar[bool] = True

    def __init__(self, make_encoder: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.encoder = make_encoder()

    @abstractmethod
    def represent(self, field: Field) -> tuple[Tensor, ...]:
        """Compute all that scoring needs to know about each target.

        Args:
            field: Any target nodes, in any order.

        Returns:
            Tensors whose first dimension is ``num_targets``.
        """

    @abstractmethod
    def logits(
        self, support: tuple[Tensor, ...], support_labels: Tensor, query: tuple[Tensor, ...], n_way: int
    ) -> Tensor:
        """Score every query node for every class, in one episode or in a batch of them.

        Args:
            support: What ``represent`` gave for the support nodes, each of shape ``[..., num_support, *]``.
            support_labels: Episode labels in ``0..n_way-1``, shape ``[num_support]`` or ``[..., num_support]``;
                classes may differ in size, none may be empty.
            query: What ``represent`` gave for the query nodes, each of shape ``[..., num_query, *]``.
            n_way: Number of classes in the episode.

        Returns:
            Logits, shape ``[..., num_query, n_way]``.
        """

    def loss(self, field: Field, episode: Episode) -> Tensor:
        """Cross-entropy of each query node.

        Args:
            field: Its targets are ``episode.nodes``: support nodes, then query nodes.
            episode: The task that is learned.

        Returns:
            One loss for each query node, shape ``[num_query]``; their mean is the objective.

        Raises:
            ValueError: If the field has another number of targets than the episode has nodes.
        """
        if field.num_targets != len(episode.nodes):
            raise ValueError(
                "Expected the targets of 'field' to be the nodes of the episode "
                f"(got {field.num_targets} targets, {len(episode.nodes)} nodes). Make the field of episode.nodes."
            )
        support, query = self._represent_episode(field, episode.num_support)
        logits = self.logits(support, episode.support_labels, query, episode.n_way)
        return F.cross_entropy(logits, episode.query_labels, reduction="none")

    def _represent_episode(self, field: Field, num_support: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Split what is known of the targets; override it where query nodes need less than support nodes."""
        support, query = zip(*(divided(rows, num_support) for rows in self.represent(field)), strict=True)
        return support, query


def divided(rows: Tensor, num_support: int) -> tuple[Tensor, Tensor]:
    """Part the rows of support and query nodes; unlike that of two slices, its gradient is one concatenation."""
    support, query = rows.split_with_sizes([num_support, rows.size(0) - num_support])
    return support, query
