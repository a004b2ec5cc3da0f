"""A short ordinary training on half of the labelled nodes, and what its gradients say."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from fgsam.engine.evaluate import evaluating
from fgsam.engine.seeding import own_random_state, seed_global, seeded
from fgsam.episodes.streams import generator
from fgsam.functional.trees import Grads, dot, norm
from fgsam.graph.field import Field
from fgsam.graph.graph import Graph
from fgsam.methods.classifier import NodeClassifier
from fgsam.nn.encoders import Encoder, field_of
from fgsam.optim.base import SharpnessAware
from fgsam.optim.passes import Pass
from fgsam.optim.plain import Adam

Loss = Callable[[], Tensor]

LR, WEIGHT_DECAY = 0.01, 5e-4
"""Of Adam, as in Kipf and Welling, 2017."""

MOST_TESTED = 1000
"""Held-out nodes that are scored at most: two standard errors of an accuracy are then at most 3.2 points."""


class Compass(SharpnessAware):
    """Steps along the GNN gradient, and notes how the peer gradient lies to it.

    Attributes:
        cosines: Cosine between both gradients at each step, over all parameters together; zero if either is zero.
        ratios: Norm of the peer gradient, in norms of the GNN gradient; zero if that is zero.
    """

    rule = "compass"
    peer = "required"
    passes = "1 GNN + 1 peer"

    def __init__(self, model: nn.Module | Iterable[Tensor], *, lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(model, lr=lr, weight_decay=weight_decay)
        self.cosines: list[Tensor] = []
        self.ratios: list[Tensor] = []

    def direction(self, gnn: Pass, peer: Pass) -> Grads:
        """Return the GNN gradient."""
        g_gnn, g_peer = gnn(clean=True), peer()
        length, peer_length = norm(g_gnn), norm(g_peer)
        self.cosines.append(_quotient(dot(g_gnn, g_peer), length * peer_length))
        self.ratios.append(_quotient(peer_length, length))
        return g_gnn


@dataclass(frozen=True)
class Nodes:
    """Labelled nodes, half of which are learned from.

    Attributes:
        train: Nodes of the training half, int64, shape ``[num_train]``.
        held_out: At most ``MOST_TESTED`` of the others, int64.
        batch_size: Training nodes in a step, at most ``num_train``.
    """

    train: np.ndarray
    held_out: np.ndarray
    batch_size: int

    @classmethod
    def of(cls, graph: Graph, batch_size: int) -> Nodes:
        """Draw the halves, the same for the same graph.

        Raises:
            ValueError: If fewer than two classes, or fewer than four nodes, are labelled.
        """
        labels = graph.labels.cpu().numpy()
        known = np.flatnonzero(labels >= 0)
        num_classes = len(np.unique(labels[known]))
        if len(known) < 4 or num_classes < 2:
            raise ValueError(
                f"Expected a graph with at least 4 labelled nodes of 2 classes (got {len(known)} labelled nodes of "
                f"{num_classes} classes in '{graph.name}'). Advice rests on a short training: give labels, -1 where "
                "they are not known."
            )
        order = generator("advice nodes", graph.num_nodes, graph.num_edges).permutation(known)
        train, held_out = np.sort(order[: len(order) // 2]), order[len(order) // 2 :][:MOST_TESTED]
        return cls(train, held_out, min(batch_size, len(train)))

    def batch(self, step: int) -> np.ndarray:
        """The training nodes of a step; all of them where they fit."""
        if self.batch_size == len(self.train):
            return self.train
        return generator("advice batches", step).choice(self.train, self.batch_size, replace=False, shuffle=False)


class Losses:
    """The losses of a classifier on batches of nodes, with and without the graph.

    Args:
        model: The classifier; its dropout is off in peer passes.
        graph: Gives fields and labels.
        nodes: Gives the batches.
    """

    def __init__(self, model: NodeClassifier, graph: Graph, nodes: Nodes) -> None:
        self.model = model
        self._graph = graph
        self._nodes = nodes
        self._kept: tuple[np.ndarray, dict[bool, Field]] = (np.zeros(0), {})

    def of(self, model: NodeClassifier) -> Losses:
        """The same for another classifier."""
        return Losses(model, self._graph, self._nodes)

    def closures(self, step: int) -> tuple[Loss, Loss]:
        """Make the GNN loss and the peer loss of a step, one value a node each."""
        batch = self._nodes.batch(step)
        if batch is not self._kept[0]:  # all training nodes stay the same array, whose fields are kept
            self._kept = (batch, {})
        fields = self._kept[1]
        targets = self._graph.labels[torch.from_numpy(batch).to(self._graph.device)]

        def loss(peer: bool) -> Tensor:
            if peer not in fields:
                fields[peer] = self._field(batch, peer=peer)
            return self.model.loss(fields[peer], targets)

        def peer_loss() -> Tensor:
            self.model.eval()
            try:
                return loss(peer=True)
            finally:
                self.model.train()

        return lambda: loss(peer=False), peer_loss

    def field_sizes(self) -> dict[str, int]:
        """Count the targets, nodes and edges of the first batch's field."""
        field = self._field(self._nodes.batch(0))
        return {"targets": field.num_targets, "nodes": field.num_nodes, "edges": field.adjacency.num_entries}

    def named(self, nodes: np.ndarray, *, peer: bool) -> np.ndarray:
        """Name the class of some nodes, with the graph or as rows that see only themselves, shape ``[num_nodes]``."""
        parts = np.split(nodes, range(self._nodes.batch_size, len(nodes), self._nodes.batch_size))
        with evaluating(self.model):
            return torch.cat([self.model(self._field(part, peer=peer)) for part in parts]).argmax(1).cpu().numpy()

    def _field(self, nodes: np.ndarray, *, peer: bool = False) -> Field:
        return field_of(cast(Encoder, self.model.encoder), self._graph, nodes, peer=peer)


