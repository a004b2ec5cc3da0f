"""What the rules that end with a sparse network share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from fgsam.checks import check_choice, check_count, check_non_negative
from fgsam.functional.sparsity import SCHEDULES, Schedule, largest, mask_, masked, num_kept, risen
from fgsam.functional.trees import Grads, add_
from fgsam.optim.base import ModelOrParams, SharpnessAware


class Sparsifier(SharpnessAware):
    """A rule whose weights are to end with a given share of exact zeros.

    Prunable are the trainable tensors of two or more dimensions, and all trainable ones with ``prune_biases``; their
    largest entries survive, over all tensors together, ``round((1 - sparsity) * n)`` of ``n``, and of equal ones those
    that come first.

    Args:
        model_or_params: The model, its parameters or parameter groups.
        base: Class of the optimizer that makes the step.
        sparsity: Share of zeros at the end, in ``[0, 1)``.
        schedule: How a value of the rule rises.
        num_steps: Step at which it reaches its end, at least 1.
        prune_biases: Whether tensors of fewer than two dimensions are pruned, too.
        **options: Further arguments of ``SharpnessAware``.

    Raises:
        ValueError: If a number is out of range, or the schedule unknown.
    """

    def __init__(
        self,
        model_or_params: ModelOrParams,
        base: type[torch.optim.Optimizer],
        *,
        sparsity: float,
        schedule: Schedule,
        num_steps: int,
        prune_biases: bool,
        **options: Any,
    ) -> None:
        if not 0 <= sparsity < 1:
            raise ValueError(f"Expected 'sparsity' to be at least 0 and below 1 (got sparsity={sparsity})")
        check_choice(SCHEDULES, schedule=schedule)
        check_count(num_steps=num_steps)
        self.sparsity, self.schedule, self.num_steps, self.prune_biases = sparsity, schedule, num_steps, prune_biases
        super().__init__(model_or_params, base, **options)

    @torch.no_grad()
    def finish(self) -> None:
        """Put exact zeros into the weights, as many as ``sparsity`` asks for; to be called once, after training."""
        where, weights = self._prunable()
        mask_(weights, self._mask(where, weights))

    @contextmanager
    def deployed(self) -> Iterator[None]:
        """Hold the weights that ``finish`` would leave, and put the present ones back on exit."""
        _, weights = self._prunable()
        saved = [p.clone() for p in weights]
        try:
            self.finish()
            yield
        finally:
            for p, values in zip(weights, saved, strict=True):
                p.copy_(values)

    def scores(self, where: Sequence[int], values: Sequence[Tensor]) -> list[Tensor]:
        """Score the entries of prunable tensors; their size by default.

        Args:
            where: Index of each tensor's parameter.
            values: The weights, or what is to be projected in their place.
        """
        return [value.abs() for value in values]

    def sparsity_at(self, step: int) -> float:
        """Tell how sparse the network is to be after a number of steps, where the schedule is one of the sparsity."""
        return self.sparsity * risen(self.schedule, step, self.num_steps)

    def _prunable(self) -> tuple[list[int], list[Tensor]]:
        """Return the indices of prunable parameters, and the parameters without a graph."""
        found = [
            (i, p.detach())
            for i, p in enumerate(self._params())
            if p.requires_grad and (p.ndim > 1 or self.prune_biases)
        ]
        return [i for i, _ in found], [p for _, p in found]

    def _mask(self, where: Sequence[int], values: Sequence[Tensor], sparsity: float | None = None) -> list[Tensor]:
        """Mark the entries that survive."""
        num_weights = sum(value.numel() for value in values)
        return largest(
            self.scores(where, values), num_kept(num_weights, self.sparsity if sparsity is None else sparsity)
        )


class Splitter(Sparsifier):
    r"""A sparsifier that draws the weights ``w`` towards a sparse copy ``z``, with a scaled dual ``u``.

    The gradient gets ``penalty * (w - z + u)``. Every ``dual_every`` steps ``z`` becomes the projection of ``w + u``,
    and ``u`` what the projection took away. Both begin at the first step, ``z`` as the projection of the weights.
    """

    def __init__(
        self,
        model_or_params: ModelOrParams,
        base: type[torch.optim.Optimizer],
        *,
        penalty: float,
        dual_every: int,
        **options: Any,
    ) -> None:
        check_non_negative(penalty=penalty)
        check_count(dual_every=dual_every)
        self.penalty, self.dual_every = penalty, dual_every
        super().__init__(model_or_params, base, **options)

    def drawn(self, gradient: Grads) -> Grads:
        """Add the gradient of the penalty, where there is a gradient to add it to."""
        where, weights = self._prunable()
        sparse, dual = self._pair(where, weights)
        penalty = self.penalty * risen(self.schedule, self.num_calls, self.num_steps)
        if not penalty:
            return gradient
        pull: Grads = [None] * len(gradient)
        for i, w, z, u in zip(where, weights, sparse, dual, strict=True):
            pull[i] = w - z + u if gradient[i] is not None else None
        return add_(gradient, pull, alpha=penalty)

    def after_step(self) -> None:
        """Project, and move the dual, where it is due."""
        if (self.num_calls + 1) % self.dual_every:
            return
        where, weights = self._prunable()
        _, dual = self._pair(where, weights)
        both = [w + u for w, u in zip(weights, dual, strict=True)]
        sparse = masked(both, self._mask(where, both))
        self._keep_pair(where, sparse, [v - z for v, z in zip(both, sparse, strict=True)])

    def _pair(self, where: list[int], weights: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return ``z`` and ``u``; a parameter that has none yet, as at the first step, begins with its projection."""
        missing = [i for i in where if f"z.{i}" not in self.own]
        if missing:
            begun = dict(zip(where, masked(weights, self._mask(where, weights)), strict=True))
            sparse = [self.own.get(f"z.{i}", begun[i]) for i in where]
            dual = [self.own.get(f"u.{i}", torch.zeros_like(begun[i])) for i in where]
            self._keep_pair(where, sparse, dual)
        return [self.own[f"z.{i}"] for i in where], [self.own[f"u.{i}"] for i in where]

    def _keep_pair(self, where: list[int], sparse: list[Tensor], dual: list[Tensor]) -> None:
        for i, z, u in zip(where, sparse, dual, strict=True):
            self.own.update({f"z.{i}": z, f"u.{i}": u})
