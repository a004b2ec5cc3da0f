"""What a step of every optimizer takes on a batch, predicted from the passes that it asks for."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fgsam.advice.probe import Loss, Losses
from fgsam.engine.stopwatch import Work, interleaved, period_of
from fgsam.optim.base import Counts, SharpnessAware
from fgsam.registry import OPTIMIZERS

MEASURED = ("adam", "sam", "fgsam", "fgsam_plus")
"""Rules whose steps on the graph are timed as well."""

MOST_ROUNDS = 20

MOST_STEPS = 10
"""Steps in a row at most, of rules whose steps differ."""

ROUND_IN_PASSES = 20
"""What a round takes with the steps that are measured, in passes of the GNN, roughly."""


@dataclass(frozen=True)
class Costs:
    """Milliseconds of each kind of pass on one batch, medians.

    Attributes:
        forward: The loss of the GNN.
        gnn: Loss and gradient of the GNN.
        peer: Loss and gradient of the peer; None without a peer.
        product: What a product of the Hessian with a vector adds to a GNN gradient; None where the encoder cannot be
            differentiated twice.
    """

    forward: float
    gnn: float
    peer: float | None
    product: float | None

    def of(self, counts: Counts) -> float | None:
        """Add up the passes of a step; None where one of them cannot be run."""
        pairs = (
            (counts.forwards, self.forward),
            (counts.backwards, self.gnn - self.forward),
            (counts.peer, self.peer),
            (counts.products, self.product),
        )
        if any(number and cost is None for number, cost in pairs):
            return None
        return sum(number * cost for number, cost in pairs if cost is not None)


@dataclass(frozen=True)
class StepTime:
    """Milliseconds of a step of one optimizer with its default options.

    Attributes:
        optimizer: Its name.
        own: What it does beside its passes, the base step included.
        longest: Predicted time of its longest step; None where the encoder does not allow it.
        shortest: Predicted time of its shortest step.
        mean: Predicted mean over its period; None also for a rule whose passes depend on what it meets.
        measured: Mean over a period, measured; None for rules that are predicted only.
        ratio: The predicted mean by the measured one.
    """

    optimizer: str
    own: float
    longest: float | None
    shortest: float | None
    mean: float | None
    measured: float | None
    ratio: float | None


@dataclass(frozen=True)
class Times:
    """Times on one batch, all measured in the same rounds.

    Attributes:
        num_rounds: How often each was measured.
        passes: Cost of the passes.
        steps: Steps of every optimizer of the package.
    """

    num_rounds: int
    passes: Costs
    steps: tuple[StepTime, ...]

    def of(self, optimizer: str) -> StepTime:
        """The step of an optimizer by its name."""
        return next(step for step in self.steps if step.optimizer == optimizer)


@dataclass(frozen=True)
class Plan:
    """The passes of a rule.

    Attributes:
        longest: Passes of its longest step.
        shortest: Passes of its shortest step.
        period: Steps from one longest step to the next; None where the rule keeps none.
        num_steps: Steps in a row that are timed, the first of them a longest one.
    """

    longest: Counts
    shortest: Counts
    period: int | None
    num_steps: int

    @classmethod
    def of(cls, rule: SharpnessAware, num_queries: int) -> Plan:
        """Read the plan of a rule for a number of queries."""
        longest, shortest = rule.counts(num_queries)
        period = period_of(rule, num_queries)
        return cls(longest, shortest, period, min(period or 1, MOST_STEPS))

    def mean(self, costs: Costs, num_steps: int) -> float | None:
        """Time of the passes a step, over some steps of which the first is a longest one."""
        longest, shortest = costs.of(self.longest), costs.of(self.shortest)
        if longest is None or shortest is None:
            return None
        return (longest + (num_steps - 1) * shortest) / num_steps


def time_steps(losses: Losses, num_queries: int, *, has_peer: bool, seconds: float) -> Times:
    """Time the passes on the first batch, predict the step of every optimizer, and measure some of them.

    What a rule does beside its passes is timed on a stand-in for the loss that costs next to nothing.

    Args:
        losses: Losses of a classifier, whose weights stay.
        num_queries: Nodes in the batch.
        has_peer: Whether the encoder has a peer.
        seconds: When to stop. One round is always measured; steps on the graph only where a round of them fits.
    """
    deadline = time.perf_counter() + seconds
    rules = {name: _rule(name, losses.model) for name in OPTIMIZERS}
    plans = {name: Plan.of(rule, num_queries) for name, rule in rules.items()}
    arms = _arms_of_passes("pass", losses, has_peer)
    is_small = _seconds_of(arms["pass gnn"]) * ROUND_IN_PASSES < seconds
    for name, rule in rules.items():
        stand_in = _StandIn(rule, num_queries)
        arms[f"own {name}"] = _steps(rule, plans[name].num_steps, stand_in, stand_in)
        if name in MEASURED and is_small and (has_peer or rule.peer == "refused"):
            measured = _rule(name, losses.model)
            model: Any = measured.model
            arms[f"step {name}"] = _steps(measured, plans[name].num_steps, *losses.of(model).closures(0))
    stand_in = _StandIn(rules["adam"], num_queries)
    arms |= _arms("stand-in", stand_in, stand_in, stand_in.params)
    found = interleaved(arms, device=stand_in.params[0].device, rounds=MOST_ROUNDS, deadline=deadline)
    times = {name: statistics.median(values) for name, values in found.items()}
    passes, free = _costs("pass", times), _costs("stand-in", times)
    steps = tuple(_step_time(name, plan, passes, free, times) for name, plan in plans.items())
    return Times(len(found["pass gnn"]), passes, steps)


class _StandIn:
    """A loss on the weights of a rule that costs as good as nothing and has all derivatives."""

    def __init__(self, rule: SharpnessAware, num_queries: int) -> None:
        self.params = [param for group in rule.param_groups for param in group["params"]]
        self._num_queries = num_queries

    def __call__(self) -> Tensor:
        return (
            torch.stack([param.flatten()[:1].square().sum() for param in self.params]).sum().expand(self._num_queries)
        )


def _arms_of_passes(kind: str, losses: Losses, has_peer: bool) -> dict[str, Work]:
    own = losses.of(copy.deepcopy(losses.model))
    closure, peer_closure = own.closures(0)
    return _arms(kind, closure, peer_closure if has_peer else None, list(own.model.parameters()))


def _arms(kind: str, closure: Loss, peer_closure: Loss | None, params: list[Tensor]) -> dict[str, Work]:
    """One arm for each kind of pass."""
    params = [param for param in params if param.requires_grad]

    def gradient(loss: Loss) -> tuple[Tensor | None, ...]:
        return torch.autograd.grad(loss().mean(), params, allow_unused=True)

    def product() -> tuple[Tensor | None, ...]:
        grads = torch.autograd.grad(closure().mean(), params, create_graph=True, allow_unused=True)
        along = torch.stack([grad.sum() for grad in grads if grad is not None]).sum()
        return torch.autograd.grad(along, params, allow_unused=True)

    arms: dict[str, Work] = {f"{kind} forward": closure, f"{kind} gnn": lambda: gradient(closure)}
    if peer_closure is not None:
        arms[f"{kind} peer"] = lambda: gradient(peer_closure)
    if _runs(product):
        arms[f"{kind} product"] = product
    return arms


def _runs(product: Work) -> bool:
    """Whether an encoder has second derivatives; a module of the user's may hold operations without."""
    try:
        product()
    except RuntimeError:
        return False
    return True


