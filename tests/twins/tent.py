"""TENT written graph by graph, on dense matrices of each ego graph."""

from __future__ import annotations

import torch
from torch import Tensor

from fgsam.episodes.episode import Episode
from fgsam.graph.graph import Graph
from tests.twins.graphs import dense_adjacency, dense_normalised, nodes_within
from tests.twins.methods import slow_gcn


def slow_tent_loss(method: torch.nn.Module, graph: Graph, episode: Episode, *, peer: bool) -> Tensor:
    """The loss of each query node, all classes of the episode being taught."""
    logits = slow_tent_logits(method, graph, episode, peer=peer)
    embeddings = slow_gcn(method.encoder, graph, episode.nodes, peer=peer)
    labels = torch.cat([episode.support_labels, episode.query_labels]).tolist()
    taught = method.classes.tolist()
    base = []
    for row, label in zip(embeddings, labels, strict=True):
        scores = method.classifier(row).softmax(0)
        base.append(-scores[taught.index(int(episode.classes[label]))].log())
    losses = []
    for i, label in enumerate(episode.query_labels.tolist()):
        mine = base[episode.num_support + i]
        share = (sum(base[: episode.num_support]) + len(episode.query) * mine) / len(episode.nodes)
        losses.append(share - logits[i].softmax(0)[label].log())
    return torch.stack(losses)


def slow_tent_logits(method: torch.nn.Module, graph: Graph, episode: Episode, *, peer: bool) -> Tensor:
    """Both forms, with a network made anew for each pair of a class and an ego graph."""
    is_mended = method.variant == "mended"
    weights = dense_adjacency(graph) if is_mended else dense_normalised(graph, "row")
    embeddings = slow_gcn(method.encoder, graph, torch.arange(graph.num_nodes), peer=peer)
    supports = [episode.support[episode.support_labels == c].tolist() for c in range(episode.n_way)]
    virtual = [sum(embeddings[node] for node in nodes) / len(nodes) for nodes in supports]
    told = virtual if is_mended else [sum(virtual) / len(virtual)] * len(virtual)

    def ego(nodes: list[int], hops: int) -> tuple[Tensor, Tensor]:
        members = sorted(nodes if peer else nodes_within(graph, nodes, hops))
        edges = torch.eye(len(members), dtype=graph.dtype) if peer else weights[members][:, members]
        return embeddings[members], edges

    def layers(row: Tensor, x: Tensor, edges: Tensor) -> Tensor:
        """The graph network that is made for ``row``, on one ego graph."""
        if is_mended:
            edges = edges.clone().fill_diagonal_(1.0)
            edges = edges / edges.sum(1, keepdim=True)
        scale, shift = method.generator(row).chunk(2)
        start = 0
        for depth, layer in enumerate((method.first, method.second)):
            made = []
            for part in (layer.weight, layer.bias):
                end = start + part.numel()
                made.append(part * (1 + scale[start:end].view_as(part)) + shift[start:end].view_as(part))
                start = end
            x = edges @ ((x.relu() if depth else x) @ made[0]) + made[1]
        return x

    rows = []
    for node in episode.query.tolist():
        row = []
        for c, nodes in enumerate(supports):
            x, edges = ego(nodes, 1)
            linked = torch.eye(len(x) + 1, dtype=graph.dtype)
            linked[1:, 1:] = edges
            if is_mended and not peer:
                linked[0, :] = linked[:, 0] = 1.0
            of_class = layers(told[c], torch.cat([virtual[c][None], x]), linked)[0]
            of_query = layers(told[c], *ego([node], 2)).mean(0)
            row.append(torch.cosine_similarity(of_class, of_query, dim=0) / method.temperature)
        rows.append(torch.stack(row))
    return torch.stack(rows)
