"""What a trainer minimises, and how it scores weights: the one thing that few-shot and node runs differ in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from torch import Tensor, nn

from fgsam.graph.field import Field
from fgsam.graph.graph import Graph

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Scored:
    """Weights put to the test on some nodes.

    Attributes:
        hits: Which answers are right, booleans on the CPU; False where one is only repeated.
        accuracy: Share of right answers, between 0 and 1.
        score: What weights are chosen by, between 0 and 1: the accuracy, or another measure of the task's.
    """

    hits: Tensor
    accuracy: float
    score: float


class Task(ABC, Generic[Batch]):
    """Draws what a step learns from, gives its loss, and scores weights on validation nodes.

    Attributes:
        unit: What a step is called in results and messages: ``"episode"``.
        metric: What ``Scored.score`` is: ``"accuracy"``, unless the task says otherwise.
        max_batches: Most batches to learn from, whatever the config allows; None without such a limit.
        graph: The graph that training sees.
    """

    unit: ClassVar[str]
    metric: str = "accuracy"
    max_batches: int | None = None
    graph: Graph

    @abstractmethod
    def draw(self, stream: Sequence[str | int], step: int) -> Batch:
        """Draw what one training step learns from.

        Args:
            stream: What the random numbers depend on beside the step.
            step: The step, counted from 1.
        """

    @abstractmethod
    def field(self, method: Any, batch: Batch, *, peer: bool) -> Field:
        """Build, or keep, the field of one pass over a batch.

        Args:
            method: The nets.
            batch: What ``draw`` gave.
            peer: Whether it is the peer pass.
        """

    @abstractmethod
    def loss(self, method: Any, field: Field, batch: Batch) -> Tensor:
        """Give one loss for each node that is asked for; their mean is the objective."""

    def stepped(self, method: Any) -> None:
        """Let the nets follow weights that the optimizer has moved; nothing by default."""

    @abstractmethod
    def glance(self, method: nn.Module) -> Scored:
        """Score weights in the midst of training, cheaply."""

    @abstractmethod
    def validate(self, method: nn.Module) -> Scored:
        """Score weights on all that there is for choosing them."""

    def describe(self, batch: Batch) -> str:
        """Say what is special about a batch, for the message of a failed step; nothing by default."""
        return ""