@dataclass(frozen=True)
class Spread:
    """Mean and quartiles of a window of steps."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise numbers, at least one."""
        low, high = np.quantile(values, (0.25, 0.75))
        return cls(float(np.mean(values)), float(low), float(high))


@dataclass(frozen=True)
class Gradients:
    """How the peer gradient lies to the GNN gradient in a training with Adam.

    Attributes:
        num_steps: Steps that were taken.
        window: Steps of the first and of the last quarter.
        cosine_start: Cosine in the first quarter.
        cosine_end: Cosine in the last quarter.
        ratio_start: Norm of the peer gradient by that of the GNN gradient, in the first quarter.
        ratio_end: The same in the last quarter.
    """

    num_steps: int
    window: int
    cosine_start: Spread
    cosine_end: Spread
    ratio_start: Spread
    ratio_end: Spread


@dataclass(frozen=True)
class Gap:
    """A difference of two accuracies on the same nodes, and its standard error over them; both in ``[0, 1]``."""

    mean: float
    error: float

    @classmethod
    def of(cls, hits: np.ndarray, other_hits: np.ndarray) -> Gap:
        """Subtract the share of the other hits, node by node, at least two of them."""
        gaps = hits.astype(float) - other_hits
        return cls(float(gaps.mean()), float(gaps.std(ddof=1) / np.sqrt(len(gaps))))

    @property
    def is_clear(self) -> bool:
        """Whether it is more than two standard errors from zero."""
        return abs(self.mean) > 2 * self.error


@dataclass(frozen=True)
class Probes:
    """Accuracy on held-out nodes after a short training, in ``[0, 1]``.

    Attributes:
        num_steps: Steps with Adam.
        num_train: Nodes learned from.
        num_tested: Nodes scored.
        largest_class: Accuracy of always naming the most frequent class among the nodes scored.
        gnn: Trained and tested with the graph.
        peer: Trained and tested without edges; None without a peer.
        peer_on_graph: The same weights tested with the graph; None without a peer.
        peer_gap: ``peer`` less ``gnn``.
        moved_gap: ``peer_on_graph`` less ``gnn``.
    """

    num_steps: int
    num_train: int
    num_tested: int
    largest_class: float
    gnn: float
    peer: float | None = None
    peer_on_graph: float | None = None
    peer_gap: Gap | None = None
    moved_gap: Gap | None = None


