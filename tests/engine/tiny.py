"""A graph of 240 nodes and what it takes to train on it in well under a second."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fgsam.engine.episode_task import EpisodeTask
from fgsam.engine.train import Trainer
from fgsam.episodes.bank import EpisodeBank
from fgsam.episodes.sampler import EpisodeSampler
from fgsam.episodes.streams import generator
from fgsam.graph.graph import Graph
from fgsam.methods.protonet import ProtoNet
from fgsam.nn.gcn import GCN
from fgsam.registry import OPTIMIZERS
from tests.helpers import SHORTER

SHAPE = {"n_way": 3, "k_shot": 2, "num_query": 4}

OPTIONS: dict[str, Any] = {
    **SHAPE,
    "num_episodes": 20,
    "val_every": 5,
    "progress": "none",
    "train": {"val_episodes": 20},
    "evaluate": {"num_episodes": 30},
}
"""For ``fgsam.run`` on the tiny graph."""


@cache
def tiny_graph(num_classes: int = 12, per_class: int = 20, num_features: int = 40) -> Graph:
    rng = np.random.default_rng(0)
    num_nodes = num_classes * per_class
    labels = np.repeat(np.arange(num_classes), per_class)
    topics = 0.1 + 0.4 * (rng.random((num_classes, num_features)) < 0.2)
    x = (rng.random((num_nodes, num_features)) < topics[labels]).astype(np.float32)
    source = rng.integers(0, num_nodes, 3 * num_nodes)
    same = labels[source] * per_class + rng.integers(0, per_class, len(source))
    target = np.where(rng.random(len(source)) < 0.7, same, rng.integers(0, num_nodes, len(source)))
    return Graph.from_arrays(x, np.stack([source, target]), labels, directed=False, name="tiny")


def tiny_bank(num_episodes: int = 20) -> EpisodeBank:
    sampler = EpisodeSampler(tiny_graph().labels, range(6, 9), **SHAPE)
    return EpisodeBank.draw(sampler, num_episodes, generator("bank"))


def tiny_method(seed: int = 0) -> ProtoNet:
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ProtoNet(lambda: GCN(tiny_graph().num_features, hidden=8, dim=4))


def tiny_trainer(optimizer: str = "adam", *, lr: float = 0.01, seed: int = 0, **options: Any) -> Trainer:
    graph = tiny_graph()
    method = tiny_method()
    options = {"num_steps": 20, "val_every": 5, "stream": ("split", seed), **options}
    task = EpisodeTask(graph, EpisodeSampler(graph.labels, range(6), **SHAPE), tiny_bank())
    return Trainer(task, method, OPTIMIZERS.load(optimizer)(method, lr=lr, **SHORTER.get(optimizer, {})), **options)


def tiny_run(root: Path, **options: Any):
    from fgsam.engine.run import run

    return run(options.pop("graph", tiny_graph()), root=str(root), **{**OPTIONS, **options})
