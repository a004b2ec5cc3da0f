"""Few-shot learning as a task: an episode a step, banks of episodes for choosing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import cast

from torch import Tensor, nn

from fgsam.engine.evaluate import BankScorer
from fgsam.engine.task import Scored, Task
from fgsam.episodes.bank import EpisodeBank
from fgsam.episodes.episode import Episode
from fgsam.episodes.noise import with_support_noise
from fgsam.episodes.sampler import EpisodeSampler
from fgsam.episodes.streams import generator
from fgsam.graph.field import Field
from fgsam.graph.graph import Graph
from fgsam.methods.base import Method
from fgsam.nn.encoders import Encoder, field_of

QUICK_EPISODES = 50
"""Validation episodes scored during training; the whole bank is kept for the best few weights."""


class EpisodeTask(Task[Episode]):
    """Minimises the loss of one episode a step, and chooses by the accuracy on a bank of episodes.

    Args:
        graph: The graph that training sees.
        sampler: Draws training episodes.
        val_bank: Validation episodes.
        val_graph: The graph that validation sees, where it is another one.
        support_noise: Share of support nodes with a wrong label, drawn for each training episode by its own generator.
    """

    unit = "episode"

    def __init__(
        self,
        graph: Graph,
        sampler: EpisodeSampler,
        val_bank: EpisodeBank,
        *,
        val_graph: Graph | None = None,
        support_noise: float = 0.0,
    ) -> None:
        self.graph, self.sampler, self.val_bank = graph, sampler, val_bank
        self.val_graph = graph if val_graph is None else val_graph
        self.support_noise = support_noise
        self._quick = BankScorer(self.val_graph, val_bank.head(QUICK_EPISODES))

    def draw(self, stream: Sequence[str | int], step: int) -> Episode:
        """Draw the episode of one step; it depends on the stream and the step alone."""
        episode = self.sampler.draw(generator("episodes", *stream, step))
        if self.support_noise:
            episode = with_support_noise(episode, self.support_noise, generator("support noise", *stream, step))
        return episode.to(self.graph.device)

    def field(self, method: Method, batch: Episode, *, peer: bool) -> Field:
        """Build the field of the episode's nodes."""
        return field_of(cast(Encoder, method.encoder), self.graph, batch.nodes, peer=peer)

    def loss(self, method: Method, field: Field, batch: Episode) -> Tensor:
        """Give the method's loss, one value a query."""
        return method.loss(field, batch)

    def glance(self, method: nn.Module) -> Scored:
        """Score the first episodes of the bank."""
        return self._quick.score(cast(Method, method))

    def validate(self, method: nn.Module) -> Scored:
        """Score the whole bank."""
        return self._whole.score(cast(Method, method))

    def describe(self, batch: Episode) -> str:
        """Name the classes of an episode."""
        return f"classes {batch.classes.tolist()}, "

    @cached_property
    def _whole(self) -> BankScorer:
        is_short = len(self.val_bank) <= len(self._quick.bank)
        return self._quick if is_short else BankScorer(self.val_graph, self.val_bank)
