"""Few-shot learners written with loops over classes and nodes, on dense matrices of the whole graph."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fgsam.episodes.episode import Episode
from fgsam.graph.graph import Graph
from fgsam.nn.gcn import GCN


def slow_gcn(encoder: GCN, graph: Graph, nodes: Tensor, *, peer: bool) -> Tensor:
    """The encoder on the whole graph with a dense adjacency; the identity for the peer."""
    adjacency = torch.eye(graph.num_nodes, dtype=graph.dtype) if peer else graph.weights(encoder.edges).dense()
    h = graph.x if isinstance(graph.x, Tensor) else graph.x.dense()
    for depth, layer in enumerate(encoder.layers):
        h = adjacency @ ((h.relu() if depth else h) @ layer.weight) + layer.bias
    return h[nodes]


def slow_protonet_loss(method: torch.nn.Module, graph: Graph, episode: Episode, *, peer: bool) -> Tensor:
    rows = slow_gcn(method.encoder, graph, episode.nodes, peer=peer)
    support, query = rows[: episode.num_support], rows[episode.num_support :]
    prototypes = [sum(support[episode.support_labels == c]) / (episode.support_labels == c).sum() for c in range(3)]
    return _losses([[-((q - p) ** 2).sum() for p in prototypes] for q in query], episode)


def slow_matchingnet_loss(method: torch.nn.Module, graph: Graph, episode: Episode, *, peer: bool) -> Tensor:
    """Every query with every support node; the logarithm of a sum of exponentials as it stands."""
    rows = slow_gcn(method.encoder, graph, episode.nodes, peer=peer)
    support, query = rows[: episode.num_support], rows[episode.num_support :]
    losses = []
    for q, label in zip(query, episode.query_labels.tolist(), strict=True):
        votes = [((q @ s) / (q.norm() * s.norm()) / method.temperature).exp() for s in support]
        own = [vote for vote, of in zip(votes, episode.support_labels.tolist(), strict=True) if of == label]
        losses.append(-(sum(own) / sum(votes)).log())
    return torch.stack(losses)


def slow_gpn_loss(method: torch.nn.Module, graph: Graph, episode: Episode, *, peer: bool) -> Tensor:
    """Both forms of GPN, node by node."""
    released = method.variant == "fgsam"
    rows = slow_gcn(method.encoder, graph, episode.nodes, peer=peer)
    hidden = slow_gcn(method.valuator.encoder, graph, episode.support, peer=peer).relu()
    support, query = rows[: episode.num_support], rows[episode.num_support :]
    degrees = graph.adjacency.dense().sum(1)[episode.support].tolist()
    prototypes = []
    for c in range(episode.n_way):
        members = [i for i in range(episode.num_support) if episode.support_labels[i] == c]
        values = []
        for i in members:
            centrality = math.log(max(degrees[i], 1.0)) if released else math.log(degrees[i] + method.degree_offset)
            score = (hidden[i] * method.valuator.head.weight[0]).sum() + method.valuator.head.bias[0]
            value = 1 / (1 + (-centrality * score).exp())
            values.append(value.exp() if released else value)
        prototype = sum(value / sum(values) * support[i] for value, i in zip(values, members, strict=True))
        prototypes.append(prototype / len(members) if released else prototype)
    squares = [[((q - p) ** 2).sum() for p in prototypes] for q in query]
    return _losses([[-(s.sqrt() if released else s) for s in row] for row in squares], episode)


def _losses(logits: list[list[Tensor]], episode: Episode) -> Tensor:
    losses = []
    for row, label in zip(logits, episode.query_labels.tolist(), strict=True):
        total = sum(value.exp() for value in row)
        losses.append(-(row[label].exp() / total).log())
    return torch.stack(losses)
