"""Few-shot learning as a task: an episode or a batch of nodes a step, banks of episodes for choosing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import cast

from torch import Tensor, nn

from fgsam.engine.evaluate import BankScorer
from fgsam.engine.node_batches import NodeBatch, NodeBatches
from fgsam.engine.task import Batch, Scored, Task
from fgsam.episodes.bank import EpisodeBank
from fgsam.episodes.episode import Episode
from fgsam.episodes.noise import with_support_noise
from fgsam.episodes.sampler import EpisodeSampler
from fgsam.episodes.streams import generator
from fgsam.graph.field import Field
from fgsam.graph.graph import Graph
from fgsam.methods.base import Learner, Method, PretrainedMethod

QUICK_EPISODES = 50
"""Validation episodes scored during training; the whole bank is kept for the best few weights."""


class BankTask(Task[Batch]):
    """Chooses weights by the accuracy on a bank of episodes, whatever they learn from.

    Args:
        graph: The graph that training sees.
        val_bank: Validation episodes.
        val_graph: The graph that validation sees, where it is another one.
    """

    unit = "episode"

    def __init__(self, graph: Graph, val_bank: EpisodeBank, *, val_graph: Graph | None = None) -> None:
        self.graph, self.val_bank = graph, val_bank
        self.val_graph = graph if val_graph is None else val_graph
        self._quick = BankScorer(self.val_graph, val_bank.head(QUICK_EPISODES))

    def glance(self, method: nn.Module) -> Scored:
        """Score the first episodes of the bank."""
        return self._quick.score(cast(Learner, method))

    def validate(self, method: nn.Module) -> Scored:
        """Score the whole bank."""
        return self._whole.score(cast(Learner, method))

    @cached_property
    def _whole(self) -> BankScorer:
        is_short = len(self.val_bank) <= len(self._quick.bank)
        return self._quick if is_short else BankScorer(self.val_graph, self.val_bank)


class EpisodeTask(BankTask[Episode]):
    """Minimises the loss of one episode a step, and chooses by the accuracy on a bank of episodes.

    Args:
        graph: The graph that training sees.
        sampler: Draws training episodes.
        val_bank: Validation episodes.
        val_graph: The graph that validation sees, where it is another one.
        support_noise: Share of support nodes with a wrong label, drawn for each training episode by its own generator.
    """

    def __init__(
        self,
        graph: Graph,
        sampler: EpisodeSampler,
        val_bank: EpisodeBank,
        *,
        val_graph: Graph | None = None,
        support_noise: float = 0.0,
    ) -> None:
        super().__init__(graph, val_bank, val_graph=val_graph)
        self.sampler = sampler
        self.support_noise = support_noise

    def draw(self, stream: Sequence[str | int], step: int) -> Episode:
        """Draw the episode of one step; it depends on the stream and the step alone."""
        episode = self.sampler.draw(generator("episodes", *stream, step))
        if self.support_noise:
            episode = with_support_noise(episode, self.support_noise, generator("support noise", *stream, step))
        return episode.to(self.graph.device)

    def field(self, method: Method, batch: Episode, *, peer: bool) -> Field:
        """Build the field of the episode's nodes."""
        return method.field(self.graph, batch.nodes, peer=peer or not method.trains_on_edges)

    def loss(self, method: Method, field: Field, batch: Episode) -> Tensor:
        """Give the method's loss, one value a query."""
        return method.loss(field, batch)

    def describe(self, batch: Episode) -> str:
        """Name the classes of an episode."""
        return f"classes {batch.classes.tolist()}, "


class PretrainingTask(BankTask[NodeBatch]):
    """Minimises the loss of nodes of the training graph, and chooses by the accuracy on a bank of episodes.

    A step counts as an episode.

    Args:
        graph: The graph that training sees.
        nodes: The nodes to learn from, shape ``[num_nodes]``.
        labels: Their classes, shape ``[num_nodes]``.
        val_bank: Validation episodes.
        batch_size: Nodes in a step; None, or a larger number than there are, for all of them.
        max_epochs: Most times that every node is learned from; None without a limit.
        val_graph: The graph that validation sees, where it is another one.
    """

    def __init__(
        self,
        graph: Graph,
        nodes: Tensor,
        labels: Tensor,
        val_bank: EpisodeBank,
        *,
        batch_size: int | None = None,
        max_epochs: int | None = None,
        val_graph: Graph | None = None,
    ) -> None:
        super().__init__(graph, val_bank, val_graph=val_graph)
        size = len(nodes) if batch_size is None else min(batch_size, len(nodes))
        self.max_batches = None if max_epochs is None else max_epochs * -(-len(nodes) // size)
        self._batches = NodeBatches(nodes, labels.to(graph.device), size if size < len(nodes) else None)

    def draw(self, stream: Sequence[str | int], step: int) -> NodeBatch:
        """Take the nodes of one step; they depend on the stream and the step alone."""
        return self._batches.draw(stream, step)

    def field(self, method: PretrainedMethod, batch: NodeBatch, *, peer: bool) -> Field:
        """Build the field of the nodes, or take the kept one of all nodes."""

        def build(peer: bool) -> Field:
            return method.field(self.graph, batch.nodes, peer=peer)

        return self._batches.field(build, batch, peer=peer or not method.trains_on_edges)

    def loss(self, method: PretrainedMethod, field: Field, batch: NodeBatch) -> Tensor:
        """Give the method's loss, one value a node."""
        return method.loss(field, batch.labels)

    def stepped(self, method: PretrainedMethod) -> None:
        """Let the method follow its weights."""
        method.stepped()
