"""What is put to the test: a few-shot learner, and a small graph to try it on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fgsam.data.synthetic import load
from fgsam.engine.config import load_config
from fgsam.engine.config_model import FewShotConfig
from fgsam.engine.data import Data, build_data
from fgsam.engine.evaluate import evaluating
from fgsam.engine.node_batches import NodeBatch
from fgsam.episodes.bank import EpisodeBank
from fgsam.episodes.episode import Episode
from fgsam.episodes.sampler import EpisodeSampler
from fgsam.episodes.streams import generator
from fgsam.graph.graph import Graph
from fgsam.methods.base import Learner
from fgsam.nn.gcn import GCN

Lesson = Episode | NodeBatch
"""What a training step learns from."""

N_WAY, K_SHOT, NUM_QUERY = 3, 3, 4
BATCH = 24
"""Nodes in a lesson of a learner that is trained on nodes."""

QUERIES = ("equal", "uneven", "all")
"""Which queries the episodes of a bank have."""


@dataclass(frozen=True)
class Subject:
    """A learner and the options with which it is tested.

    Args:
        method: The class: a trained learner, or a floor.
        options: Options of the learner for every check.
    """

    method: type[Any]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def uses_queries(self) -> bool:
        """Whether it may look at all queries of an episode together."""
        return bool(getattr(self.method, "uses_queries", False))

    def build(
        self, make_encoder: Callable[[], nn.Module] | None = None, *, dtype: torch.dtype = torch.float64, seed: int = 5
    ) -> Any:
        """Make a trained learner, by default on a GCN with dropout."""
        torch.manual_seed(seed)
        given = data().given(self.method)
        return self.method(make_encoder or make_gcn, *given, **self.options).to(dtype)

    def lesson(self, learner: Learner) -> Lesson:
        """What the learner is taught: an episode of training classes, or some nodes."""
        if learner.learns_from == "episodes":
            return episode_of(data().split.meta_train)
        batch: Any = data().task(learner).draw(("contract",), 1)
        return NodeBatch(batch.nodes[:BATCH], batch.labels[:BATCH])

    def loss(self, learner: Any, lesson: Lesson, graph: Graph | None = None, *, peer: bool = False) -> Tensor:
        """The loss of one training pass, with the same random numbers every time."""
        view = learner.field(graph or data().graph, lesson.nodes, peer=peer or not learner.trains_on_edges)
        torch.manual_seed(3)
        found: Tensor = learner.loss(view, lesson if isinstance(lesson, Episode) else lesson.labels)
        return found

    def logits(self, learner: Any, episode: Episode, graph: Graph | None = None, *, peer: bool = False) -> Tensor:
        """Scores of the queries of an episode, as in an evaluation."""
        view = learner.field(graph or data().graph, episode.nodes, peer=peer or not learner.tests_on_edges)
        with evaluating(learner):
            found: Tensor = learner.score(view, episode)
        return found


@cache
def data(dtype: torch.dtype = torch.float64) -> Data:
    """A graph of 400 nodes in 12 classes with its split; the first node of each class has no edge."""
    config = load_config(
        values={
            "dataset": {"name": "synthetic"},
            "episode": {"n_way": N_WAY, "k_shot": K_SHOT, "num_query": NUM_QUERY},
            "train": {"val_episodes": 3},
            "evaluate": {"num_episodes": 3},
            "run": {"dtype": str(dtype).removeprefix("torch.")},
        }
    )
    assert isinstance(config, FewShotConfig)
    made = load(num_nodes=400, num_classes=12, num_features=60, words_per_node=20, topic_share=0.5, mean_degree=3)
    lonely = torch.stack([torch.where(made.labels == c)[0][0] for c in range(made.num_classes)])
    kept = ~torch.isin(made.edge_index, lonely).any(0)
    graph = Graph.from_arrays(made.x, made.edge_index[:, kept], made.labels, directed=False, name="contract")
    return build_data(config, graph)


def episode_of(classes: tuple[int, ...], graph: Graph | None = None) -> Episode:
    """The first nodes of the first classes."""
    labels = data().graph.labels if graph is None else graph.labels
    chosen = torch.tensor(classes[:N_WAY])
    members = torch.stack([torch.where(labels == c)[0][: K_SHOT + NUM_QUERY] for c in chosen])
    numbers = torch.arange(N_WAY)
    return Episode(
        chosen,
        members[:, :K_SHOT].flatten(),
        numbers.repeat_interleave(K_SHOT),
        members[:, K_SHOT:].flatten(),
        numbers.repeat_interleave(NUM_QUERY),
    )


def exam() -> Episode:
    """An episode of test classes."""
    return episode_of(data().split.meta_test)


@cache
def bank(queries: str = "equal") -> EpisodeBank:
    """Episodes of validation and test classes.

    Args:
        queries: ``"equal"`` numbers of each class; ``"uneven"`` ones; or ``"all"`` nodes of the classes, so that
            smaller episodes are filled up.
    """
    split = data().split
    sampler = EpisodeSampler(
        data().graph.labels,
        split.meta_val + split.meta_test,
        n_way=N_WAY,
        k_shot=K_SHOT,
        num_query="all" if queries == "all" else NUM_QUERY,
        query_imbalance=1.0 if queries == "uneven" else None,
    )
    return EpisodeBank.draw(sampler, 8, generator("contract", queries))


def make_gcn() -> GCN:
    """Make the encoder that learners are tested with."""
    return GCN(data().graph.num_features, hidden=16, dim=8)


def renumbered(graph: Graph) -> tuple[Graph, Tensor]:
    """The same graph with its nodes in another order, and the new number of each node."""
    order = torch.from_numpy(generator("contract", "order").permutation(graph.num_nodes))
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    edges = np.asarray(place[graph.edge_index])
    other = Graph.from_arrays(graph.x[order], edges, graph.labels[order], directed=False, name=graph.name)  # type: ignore[index]
    return other.to(dtype=graph.dtype), place


def poisoned(graph: Graph, nodes: Tensor) -> Graph:
    """The same graph with NaN for the features of some nodes."""
    assert isinstance(graph.x, Tensor)
    x = graph.x.clone()
    x[nodes] = torch.nan
    return graph.replaced(x=x)
