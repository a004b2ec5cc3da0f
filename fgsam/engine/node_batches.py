"""Batches of nodes, step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from fgsam.episodes.streams import generator
from fgsam.graph.field import Field


@dataclass(frozen=True)
class NodeBatch:
    """Nodes that a step learns from, and their classes, each of shape ``[num_nodes]``."""

    nodes: Tensor
    labels: Tensor


class NodeBatches:
    """Goes through nodes in a new order each time, or takes all of them in every step.

    The last batch of an order may be smaller. The fields of all nodes are kept, since every step reads them again.

    Args:
        nodes: The nodes, without repetition, shape ``[num_nodes]``.
        labels: Their classes, shape ``[num_nodes]``.
        batch_size: Nodes in a step; None for all of them.
    """

    def __init__(self, nodes: Tensor, labels: Tensor, batch_size: int | None) -> None:
        self.batch_size = batch_size
        self._all = NodeBatch(nodes, labels)
        self._fields: dict[bool, Field] = {}
        self._orders: dict[tuple[str | int, ...], tuple[int, np.ndarray]] = {}  # of the newest epoch, by stream

    def draw(self, stream: Sequence[str | int], step: int) -> NodeBatch:
        """Take the batch of one step, counted from 1; it depends on the stream and the step alone."""
        if self.batch_size is None:
            return self._all
        num_nodes = len(self._all.nodes)
        epoch, place = divmod(step - 1, -(-num_nodes // self.batch_size))
        key = tuple(stream)
        if key not in self._orders or self._orders[key][0] != epoch:
            rng = generator("batches", *stream, epoch)
            self._orders[key] = epoch, rng.random(num_nodes).argsort(kind="stable")
        chosen = self._orders[key][1][place * self.batch_size : (place + 1) * self.batch_size]
        return NodeBatch(self._all.nodes[chosen], self._all.labels[chosen])

    def field(self, build: Callable[[bool], Field], batch: NodeBatch, *, peer: bool) -> Field:
        """Build the field of a batch, or take the kept one of all nodes.

        Args:
            build: Builds it, or with True the peer's.
            batch: What ``draw`` gave.
            peer: Whether it is the peer's.
        """
        if batch is not self._all:
            return build(peer)
        if peer not in self._fields:
            self._fields[peer] = build(peer)
        return self._fields[peer]
