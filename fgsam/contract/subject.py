"""What is put to the test: a rule, and a small net to try it on."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fgsam.optim.base import SharpnessAware

Losses = Callable[[], Tensor]
"""No arguments, one loss a query, shape ``[num_queries]``."""

BASES: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "adam": (torch.optim.Adam, {"lr": 0.05, "weight_decay": 1e-3}),
    "adamw": (torch.optim.AdamW, {"lr": 0.05}),
    "momentum": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
}
OWN_BASE = "own"
"""Stands for the base of a rule that takes no ``base``."""


class Net(nn.Module):
    """Two linear maps with dropout and batch statistics; its first parameter is one that no loss reaches."""

    def __init__(self, *, dropout: float = 0.5) -> None:
        super().__init__()
        self.first = nn.Linear(4, 5)
        self.statistics = nn.BatchNorm1d(5)
        self.dropout = nn.Dropout(dropout)
        self.second = nn.Linear(5, 3)
        self.unused = nn.Parameter(torch.ones(2))
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=generator))
        self.x = torch.randn(8, 4, generator=generator).double()
        mixing = torch.rand(8, 8, generator=generator).double()
        self.mixing = mixing / mixing.sum(1, keepdim=True)
        self.labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        """Logits, shape ``[8, 3]``."""
        return self.second(self.dropout(self.statistics(self.first(x))))  # type: ignore[no-any-return]

    def gnn(self) -> Tensor:
        """Losses with message passing, shape ``[8]``."""
        logits = self(self.mixing @ self.x) + self.x[:, :3]
        return nn.functional.cross_entropy(logits, self.labels, reduction="none")

    def peer(self) -> Tensor:
        """Losses without message passing, shape ``[8]``."""
        return nn.functional.cross_entropy(self(self.x), self.labels, reduction="none")


@dataclass(frozen=True)
class Subject:
    """A rule and the options with which it is tested.

    Args:
        rule: The class.
        options: Options of the rule for every check; those of a check itself go first.
    """

    rule: type[SharpnessAware]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_base(self) -> bool:
        """Whether the rule lets the caller choose its base optimizer."""
        return "base" in inspect.signature(self.rule).parameters

    @property
    def bases(self) -> list[str]:
        """Names of the base optimizers to try it with."""
        return list(BASES) if self.has_base else [OWN_BASE]

    @property
    def has_backward(self) -> bool:
        """Whether the rule differentiates; one that does not sees every parameter alike, reached or not."""
        counts = self.build([torch.ones(1, requires_grad=True)]).counts(1)[0]
        return counts.backwards + counts.peer > 0

    def base_options(self, base: str) -> dict[str, Any]:
        """Options of a base optimizer."""
        if self.has_base:
            return BASES[base][1]
        return {"lr": 0.05, "momentum": 0.9} if self.rule.rule == "sgd" else {"lr": 0.05}

    def build(self, target: Any, base: str | None = None, **options: Any) -> SharpnessAware:
        """Make the optimizer of a model, parameters or groups."""
        base = self.bases[0] if base is None or not self.has_base else base
        chosen = {"base": BASES[base][0]} if self.has_base else {}
        return self.rule(target, **{**chosen, **self.base_options(base), **self.options, **options})

    def step(self, optimizer: SharpnessAware, gnn: Losses, peer: Losses) -> Tensor:
        """Take a step on the mean of some losses; hand over one loss a query, and a peer, where the rule needs it."""
        closures = [gnn, peer][: 2 if self.rule.peer == "required" else 1]
        return optimizer.step(*closures if self.rule.needs_vectors else [mean_of(losses) for losses in closures])

    def train(
        self, num_steps: int, base: str | None = None, net: Net | None = None, **options: Any
    ) -> tuple[Net, SharpnessAware]:
        """Take steps on the net from a fixed random state."""
        net = net or Net()
        optimizer = self.build(net, base, **options)
        torch.manual_seed(3)
        for _ in range(num_steps):
            self.step(optimizer, net.gnn, net.peer)
        return net, optimizer


def mean_of(losses: Losses) -> Losses:
    """Return the mean instead of one loss a query."""
    return lambda: losses().mean()


def expect(condition: bool | Tensor, message: str) -> None:
    """Say what was broken, also under ``python -O``."""
    if not condition:
        raise AssertionError(message)


def expect_same(first: Any, second: Any, what: str) -> None:
    """Compare two nested states bit for bit."""
    if isinstance(first, Tensor):
        # What is not finite equals itself too.
        is_same = isinstance(second, Tensor) and first.dtype == second.dtype and first.shape == second.shape
        expect(is_same and first.allclose(second, rtol=0, atol=0, equal_nan=True), f"{what} changed")
    elif isinstance(first, Mapping):
        expect(list(first) == list(second), f"{what} has other keys: {list(second)} in place of {list(first)}")
        for key, value in first.items():
            expect_same(value, second[key], f"{what}, {key!r}")
    elif isinstance(first, list | tuple):
        expect(len(first) == len(second), f"{what} has another length")
        for i, (one, other) in enumerate(zip(first, second, strict=True)):
            expect_same(one, other, f"{what}, {i}")
    else:
        expect(first == second, f"{what} changed from {first!r} to {second!r}")


def expect_close(found: Tensor, expected: Tensor, what: str, rtol: float = 1e-12, atol: float = 1e-14) -> None:
    """Compare up to rounding."""
    gap = (found - expected).abs().max().item() if found.numel() else 0.0
    expect(torch.allclose(found, expected, rtol=rtol, atol=atol), f"{what} differs by {gap:.3g}")


def expect_error(error: type[BaseException], words: str, act: Callable[[], object]) -> BaseException:
    """Call something that must raise, with these words in the message."""
    try:
        act()
    except error as caught:
        expect(words in str(caught), f"the error should say {words!r} and says {str(caught)!r}")
        return caught
    raise AssertionError(f"Expected a {error.__name__} saying {words!r} (got none)")


def values(module: nn.Module) -> dict[str, Tensor]:
    """Copy weights and buffers."""
    return copy.deepcopy({name: value.detach() for name, value in module.state_dict().items()})


def weights(module: nn.Module) -> dict[str, Tensor]:
    """Copy the weights alone."""
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def spied(losses: Losses, calls: list[Any], look: Callable[[], Any]) -> Losses:
    """Note what a look shows whenever the losses are asked for."""

    def spying() -> Tensor:
        calls.append(look())
        return losses()

    return spying
