"""Base optimizers that divide by the curvature, and what their rules share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from fgsam.checks import check_choice, check_count, check_non_negative, check_positive
from fgsam.functional.curvature import as_real, hessian_diagonal, rademacher
from fgsam.functional.trees import Gradient, Grads
from fgsam.optim.base import Counts, ModelOrParams, Nonfinite, SharpnessAware
from fgsam.optim.passes import Pass

Correction = Literal["updates", "steps"]
"""What the bias correction of the averaged curvature counts: its updates, or steps up to its last update."""


class MomentDescent(torch.optim.Optimizer):
    r"""Keeps moving averages of the gradient and of the curvature; a subclass makes the step from them.

    .. math:: m \leftarrow \beta_1 m + (1 - \beta_1) g, \qquad D \leftarrow \beta_2 D + (1 - \beta_2) \, d

    ``g`` is read from ``grad``, ``d`` from ``curvature``; ``D`` changes only in steps that have one. The decay of the
    weights is apart from the gradient: ``w <- (1 - lr * weight_decay) w``.

    Args:
        params: Parameters or parameter groups; a group may have options of its own.
        lr: Step size, at least 0.
        betas: The two factors of decay, each in ``[0, 1)``.
        eps: Keeps the divisor from zero, positive.
        weight_decay: At least 0.
        further: Further options of a group.

    Raises:
        ValueError: If a number is out of range.
    """

    curvature: Grads | None = None
    """What the next step, and no other, takes as ``d``: one real tensor for each parameter, or ``None``."""

    def __init__(
        self,
        params: Any,
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        further: dict[str, Any] | None = None,
    ) -> None:
        # PyTorch adds the last one to the defaults of every optimizer that lacks it, but not to the groups it has.
        own = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "differentiable": False}
        super().__init__(params, {**own, **(further or {})})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; options it does not name take the defaults."""
        own = {**self.defaults, **param_group}
        check_non_negative(lr=own["lr"], weight_decay=own["weight_decay"])
        check_positive(eps=own["eps"])
        if len(own["betas"]) != 2 or not all(0 <= beta < 1 for beta in own["betas"]):
            raise ValueError(f"Expected 'betas' to be two numbers, at least 0 and below 1 (got betas={own['betas']})")
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Make the step; gradients and curvature must be in their places."""
        assert closure is None, "the rule runs the closure"
        params = [p for group in self.param_groups for p in group["params"]]
        measured = {} if self.curvature is None else dict(zip(params, self.curvature, strict=True))
        self.curvature = None
        for group in self.param_groups:
            reached = [p for p in group["params"] if p.grad is not None]
            if not reached:
                continue
            states = [self.state[p] for p in reached]
            self._average(reached, states, [measured.get(p) for p in reached], *group["betas"])
            if group["weight_decay"] and group["lr"]:
                torch._foreach_mul_(reached, 1 - group["lr"] * group["weight_decay"])
            self._descend(group, reached, states)

    @abstractmethod
    def _descend(self, group: dict[str, Any], params: list[Tensor], states: list[dict[str, Any]]) -> None:
        """Move the weights by their averages."""

    def _average(
        self,
        params: list[Tensor],
        states: list[dict[str, Any]],
        curvature: list[Tensor | None],
        beta1: float,
        beta2: float,
    ) -> None:
        for p, state in zip(params, states, strict=True):
            if not state:
                state.update(step=0, exp_avg=torch.zeros_like(p))
            state["step"] += 1
        slopes = [p.grad for p in params if p.grad is not None]
        torch._foreach_lerp_([state["exp_avg"] for state in states], slopes, 1 - beta1)
        new = [(state, d) for state, d in zip(states, curvature, strict=True) if d is not None]
        for state, d in new:
            if "curvature" not in state:
                state.update(num_updates=0, curvature=torch.zeros_like(d, memory_format=torch.contiguous_format))
            state["num_updates"] += 1
            state["updated_at"] = state["step"]
        if new:
            torch._foreach_lerp_([state["curvature"] for state, _ in new], [d for _, d in new], 1 - beta2)


class PowerDescent(MomentDescent):
    r"""Divides the averaged gradient by a power of the averaged curvature.

    .. math:: w \leftarrow (1 - \eta \lambda) w - \eta \, \hat m / (\hat D^p + \epsilon)

    Both averages are freed from their start at zero, ``m`` by the number of steps, ``D`` by that of its own updates
    (``correction="updates"``) or by the steps up to its last update (``"steps"``). A parameter whose curvature was
    never measured waits until it is.
    """

    def __init__(
        self, params: Any, *, hessian_power: float, correction: Correction = "updates", **options: Any
    ) -> None:
        super().__init__(params, further={"hessian_power": hessian_power, "correction": correction}, **options)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; options it does not name take the defaults."""
        check_non_negative(hessian_power=param_group.get("hessian_power", self.defaults["hessian_power"]))
        super().add_param_group(param_group)

    def _power(self, group: dict[str, Any]) -> float:
        return float(group["hessian_power"])

    def _descend(self, group: dict[str, Any], params: list[Tensor], states: list[dict[str, Any]]) -> None:
        ready = [(p, state) for p, state in zip(params, states, strict=True) if "curvature" in state]
        if not ready:
            return
        count = "num_updates" if group["correction"] == "updates" else "updated_at"
        beta1, beta2 = group["betas"]
        divisors = torch._foreach_div([s["curvature"] for _, s in ready], [1 - beta2 ** s[count] for _, s in ready])
        torch._foreach_pow_(divisors, self._power(group))
        torch._foreach_add_(divisors, group["eps"])
        averages = [as_real(s["exp_avg"]) for _, s in ready]
        factors = [-group["lr"] / (1 - beta1 ** s["step"]) for _, s in ready]
        torch._foreach_addcdiv_([as_real(p) for p, _ in ready], averages, divisors, factors)


