"""Node classification as a task: all training nodes, or a batch of them, a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from fgsam.engine.evaluate import check_scores, chunked_fields, evaluating
from fgsam.engine.node_batches import NodeBatch, NodeBatches
from fgsam.engine.task import Scored, Task
from fgsam.functional.ranking import roc_auc
from fgsam.graph.field import Field
from fgsam.graph.graph import Graph
from fgsam.methods.classifier import NodeClassifier
from fgsam.nn.encoders import Encoder, field_of
from fgsam.nodes.split import NodeSplit

Metric = Literal["accuracy", "roc_auc"]


class NodeScorer:
    """Scores one classifier on some nodes, again and again; their fields are built at the first use and kept.

    Args:
        graph: The graph.
        nodes: The nodes, without repetition, shape ``[num_nodes]``.
        metric: What ``Scored.score`` is: the accuracy, or the area under the ROC curve of class 1 against class 0.
    """

    def __init__(self, graph: Graph, nodes: Tensor, metric: Metric = "accuracy") -> None:
        self.graph, self.nodes, self.metric = graph, nodes, metric
        self._labels = graph.labels.cpu()[nodes]
        self._fields: list[Field] | None = None

    def score(self, method: NodeClassifier) -> Scored:
        """Compare the class of the highest logit with the label of each node.

        Args:
            method: A classifier; it is put into evaluation mode and back.

        Raises:
            RuntimeError: If a logit is NaN or infinite.
        """
        logits = self.logits(method)
        hits = logits.argmax(-1) == self._labels
        accuracy = int(hits.sum()) / len(hits)
        if self.metric == "accuracy":
            return Scored(hits, accuracy, accuracy)
        return Scored(hits, accuracy, roc_auc(logits[:, 1] - logits[:, 0], self._labels == 1))

    def logits(self, method: NodeClassifier) -> Tensor:
        """Score each node for each class, shape ``[num_nodes, num_classes]``, on the CPU."""
        if self._fields is None:
            encoder = cast(Encoder, method.encoder)
            self._fields = chunked_fields(encoder, self.graph, self.nodes, peer=not method.tests_on_edges)
        with evaluating(method):
            logits = torch.cat([method(field) for field in self._fields]).cpu()
        check_scores(method, logits, "node")
        return logits


class NodeTask(Task[NodeBatch]):
    """Minimises the loss of training nodes, and chooses by a metric on the validation nodes, for one classifier.

    Args:
        graph: The graph.
        split: Its nodes, divided.
        batch_size: Training nodes in a step; None for all of them.
        metric: What weights are chosen by.

    Raises:
        ValueError: If there are fewer training nodes than ``batch_size``.
    """

    unit = "step"

    def __init__(
        self, graph: Graph, split: NodeSplit, *, batch_size: int | None = None, metric: Metric = "accuracy"
    ) -> None:
        num_train = len(split.train)
        if batch_size is not None and batch_size > num_train:
            raise ValueError(
                f"Expected 'train.batch_size' to be at most the number of training nodes (got batch_size={batch_size}, "
                f"{num_train} nodes). Lower it, or leave it out to learn from all of them in every step."
            )
        self.graph, self.split, self.metric = graph, split, metric
        self._batches = NodeBatches(split.train, graph.labels[split.train.to(graph.device)], batch_size)
        self._scorer = NodeScorer(graph, split.val, metric)

    def draw(self, stream: Sequence[str | int], step: int) -> NodeBatch:
        """Take the batch of one step; it depends on the stream and the step alone."""
        return self._batches.draw(stream, step)

    def field(self, method: NodeClassifier, batch: NodeBatch, *, peer: bool) -> Field:
        """Build the field of the batch's nodes, or take the kept one of all nodes; of zero hops without edges."""

        def build(peer: bool) -> Field:
            return field_of(cast(Encoder, method.encoder), self.graph, batch.nodes, peer=peer)

        return self._batches.field(build, batch, peer=peer or not method.trains_on_edges)

    def loss(self, method: NodeClassifier, field: Field, batch: NodeBatch) -> Tensor:
        """Give the method's loss, one value a node."""
        return method.loss(field, batch.labels)

    def glance(self, method: nn.Module) -> Scored:
        """Score all validation nodes."""
        return self._scorer.score(cast(NodeClassifier, method))

    def validate(self, method: nn.Module) -> Scored:
        """Score all validation nodes."""
        return self.glance(method)
