"""Scores of whole banks of episodes, every node embedded once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from fgsam.episodes.bank import EpisodeBank
from fgsam.graph.field import Field
from fgsam.graph.graph import Graph
from fgsam.methods.base import Method
from fgsam.methods.floors import Floor
from fgsam.nn.encoders import Encoder, field_of

EPISODES_AT_ONCE = 200
"""Episodes scored as one batch; bounds the memory of their distances."""


class BankScorer:
    """Scores a method on a bank of episodes, again and again.

    The nodes of the bank are embedded once, then all episodes are compared as batched tensors. The fields are built at
    the first use and kept, because validation reads the same nodes every time.

    Args:
        graph: The graph that the bank's nodes belong to.
        bank: The episodes.
    """

    def __init__(self, graph: Graph, bank: EpisodeBank) -> None:
        self.graph = graph
        self.bank = bank
        self._fields: list[Field] | None = None
        device = graph.labels.device
        self._support = torch.searchsorted(bank.nodes, bank.support).to(device)
        self._query = torch.searchsorted(bank.nodes, bank.query).to(device)
        self._support_labels = bank.support_labels.to(device)
        self._query_labels = bank.query_labels.to(device)

    def correct(self, method: Method) -> Tensor:
        """Count the correct queries of every episode.

        Args:
            method: A learner; it is put into evaluation mode and back.

        Returns:
            Counts between 0 and the number of queries, shape ``[num_episodes]``, int64, on the CPU.

        Raises:
            RuntimeError: If a score is NaN or infinite.
        """
        was_training = method.training
        method.eval()
        try:
            with torch.no_grad():
                rows = self._represent(method)
                return torch.cat([self._score(method, rows, part) for part in _parts(self.bank)]).cpu()
        finally:
            method.train(was_training)

    def _represent(self, method: Method) -> tuple[Tensor, ...]:
        if self._fields is None:
            self._fields = chunked_fields(cast(Encoder, method.encoder), self.graph, self.bank.nodes)
        chunks = [method.represent(field) for field in self._fields]
        return tuple(torch.cat(parts) for parts in zip(*chunks, strict=True))

    def _score(self, method: Method, rows: Sequence[Tensor], part: slice) -> Tensor:
        support = tuple(values[self._support[part]] for values in rows)
        query = tuple(values[self._query[part]] for values in rows)
        logits = method.logits(support, self._support_labels, query, self.bank.n_way)
        if not bool(logits.isfinite().all()):
            raise RuntimeError(
                f"Expected finite scores from {type(method).__name__} on every episode (got NaN or infinity). "
                "The weights have diverged: lower optimizer.lr, or look at the features of the graph."
            )
        return (logits.argmax(-1) == self._query_labels).sum(-1)


def chunked_fields(encoder: Encoder, graph: Graph, nodes: Tensor) -> list[Field]:
    """Build the fields that an encoder needs for many nodes.

    Built-in encoders read sparse rows and get one field. Others get dense rows, so their nodes are halved until the
    rows of each field fit ``graph.memory_mb``.

    Args:
        encoder: Says which fields it needs.
        graph: The graph.
        nodes: Node ids, shape ``[num_targets]``, at least one.

    Returns:
        Fields whose targets, one field after the other, are ``nodes``.
    """
    field = field_of(encoder, graph, nodes)
    if not encoder.densifies or len(nodes) == 1:
        return [field]
    width = torch.finfo(graph.dtype).bits // 8
    if field.num_nodes * graph.num_features * width <= graph.memory_mb * 2**20:
        return [field]
    half = len(nodes) // 2
    return chunked_fields(encoder, graph, nodes[:half]) + chunked_fields(encoder, graph, nodes[half:])


def floor_correct(floor: Floor, bank: EpisodeBank) -> Tensor:
    """Count the correct queries of a training-free learner in every episode of a bank.

    Args:
        floor: A learner after ``fit``.
        bank: The episodes.

    Returns:
        Counts, shape ``[num_episodes]``, int64.
    """
    found = [
        floor.predict(bank.support[part], bank.support_labels, bank.query[part], bank.n_way) for part in _parts(bank)
    ]
    return (torch.cat(found) == bank.query_labels).sum(-1)


def _parts(bank: EpisodeBank) -> list[slice]:
    return [slice(start, start + EPISODES_AT_ONCE) for start in range(0, len(bank), EPISODES_AT_ONCE)]
