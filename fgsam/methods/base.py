"""What every trained few-shot learner provides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, cast

import torch.nn.functional as F
from torch import Tensor, nn

from fgsam.checks import check_positive
from fgsam.episodes.episode import Episode
from fgsam.graph.field import Field
from fgsam.graph.graph import Graph
from fgsam.nn.encoders import Encoder, field_of

if TYPE_CHECKING:
    from fgsam.typing import NodeIds


Lesson = Literal["episodes", "base_nodes", "all_nodes", "unlabelled_nodes"]


class Learner(nn.Module, ABC):
    """Embeds nodes, and scores the query nodes of an episode by its support nodes.

    A learner looks at the graph only through the fields it is given. It knows neither about passes nor about the
    optimizer: the same loss on a field of zero hops is the peer loss.

    Args:
        make_encoder: Makes the encoder, with fresh weights at each call: a module with an attribute ``dim`` that
            takes a field and returns one row a target, shape ``[num_targets, dim]``.

    Attributes:
        learns_from: What its loss is about: ``"episodes"``; or nodes, with the classes of training
            (``"base_nodes"``), with all classes (``"all_nodes"``) or without any (``"unlabelled_nodes"``).
        adapts: Whether it trains on the support nodes of an episode before it scores. Then nodes are not embedded
            once for all episodes; each episode is scored on its own field.
        trains_on_edges: Whether the field of a training step has hops.
        tests_on_edges: Whether the field of an evaluation has hops.
        uses_queries: Whether the query nodes of an episode tell about each other (transductive inference). Compare
            such a learner with its like only. Its ``logits`` take ``is_query`` too, of the shape of the query nodes:
            False where one is only repeated to fill its row; by default all count.
        num_given: Arguments of the constructor that the engine supplies: 1, or 2 with the class ids it learns from, or
            3 with the graph that training sees.
    """

    is_trained: ClassVar[bool] = True
    learns_from: ClassVar[Lesson] = "episodes"
    adapts: ClassVar[bool] = False
    trains_on_edges: ClassVar[bool] = True
    tests_on_edges: ClassVar[bool] = True
    uses_queries: ClassVar[bool] = False
    num_given: ClassVar[int] = 1

    def __init__(self, make_encoder: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.encoder = make_encoder()

    def field(self, graph: Graph, nodes: NodeIds, *, peer: bool = False) -> Field:
        """Build what one pass over some nodes reads: the field of the encoder, unless one that adapts needs more.

        Args:
            graph: Where to look.
            nodes: Target nodes, without repetition.
            peer: Build the peer's view, which holds these rows alone.
        """
        return field_of(cast(Encoder, self.encoder), graph, nodes, peer=peer)

    def represent(self, field: Field) -> tuple[Tensor, ...]:
        """Compute all that scoring needs to know about each target: the embedding, unless the learner needs more.

        Args:
            field: Any target nodes, in any order.

        Returns:
            Tensors whose first dimension is ``num_targets``.
        """
        return (self.encoder(field),)

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

    def score(self, field: Field, episode: Episode) -> Tensor:
        """Score the query nodes of one episode.

        Args:
            field: Its targets are ``episode.nodes``: support nodes, then query nodes.
            episode: The labels of its support nodes count; those of its query nodes are not read.

        Returns:
            Logits, shape ``[num_query, n_way]``.

        Raises:
            ValueError: If the field has another number of targets than the episode has nodes.
        """
        check_targets(field, episode)
        support, query = self._represent_episode(field, episode.num_support)
        return self.logits(support, episode.support_labels, query, episode.n_way)

    def score_all(self, fields: Sequence[Field], episodes: Sequence[Episode]) -> list[Tensor]:
        """Score several episodes, one after the other unless the learner can do it at once.

        Args:
            fields: One for each episode; see :meth:`score`.
            episodes: Episodes of equally many classes.

        Returns:
            Logits of each episode, shape ``[num_query, n_way]``.
        """
        return [self.score(field, episode) for field, episode in zip(fields, episodes, strict=True)]

    def _represent_episode(self, field: Field, num_support: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Split what is known of the targets; override it where query nodes need less than support nodes."""
        support, query = zip(*(divided(rows, num_support) for rows in self.represent(field)), strict=True)
        return support, query


class Method(Learner):
    """A learner that is trained by episodes: it minimises the loss of their query nodes.

    A subclass gives ``logits``, and ``represent`` if it needs more than embeddings. Evaluation represents every node of
    a bank once and scores all its episodes as one batch.

    Args:
        make_encoder: Makes the encoder, with fresh weights at each call: a module with an attribute ``dim`` that
            takes a field and returns one row a target, shape ``[num_targets, dim]``.
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
        return F.cross_entropy(self.score(field, episode), episode.query_labels, reduction="none")


class PretrainedMethod(Learner):
    """A learner that is trained on nodes, not on episodes, and scores episodes by what it has learned.

    Args:
        make_encoder: Makes the encoder, with fresh weights at each call.
        batch_size: Nodes in a training step; None for all of them.
        max_epochs: Most times that every node is learned from; a training cut short by it counts as whole.

    Raises:
        ValueError: If ``batch_size`` or ``max_epochs`` is smaller than 1.
    """

    learns_from: ClassVar[Lesson] = "base_nodes"

    def __init__(
        self, make_encoder: Callable[[], nn.Module], *, batch_size: int | None = None, max_epochs: int = 200
    ) -> None:
        super().__init__(make_encoder)
        check_positive(max_epochs=max_epochs)
        if batch_size is not None:
            check_positive(batch_size=batch_size)
        self.batch_size = batch_size
        self.max_epochs = max_epochs

    @abstractmethod
    def loss(self, field: Field, labels: Tensor) -> Tensor:
        """One loss for each target of a field; their mean is the objective.

        Args:
            field: The nodes of a step are its targets.
            labels: Their classes, numbered in the order of the class ids that the learner was made with, shape
                ``[num_targets]``; -1 where it learns from unlabelled nodes.

        Returns:
            Shape ``[num_targets]``.
        """

    def stepped(self) -> None:
        """Follow the weights that a training step has moved; nothing by default. Called once after every step."""


def check_targets(field: Field, episode: Episode) -> None:
    """Raise ``ValueError`` if a field has another number of targets than an episode has nodes."""
    if field.num_targets != len(episode.nodes):
        raise ValueError(
            "Expected the targets of 'field' to be the nodes of the episode "
            f"(got {field.num_targets} targets, {len(episode.nodes)} nodes). Make the field of episode.nodes."
        )


def divided(rows: Tensor, num_support: int) -> tuple[Tensor, Tensor]:
    """Part the rows of support and query nodes; unlike that of two slices, its gradient is one concatenation."""
    support, query = rows.split_with_sizes([num_support, rows.size(0) - num_support])
    return support, query