def _costs(kind: str, times: Mapping[str, float]) -> Costs:
    forward, gnn, peer, product = (times.get(f"{kind} {name}") for name in ("forward", "gnn", "peer", "product"))
    assert forward is not None, "every kind of closure has these two arms"
    assert gnn is not None
    # On tiny graphs a lucky moment may show less work as dearer.
    extra = None if product is None else max(0.0, product - gnn)
    return Costs(min(forward, gnn), gnn, peer, extra)


def _steps(rule: SharpnessAware, num_steps: int, closure: Loss, peer_closure: Loss) -> Work:
    closures = (closure, peer_closure) if rule.peer == "required" else (closure,)

    def steps() -> None:
        for _ in range(num_steps):
            rule.step(*closures)

    return steps


def _step_time(name: str, plan: Plan, passes: Costs, free: Costs, times: Mapping[str, float]) -> StepTime:
    own = max(0.0, times[f"own {name}"] / plan.num_steps - (plan.mean(free, plan.num_steps) or 0.0))
    measured = times[f"step {name}"] / plan.num_steps if f"step {name}" in times else None
    found = (passes.of(plan.longest), passes.of(plan.shortest), plan.mean(passes, plan.period) if plan.period else None)
    longest, shortest, mean = (None if value is None else value + own for value in found)
    ratio = None if mean is None or measured is None else mean / measured
    return StepTime(name, own, longest, shortest, mean, measured, ratio)


def _rule(name: str, model: nn.Module) -> SharpnessAware:
    rule: SharpnessAware = OPTIMIZERS.load(name)(copy.deepcopy(model))
    return rule


def _seconds_of(arm: Work) -> float:
    start = time.perf_counter()
    arm()
    return time.perf_counter() - start
