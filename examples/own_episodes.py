"""Own episodes on an own graph: a loop of your own around the parts, without configs and run directories.

The graph comes from networkx: 12 clubs whose members talk mostly among themselves, with noisy features. Eight clubs
give the tasks to learn from, the other four are met for the first time in the test.
"""

from __future__ import annotations

from functools import partial

import networkx as nx
import torch

import fgsam
from fgsam.episodes.streams import generator
from fgsam.methods.protonet import ProtoNet
from fgsam.nn.encoders import field_of
from fgsam.nn.gcn import GCN


def clubs(num_clubs: int = 12, size: int = 30) -> fgsam.Graph:
    """Members, whose features say little about their club, and who talks to whom."""
    links = [[0.2 if a == b else 0.01 for b in range(num_clubs)] for a in range(num_clubs)]
    graph = nx.stochastic_block_model([size] * num_clubs, links, seed=0)
    centres = generator("centres").normal(size=(num_clubs, 16))
    noise = generator("noise").normal(size=(num_clubs * size, 16))
    for node, club in graph.nodes(data="block"):
        graph.nodes[node].update(x=centres[club] + 2 * noise[node], y=club)
    return fgsam.Graph.from_networkx(graph)


def main(num_episodes: int = 100) -> float:
    """Learn 2-way 3-shot tasks with FGSAM, and return the mean accuracy over 200 tasks on new clubs."""
    torch.manual_seed(0)
    graph = clubs().to(dtype=torch.float32)
    tasks = {"n_way": 2, "k_shot": 3, "num_query": 10}
    training = fgsam.EpisodeSampler(graph.labels, range(8), **tasks)
    test = fgsam.EpisodeBank.draw(fgsam.EpisodeSampler(graph.labels, range(8, 12), **tasks), 200, generator("test"))

    method = ProtoNet(lambda: GCN(graph.num_features))
    optimizer = fgsam.FGSAM(method, torch.optim.Adam, rho=0.05, lr=0.01)
    for step in range(num_episodes):
        episode = training.draw(generator("training", step))
        field = field_of(method.encoder, graph, episode.nodes)
        peer = field_of(method.encoder, graph, episode.nodes, peer=True)
        optimizer.step(partial(method.loss, field, episode), partial(method.loss, peer, episode))

    method.eval()
    with torch.no_grad():
        (rows,) = method.represent(field_of(method.encoder, graph, range(graph.num_nodes)))
        logits = [method.logits((rows[e.support],), e.support_labels, (rows[e.query],), e.n_way) for e in test]
    right = [scores.argmax(dim=1) == e.query_labels for scores, e in zip(logits, test, strict=True)]
    return float(torch.cat(right).float().mean())


if __name__ == "__main__":
    print(f"accuracy on new clubs {main():.3f}")