class SecondOrder(SharpnessAware):
    """A rule whose steps are divided by the Hessian's diagonal, which it measures every few steps.

    The period counts calls, skipped ones included. A step without measured curvature, because the one that was to
    measure it was skipped, measures it.
    """

    needs_graph = True
    descent: ClassVar[type[MomentDescent]] = PowerDescent
    base_optimizer: MomentDescent

    def __init__(
        self,
        model_or_params: ModelOrParams,
        *,
        hessian_every: int,
        nonfinite: Nonfinite,
        group_options: dict[str, float] | None = None,
        **base_options: Any,
    ) -> None:
        check_count(hessian_every=hessian_every)
        self.hessian_every = hessian_every
        super().__init__(
            model_or_params, self.descent, nonfinite=nonfinite, group_options=group_options, **base_options
        )

    def probe(self, params: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
        """Draw the vector that the Hessian is multiplied with; plus or minus one by default."""
        return rademacher(params, generator)

    def measure(self, diagonal: Grads) -> Grads:
        """Turn the estimated diagonal into what is averaged; its absolute value by default."""
        return [None if d is None else d.abs() for d in diagonal]

    def gradient(self, gnn: Pass, *, clean: bool = False) -> Gradient:
        """Run a pass, and hand the curvature at its weights to the base optimizer where it is due."""
        self.base_optimizer.curvature = None
        is_measured = any("curvature" in state for state in self.base_optimizer.state.values())
        if is_measured and self.num_calls % self.hessian_every:
            return gnn(clean=clean)
        probe = self.probe(self._params(), self.generator())
        gradient, product = gnn.with_product(probe, clean=clean)
        with torch.no_grad():
            self.base_optimizer.curvature = self.measure(hessian_diagonal(probe, product))
        return gradient

    def direction(self, gnn: Pass, peer: Pass) -> Grads:
        """Return the gradient, and measure the curvature."""
        return self.gradient(gnn, clean=True)

    def share(self, average: Callable[[Grads], Grads]) -> None:
        """Average the curvature, where this step has measured it."""
        if self.base_optimizer.curvature is not None:
            self.base_optimizer.curvature = average(self.base_optimizer.curvature)

    def counts(self, num_queries: int) -> tuple[Counts, Counts]:
        """Count a step that measures the curvature, and one that does not; by default one pass each."""
        return Counts(1, 1, products=1), Counts(1, 1, products=int(self.hessian_every == 1))


def correction_of(form: str) -> Correction:
    """Tell what the bias correction counts in each form of a rule.

    Raises:
        ValueError: If the form is unknown.
    """
    check_choice(("exact", "code"), form=form)
    return "steps" if form == "code" else "updates"
