"""SAFE with a projection that weighs how much a weight matters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from fgsam.checks import check_choice
from fgsam.functional.ascent import sam_factor
from fgsam.functional.curvature import as_real
from fgsam.functional.sparsity import Schedule
from fgsam.functional.trees import Grads
from fgsam.optim.base import ModelOrParams, Nonfinite
from fgsam.optim.passes import Pass
from fgsam.optim.sparsifier import Splitter


class SAFEPlus(Splitter):
    r"""Minimise the largest loss in a small ball, among weights of which most are zero, keeping those that matter.

    The step is that of ``SAFE``. Its projection is taken in the norm weighted by an importance ``P`` of each entry, and
    so keeps the entries with the largest score

    .. math:: \sqrt{P_i} \, |w_i + u_i|, \qquad P \leftarrow \beta P + (1 - \beta) \, g \circ g

    where ``g`` is the gradient at the unmoved weights, of the clean pass: ``P`` is the empirical Fisher information's
    diagonal, and the score the root of a second-order estimate of the loss that pruning costs. The authors take the
    Wanda score of language models for ``P``, the mean square of a weight's input; an optimizer sees no inputs, so the
    form here is derived from their general projection. ``importance="uniform"`` gives ``SAFE``.

    Cost: that of ``SAFE``. State: three vectors, ``z``, ``u`` and ``P``. Use it where layers differ much in scale.

    Args:
        model_or_params: The model, its parameters or parameter groups; a group may set its own ``rho``.
        base: Class of the optimizer that makes the step.
        sparsity: Share of zeros at the end, in ``[0, 1)``. Default as for ``SAFE``.
        importance: ``"squared_gradient"`` or ``"uniform"``.
        importance_decay: Decay ``beta`` of the squared gradients, in ``[0, 1)``. The default is a choice of ours.
        rho: Radius of the ball, at least 0. Default as for ``SAFE``.
        penalty: Weight of the penalty, at least 0. Default as for ``SAFE``.
        schedule: How the penalty rises: ``"cosine"``, ``"constant"``, ``"linear"`` or ``"cubic"``.
        num_steps: Step at which it reaches its end, at least 1: the length of training.
        dual_every: Steps from one projection to the next, at least 1. Default as for ``SAFE``.
        prune_biases: Whether tensors of fewer than two dimensions are pruned, too.
        nonfinite: ``"raise"``, ``"skip"`` or ``"allow"``, see ``SharpnessAware``.
        **base_options: Arguments of the base optimizer.

    Example:
        >>> w = torch.tensor([[3.0, 1.0]], requires_grad=True)
        >>> optimizer = SAFEPlus([w], torch.optim.SGD, sparsity=0.5, lr=0.0)
        >>> loss = optimizer.step(lambda: (w * torch.tensor([0.1, 5.0])).sum())
        >>> optimizer.finish()
        >>> w.detach()  # the smaller weight matters more to the loss
        tensor([[0., 1.]])

    Source:
        Lee et al., SAFE: Finding Sparse and Flat Minima to Improve Pruning, 2025, the section on SAFE+.
    """

    rule = "safe_plus"
    neutral: ClassVar[dict[str, float] | None] = {"rho": 0.0, "penalty": 0.0, "sparsity": 0.0}
    at_rest: ClassVar[dict[str, float]] = {"penalty": 0.0}
    passes = "2 GNN"

    def __init__(
        self,
        model_or_params: ModelOrParams,
        base: type[torch.optim.Optimizer] = torch.optim.Adam,
        *,
        sparsity: float = 0.95,
        importance: Literal["squared_gradient", "uniform"] = "squared_gradient",
        importance_decay: float = 0.99,
        rho: float = 0.1,
        penalty: float = 1e-3,
        schedule: Schedule = "cosine",
        num_steps: int = 1000,
        dual_every: int = 32,
        prune_biases: bool = False,
        nonfinite: Nonfinite = "raise",
        **base_options: Any,
    ) -> None:
        check_choice(("squared_gradient", "uniform"), importance=importance)
        if not 0 <= importance_decay < 1:
            raise ValueError(
                f"Expected 'importance_decay' to be at least 0 and below 1 (got importance_decay={importance_decay})"
            )
        self.is_weighted = importance == "squared_gradient"
        self.importance_decay = importance_decay
        super().__init__(
            model_or_params,
            base,
            sparsity=sparsity,
            penalty=penalty,
            schedule=schedule,
            num_steps=num_steps,
            dual_every=dual_every,
            prune_biases=prune_biases,
            nonfinite=nonfinite,
            group_options={"rho": rho},
            **base_options,
        )

    def direction(self, gnn: Pass, peer: Pass) -> Grads:
        """Return the gradient at the top of the ascent, with that of the penalty."""
        g = gnn(clean=True)
        if self.is_weighted:
            self._remember(g)
        with self.displaced(g, sam_factor(g, self.options_of_params("rho"))):
            g_s = gnn()
        return self.drawn(g_s)

    def share(self, average: Callable[[Grads], Grads]) -> None:
        """Average the importance, by which the ranks choose the weights that survive."""
        self.keep("importance", average(self.kept("importance")))

    def scores(self, where: Sequence[int], values: Sequence[Tensor]) -> list[Tensor]:
        """Weigh the size of each entry by the root of its importance; before the first step all matter the same."""
        known = [self.own.get(f"importance.{i}") for i in where]
        if all(one is None for one in known):
            return super().scores(where, values)
        # What never had a gradient does not matter to the loss.
        return [
            value.abs() * p.sqrt() if p is not None else torch.zeros_like(value.abs())
            for value, p in zip(values, known, strict=True)
        ]

    def _remember(self, g: Grads) -> None:
        where, weights = self._prunable()
        for i, w in zip(where, weights, strict=True):
            old, new = self.own.get(f"importance.{i}"), g[i]
            if old is None and new is None:
                continue
            square = torch.zeros_like(w.abs()) if new is None else as_real(new).square().reshape(*w.shape, -1).sum(-1)
            past = torch.zeros_like(square) if old is None else old
            self.own[f"importance.{i}"] = torch.lerp(square, past, self.importance_decay)
