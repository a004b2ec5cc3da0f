"""Four small graphs as batches, a net with dropout and batch statistics, and the loop without any wrapper."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.nn import GCN

from fgsam.optim.base import SharpnessAware
from fgsam.registry import OPTIMIZERS

Values = list[Tensor]

DECAY = 0.5
"""What the learning rate is multiplied with after every second step."""


class Batch(NamedTuple):
    """Rows, their classes, the graph's edges, and the peer's, by which rows see only themselves."""

    x: Tensor
    labels: Tensor
    edges: Tensor
    self_loops: Tensor


def batches(sizes: Iterable[int] = (8, 8, 8, 8)) -> list[Batch]:
    """Random graphs with these numbers of nodes, the same at every call."""
    g = torch.Generator().manual_seed(1)
    return [
        Batch(
            torch.randn(size, 5, generator=g),
            torch.arange(size) % 3,
            torch.randint(size, (2, 3 * size), generator=g),
            torch.arange(size).repeat(2, 1),
        )
        for size in sizes
    ]


def net(dropout: float = 0.3) -> nn.Module:
    """A graph convolutional net with all that a second pass could spoil, the same at every call."""
    torch.manual_seed(0)
    return GCN(5, hidden_channels=8, num_layers=2, out_channels=3, dropout=dropout, norm="batch_norm")


def loss(model: Callable[..., Tensor], batch: Batch) -> Tensor:
    """Loss of the GNN pass."""
    return nn.functional.cross_entropy(model(batch.x, batch.edges), batch.labels)


def peer_loss(model: Callable[..., Tensor], batch: Batch) -> Tensor:
    """Loss of the peer pass."""
    return nn.functional.cross_entropy(model(batch.x, batch.self_loops), batch.labels)


def optimizer_of(rule: str, model: nn.Module, **options: Any) -> SharpnessAware:
    """A rule with Adam as its base."""
    made: SharpnessAware = OPTIMIZERS.load(rule)(model, torch.optim.Adam, **{"rho": 0.1, "lr": 0.05, **options})
    return made


def scheduler_of(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.StepLR:
    """Lowers the learning rate after every second step."""
    return torch.optim.lr_scheduler.StepLR(optimizer, 2, DECAY)


def steps(
    optimizer: SharpnessAware, model: Callable[..., Tensor], data: Iterable[Batch], weight: float = 1.0
) -> Iterator[int]:
    """Take a step on ``weight * loss`` of each batch, which draws from a seed of its own, and count them."""
    for step, batch in enumerate(data):
        torch.manual_seed(step)
        closures = [lambda batch=batch: weight * loss(model, batch), lambda batch=batch: peer_loss(model, batch)]
        optimizer.step(*closures[: 1 + (optimizer.peer == "required")])
        yield step


def plain_loop(rule: str, data: Iterable[Batch] | None = None, *, num_epochs: int = 1, weight: float = 1.0) -> Values:
    """Train without a wrapper, and return weights and buffers."""
    model = net()
    optimizer = optimizer_of(rule, model)
    scheduler = scheduler_of(optimizer)
    for _ in steps(optimizer, model, list(data or batches()) * num_epochs, weight):
        scheduler.step()
    return values(model)


class Loop:
    """A model, an optimizer and a scheduler, and a loop over the batches; a subclass puts a launcher's wrappers on."""

    def __init__(self, launcher: Any, rule: str, *, backward: bool = False) -> None:
        self.launcher = launcher
        self.model: Any = net()
        self.optimizer: Any = optimizer_of(rule, self.model)
        self.scheduler: Any = scheduler_of(self.optimizer)
        self.backward = backward
        self.num_steps = 0

    def run(self) -> None:
        for batch in batches():
            torch.manual_seed(self.num_steps)
            self.step(batch)
            self.num_steps += 1

    def step(self, batch: Batch) -> None:
        def closure() -> Tensor:
            value = loss(self.model, batch)
            if self.backward:
                self.launcher.backward(value)
            return value

        if self.optimizer.optimizer.peer == "refused":
            self.optimizer.step(closure)
        else:  # the wrapper's step takes one closure; its optimizer is ours
            self.optimizer.optimizer.step(closure, lambda: peer_loss(self.model, batch))
        self.scheduler.step()


def values(model: nn.Module) -> Values:
    """Copies of the weights, and of the buffers after them."""
    return [value.detach().clone() for value in [*model.parameters(), *model.buffers()]]


def same_bits(found: Values, expected: Values) -> bool:
    """Whether all weights and buffers are equal."""
    return all(map(torch.equal, found, expected)) and len(found) == len(expected)
