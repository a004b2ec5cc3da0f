"""The graph of a node classification run, and how its nodes are divided."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fgsam.engine.config_model import NodeConfig
from fgsam.engine.data import prepared, usable_graph
from fgsam.engine.node_task import Metric, NodeScorer, NodeTask
from fgsam.engine.task import Scored
from fgsam.episodes.streams import generator
from fgsam.functional.intervals import share_interval
from fgsam.graph.graph import Graph
from fgsam.methods.classifier import NodeClassifier
from fgsam.nodes.split import PARTS, NodeSplit, SplitKind
from fgsam.registry import DATASETS

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NodeData:
    """A graph and a division of its nodes.

    Attributes:
        graph: The graph, which training, validation and test see whole; only labels are kept apart.
        split: Its nodes, divided.
        batch_size: Training nodes in a step; None for all.
    """

    graph: Graph
    split: NodeSplit
    batch_size: int | None = None

    @property
    def train_graph(self) -> Graph:
        """What training sees: the graph."""
        return self.graph

    @property
    def digests(self) -> dict[str, str]:
        """The sha256 of each part that decides about results."""
        return {"data": self.graph.digest, "split": self.split.digest}

    @property
    def metric(self) -> Metric:
        """What weights are chosen by: the area under the ROC curve where there are two classes, else the accuracy."""
        labels = self.graph.labels.cpu()
        has_both = all(len(torch.unique(labels[getattr(self.split, part)])) == 2 for part in ("val", "test"))
        return "roc_auc" if self.graph.num_classes == 2 and has_both else "accuracy"

    def given(self, method: type[NodeClassifier]) -> list[Any]:
        """What the constructor of a classifier is given beside the encoder: the number of classes."""
        return [self.graph.num_classes]

    def task(self, method: NodeClassifier) -> NodeTask:
        """What a trainer minimises, and chooses by."""
        return NodeTask(self.graph, self.split, batch_size=self.batch_size, metric=self.metric)

    def test(self, method: NodeClassifier) -> Scored:
        """Score weights on the test nodes."""
        return NodeScorer(self.graph, self.split.test, self.metric).score(method)

    def figures(self, val: Scored, test: Scored) -> dict[str, Any]:
        """What the results of a run say about its validation and test nodes, as plain values.

        ``test_interval`` is the 95 % interval over test nodes. ``test_hits`` holds a bit for each test node, in the
        order of their ids, as hexadecimal digits.
        """
        _, interval = share_interval(int(test.hits.sum()), len(test.hits))
        found: dict[str, Any] = {
            "task": NodeConfig.task,
            "test_accuracy": test.accuracy,
            "test_interval": interval,
            "interval_over": "test nodes",
            "val_accuracy": val.accuracy,
            "metric": self.metric,
            "split": {"name": self.split.name, "kind": self.split.kind},
            "num_nodes": self.split.sizes,
            "test_hits": packed(test.hits),
            "val_hits": packed(val.hits),
        }
        if self.metric == "roc_auc":
            found |= {"test_roc_auc": test.score, "val_roc_auc": val.score}
        return found


def build_node_data(config: NodeConfig, graph: Graph | None = None) -> NodeData:
    """Load the graph and divide its nodes.

    Args:
        config: What to load.
        graph: A graph to use instead of the one that is named.

    Raises:
        ValueError: If there is no such split, a part of it is empty, or the device is not there.
        FileNotFoundError: If raw files are missing.
    """
    graph = usable_graph(config, graph)
    split = build_node_split(config, graph)
    _check_parts(split, graph)
    return NodeData(prepared(config, graph), split, config.train.batch_size)


def build_node_split(config: NodeConfig, graph: Graph) -> NodeSplit:
    """Return the division of nodes that a config names.

    A public one comes from the raw files of a named graph; a drawn one depends on the digest of the graph, its kind and
    its number alone. Nodes without a label are in no part.

    Raises:
        ValueError: If there is no such split, or the graph has no labels, or fewer nodes than the split names.
        FileNotFoundError: If raw files are missing.
    """
    labels = graph.labels.cpu()
    if not bool((labels >= 0).any()):
        raise ValueError(
            f"Expected a graph with labels (got '{graph.name}' with {graph.num_nodes} nodes of label -1). "
            "Give some nodes a class, 0, 1, 2, ..."
        )
    index = config.dataset.split
    kind = _kind(config, graph)
    if kind != "public":
        rng = generator("node split", graph.digest, kind, index)
        return NodeSplit.draw(kind, labels, rng, name=str(index))
    load = DATASETS.load(graph.name) if graph.name in DATASETS else None
    if load is None or getattr(load, "splits", None) is None:
        raise ValueError(
            f"Expected a graph with public splits for dataset.split_kind=public (got '{graph.name}', which has none). "
            "Set dataset.split_kind=drawn."
        )
    options = {key: value for key, value in config.dataset.options.items() if config.dataset.name == graph.name}
    split: NodeSplit = load.public_split(index, config.dataset.root, options)
    last = max(int(getattr(split, part).max()) for part in PARTS if len(getattr(split, part)))
    if last >= graph.num_nodes:
        raise ValueError(
            f"Expected graph '{graph.name}' to have the nodes of its public splits (got {graph.num_nodes} nodes, and "
            f"node {last} in split {index}). Give a changed graph another name, or set dataset.split_kind=drawn."
        )
    return split.among(labels >= 0)


def _kind(config: NodeConfig, graph: Graph) -> SplitKind:
    if config.dataset.split_kind is not None:
        return config.dataset.split_kind
    splits = getattr(DATASETS.load(graph.name), "splits", None) if graph.name in DATASETS else None
    if splits is None:
        return "drawn"
    return "drawn_20" if splits.has_more and config.dataset.split >= splits.count else "public"


def _check_parts(split: NodeSplit, graph: Graph) -> None:
    empty = [part for part, size in split.sizes.items() if not size]
    if empty:
        raise ValueError(
            f"Expected nodes in every part of split '{split.name}' of '{graph.name}' (got none in "
            f"{' and '.join(empty)}, of {split.sizes}). Use a graph with more labelled nodes or another split."
        )
    labels = graph.labels.cpu()
    missing = sorted(set(labels[labels >= 0].tolist()) - set(labels[split.train].tolist()))
    if missing:
        logger.warning(
            "Split '%s' of '%s' has no training node of class %s: nodes of it cannot be classified rightly",
            split.name,
            graph.name,
            ", ".join(map(str, missing)),
        )


def packed(hits: Tensor) -> str:
    """Write booleans as hexadecimal digits, eight a pair.

    Example:
        >>> packed(torch.tensor([True, False, True]))
        'a0'
    """
    return np.packbits(hits.numpy()).tobytes().hex()


def unpacked(digits: str, num_hits: int) -> Tensor:
    """Read what ``packed`` wrote.

    Example:
        >>> unpacked("a0", 3)
        tensor([ True, False,  True])
    """
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(digits), dtype=np.uint8), count=num_hits)
    return torch.from_numpy(bits.astype(bool))
