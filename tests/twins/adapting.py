"""Inner loops unrolled by hand, on dense matrices of the whole graph."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fgsam.episodes.episode import Episode
from fgsam.graph.graph import Graph


def dense_gcn(weights: list[Tensor], x: Tensor, adjacency: Tensor) -> Tensor:
    """A GCN without dropout; weights and biases alternate."""
    h = x
    for depth in range(0, len(weights), 2):
        h = adjacency @ ((h.relu() if depth else h) @ weights[depth]) + weights[depth + 1]
    return h


def adjacency_of(graph: Graph, *, peer: bool) -> Tensor:
    return torch.eye(graph.num_nodes, dtype=graph.dtype) if peer else graph.weights("sym").dense()


def unrolled(
    weights: list[Tensor],
    graph: Graph,
    episode: Episode,
    *,
    peer: bool,
    num_steps: int,
    rate: float,
    num_fixed: int = 0,
) -> Tensor:
    """Losses of the queries after steps on the supports; the last two weights are those of the head.

    With ``num_fixed``, so many of the last weights stay where they are.
    """
    adjacency = adjacency_of(graph, peer=peer)

    def logits(weights: list[Tensor], nodes: Tensor) -> Tensor:
        return dense_gcn(weights[:-2], graph.x, adjacency)[nodes] @ weights[-2] + weights[-1]

    for _ in range(num_steps):
        loss = F.cross_entropy(logits(weights, episode.support), episode.support_labels)
        moving = weights[: len(weights) - num_fixed]
        grads = torch.autograd.grad(loss, moving, create_graph=True)
        weights = [w - rate * g for w, g in zip(moving, grads, strict=True)] + weights[len(moving) :]
    return F.cross_entropy(logits(weights, episode.query), episode.query_labels, reduction="none")


def first_order_gradient(weights: list[Tensor], graph: Graph, episode: Episode, **options) -> list[Tensor]:
    """The gradient of the query loss with respect to the weights at the end of the steps."""
    ends = [w.detach().requires_grad_() for w in weights]
    adjacency = adjacency_of(graph, peer=options["peer"])

    def loss(nodes: Tensor, labels: Tensor) -> Tensor:
        rows = dense_gcn(ends[:-2], graph.x, adjacency)[nodes]
        return F.cross_entropy(rows @ ends[-2] + ends[-1], labels)

    for _ in range(options["num_steps"]):
        grads = torch.autograd.grad(loss(episode.support, episode.support_labels), ends)
        ends = [(w - options["rate"] * g).detach().requires_grad_() for w, g in zip(ends, grads, strict=True)]
    return list(torch.autograd.grad(loss(episode.query, episode.query_labels), ends))