def initial_model(encoder: Encoder, graph: Graph) -> NodeClassifier:
    """Put a head on an encoder, with weights that depend on the sizes alone."""
    with seeded(graph.device, "advice head"):
        return NodeClassifier(lambda: encoder, graph.num_classes).to(device=graph.device, dtype=graph.dtype)


def train_probes(
    losses: Losses, graph: Graph, nodes: Nodes, *, has_peer: bool, num_steps: int, deadline: float
) -> tuple[Gradients | None, Probes]:
    """Train a copy of a classifier with the graph, another one as peer, and compare.

    Args:
        losses: Losses of the classifier, which stays as it is.
        graph: Gives fields and labels.
        nodes: What to learn from, and what to score.
        has_peer: Whether the encoder has a peer.
        num_steps: Steps of each training, at least 1.
        deadline: When to stop, by ``time.perf_counter()``; one step is always taken.
    """
    with_graph, alone = (losses.of(copy.deepcopy(losses.model)) for _ in range(2))
    gradients = None
    if has_peer:
        compass = Compass(with_graph.model, lr=LR, weight_decay=WEIGHT_DECAY)
        taken = _train(lambda step: compass.step(*with_graph.closures(step)), graph, num_steps, deadline)
        gradients = _summary(torch.stack(compass.cosines).tolist(), torch.stack(compass.ratios).tolist())
        by_rows = Adam(alone.model, lr=LR, weight_decay=WEIGHT_DECAY)
        # As long as the other one, whatever the time: half as many steps would say nothing beside it.
        _train(lambda step: by_rows.step(alone.closures(step)[1]), graph, taken, float("inf"))
    else:
        adam = Adam(with_graph.model, lr=LR, weight_decay=WEIGHT_DECAY)
        taken = _train(lambda step: adam.step(with_graph.closures(step)[0]), graph, num_steps, deadline)
    return gradients, _scores(with_graph, alone if has_peer else None, graph, nodes, taken, deadline)


def _scores(
    with_graph: Losses, alone: Losses | None, graph: Graph, nodes: Nodes, num_steps: int, deadline: float
) -> Probes:
    tested = nodes.held_out if time.perf_counter() < deadline else nodes.held_out[: nodes.batch_size]
    labels = graph.labels.cpu().numpy()[tested]
    gnn = with_graph.named(tested, peer=False) == labels
    largest = float(np.bincount(labels).max() / len(labels))
    facts = (num_steps, len(nodes.train), len(tested), largest, float(gnn.mean()))
    if alone is None:
        return Probes(*facts)
    peer, moved = (alone.named(tested, peer=is_peer) == labels for is_peer in (True, False))
    return Probes(*facts, float(peer.mean()), float(moved.mean()), Gap.of(peer, gnn), Gap.of(moved, gnn))


def _train(step: Callable[[int], object], graph: Graph, num_steps: int, deadline: float) -> int:
    with own_random_state(graph.device):
        for number in range(num_steps):
            if number and time.perf_counter() > deadline:
                return number
            seed_global(graph.device, "advice step", number)
            step(number)
    return num_steps


def _summary(cosines: list[float], ratios: list[float]) -> Gradients:
    window = max(1, len(cosines) // 4)
    parts = (cosines[:window], cosines[-window:], ratios[:window], ratios[-window:])
    return Gradients(len(cosines), window, *map(Spread.of, parts))


def _quotient(value: Tensor, by: Tensor) -> Tensor:
    return torch.where(by > 0, value / by, torch.zeros_like(value))
