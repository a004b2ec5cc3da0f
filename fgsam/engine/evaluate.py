"""Scores of whole banks of episodes, every node embedded once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

from fgsam.engine.task import Scored
from fgsam.episodes.bank import EpisodeBank
from fgsam.episodes.episode import Episode
from fgsam.graph.field import Field
from fgsam.graph.graph import Graph
from fgsam.methods.base import Learner
from fgsam.methods.floors import Floor
from fgsam.nn.encoders import Encoder, field_of

EPISODES_AT_ONCE = 200
"""Episodes scored as one batch; bounds the memory of their distances."""

ADAPTED_AT_ONCE = 10
"""Episodes that a learner adapts to as one batch; bounds the memory of their weights."""

KEPT_EPISODES = 50
"""Episodes of a bank at most whose fields are kept from one scoring to the next."""


class BankScorer:
    """Scores a learner on a bank of episodes, again and again.

    The nodes of the bank are embedded once, then all episodes are compared as batched tensors; a learner that adapts
    gets the field of every episode, a batch of them at a time. Fields are built at the first use and kept, because
    validation reads the same nodes every time; those of single episodes in small banks only.

    Args:
        graph: The graph that the bank's nodes belong to.
        bank: The episodes.
    """

    def __init__(self, graph: Graph, bank: EpisodeBank) -> None:
        self.graph = graph
        self.bank = bank
        self._fields: list[Field] | None = None
        self._of_episodes: list[Field] = []
        device = graph.labels.device
        self._support = torch.searchsorted(bank.nodes, bank.support).to(device)
        self._query = torch.searchsorted(bank.nodes, bank.query).to(device)
        self._support_labels = bank.support_labels.to(device)
        self._query_labels = bank.query_labels.to(device)

    def score(self, method: Learner) -> Scored:
        """Score a learner by its accuracy over all queries of the bank."""
        return _scored(self.hits(method), self.bank)

    def correct(self, method: Learner) -> Tensor:
        """Count the correct queries of every episode; see :meth:`hits`.

        Returns:
            Counts between 0 and the number of queries, shape ``[num_episodes]``, int64, on the CPU.
        """
        return self.hits(method).sum(-1)

    def hits(self, method: Learner) -> Tensor:
        """Find the queries that are classified as they should be.

        Args:
            method: A learner; it is put into evaluation mode and back.

        Returns:
            Booleans of the shape of ``bank.query``, False where a query is only repeated, on the CPU.

        Raises:
            RuntimeError: If a score is NaN or infinite.
        """
        return self.answers(method) == self.bank.query_labels

    def answers(self, method: Learner) -> Tensor:
        """Classify the queries of every episode.

        Args:
            method: A learner; it is put into evaluation mode and back.

        Returns:
            Episode labels of the shape of ``bank.query``, any where a query is only repeated, int64, on the CPU.

        Raises:
            RuntimeError: If a score is NaN or infinite.
        """
        with evaluating(method):
            found = self._adapted(method) if method.adapts else self._embedded(method)
            return torch.cat(list(found)).cpu()

    def _embedded(self, method: Learner) -> Iterator[Tensor]:
        if self._fields is None:
            self._fields = tested_fields(method, self.graph, self.bank.nodes)
        rows = represented(method, self._fields)
        for part in self.bank.batches(EPISODES_AT_ONCE):
            support = tuple(values[self._support[part]] for values in rows)
            query = tuple(values[self._query[part]] for values in rows)
            labels = self._query_labels[part]
            counts = {"is_query": labels >= 0} if method.uses_queries else {}
            logits = method.logits(support, self._support_labels, query, self.bank.n_way, **counts)
            check_scores(method, logits, "episode")
            yield logits.argmax(-1)

    def _adapted(self, method: Learner) -> Iterator[Tensor]:
        width = self._query_labels.shape[-1]
        for part in self.bank.batches(ADAPTED_AT_ONCE):
            places = range(*part.indices(len(self.bank)))
            episodes = [self.bank[i].to(self.graph.device) for i in places]
            fields = self._episode_fields(method, places, episodes)
            for _, logits in zip(episodes, method.score_all(fields, episodes), strict=True):
                check_scores(method, logits, "episode")
                found = logits.argmax(-1)
                yield torch.nn.functional.pad(found, (0, width - len(found))).unsqueeze(0)

    def _episode_fields(self, method: Learner, places: range, episodes: Sequence[Episode]) -> list[Field]:
        if len(self._of_episodes) >= places.stop:
            return self._of_episodes[places.start : places.stop]
        fields = [method.field(self.graph, episode.nodes, peer=not method.tests_on_edges) for episode in episodes]
        if len(self.bank) <= KEPT_EPISODES:
            self._of_episodes += fields
        return fields


@contextmanager
def evaluating(method: nn.Module) -> Iterator[None]:
    """Put nets into evaluation mode, without gradients, and back."""
    was_training = method.training
    method.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        method.train(was_training)


def check_scores(method: nn.Module, logits: Tensor, place: str) -> None:
    """Raise ``RuntimeError`` if a logit is NaN or infinite.

    Args:
        method: What gave them.
        logits: Any shape.
        place: What they are for, in the singular: ``"episode"``.
    """
    if not bool(logits.isfinite().all()):
        knobs = "method.inner_lr or optimizer.lr" if getattr(method, "adapts", False) else "optimizer.lr"
        raise RuntimeError(
            f"Expected finite scores from {type(method).__name__} on every {place} (got NaN or infinity). "
            f"The weights have diverged: lower {knobs}, or look at the features of the graph."
        )


def tested_fields(method: Learner, graph: Graph, nodes: Tensor) -> list[Field]:
    """Build what a learner reads of many nodes when it is tested, see :func:`chunked_fields`."""
    encoder = cast(Encoder, method.encoder)
    return chunked_fields(encoder, graph, nodes, peer=not method.tests_on_edges, make=method.field)


def represented(method: Learner, fields: Sequence[Field]) -> tuple[Tensor, ...]:
    """What scoring needs to know about the targets of all fields, one field after the other."""
    chunks = [method.represent(field) for field in fields]
    return tuple(torch.cat(parts) for parts in zip(*chunks, strict=True))


def chunked_fields(
    encoder: Encoder, graph: Graph, nodes: Tensor, *, peer: bool = False, make: Callable[..., Field] | None = None
) -> list[Field]:
    """Build the fields that an encoder needs for many nodes.

    Built-in encoders read sparse rows and get one field. Others get dense rows, so their nodes are halved until the
    rows of each field fit ``graph.memory_mb``.

    Args:
        encoder: Says which fields it needs.
        graph: The graph.
        nodes: Node ids, shape ``[num_targets]``, at least one.
        peer: Build fields of zero hops.
        make: Builds a field of some nodes, as :meth:`fgsam.methods.base.Learner.field`; that of the encoder by default.

    Returns:
        Fields whose targets, one field after the other, are ``nodes``.
    """
    field = make(graph, nodes, peer=peer) if make else field_of(encoder, graph, nodes, peer=peer)
    if not encoder.densifies or len(nodes) == 1:
        return [field]
    width = torch.finfo(graph.dtype).bits // 8
    if field.num_nodes * graph.num_features * width <= graph.memory_mb * 2**20:
        return [field]
    half = len(nodes) // 2
    halves = (nodes[:half], nodes[half:])
    return [chunk for part in halves for chunk in chunked_fields(encoder, graph, part, peer=peer, make=make)]


def floor_answers(floor: Floor, bank: EpisodeBank) -> Tensor:
    """Classify the queries of a bank by a training-free learner; see :meth:`BankScorer.answers`."""
    return floor.answers(bank, EPISODES_AT_ONCE)


def floor_hits(floor: Floor, bank: EpisodeBank) -> Tensor:
    """Find the queries that a training-free learner classifies as it should.

    Args:
        floor: A learner after ``fit``.
        bank: The episodes.

    Returns:
        Booleans of the shape of ``bank.query``, False where a query is only repeated.
    """
    return floor.hits(bank, EPISODES_AT_ONCE)


def floor_scored(floor: Floor, bank: EpisodeBank) -> Scored:
    """Score a training-free learner by its accuracy over all queries of a bank."""
    return _scored(floor_hits(floor, bank), bank)


def floor_correct(floor: Floor, bank: EpisodeBank) -> Tensor:
    """Count the correct queries of a training-free learner in every episode, shape ``[num_episodes]``, int64."""
    return floor_hits(floor, bank).sum(-1)


def mean_recall(hits: Tensor, bank: EpisodeBank) -> Tensor:
    """Balanced accuracy of each episode: the mean over classes of the share of their queries that are right.

    Args:
        hits: Queries that are right, of the shape of ``bank.query``.
        bank: The episodes; classes without queries are left out of their mean.

    Returns:
        Shares between 0 and 1, shape ``[num_episodes]``, float64.
    """
    members = [bank.query_labels == label for label in range(bank.n_way)]
    right = torch.stack([(hits & found).sum(-1) for found in members], dim=-1)
    counts = torch.stack([found.sum(-1) for found in members], dim=-1)
    return (right.double() / counts.clamp(min=1)).sum(-1) / (counts > 0).sum(-1)


def _scored(hits: Tensor, bank: EpisodeBank) -> Scored:
    accuracy = int(hits.sum()) / int(bank.num_queries.sum())
    return Scored(hits, accuracy, accuracy)
