"""Iterative hard thresholding."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from fgsam.functional.sparsity import Schedule, mask_
from fgsam.functional.trees import Grads
from fgsam.optim.base import Counts, ModelOrParams, Nonfinite
from fgsam.optim.passes import Pass
from fgsam.optim.sparsifier import Sparsifier


class IHT(Sparsifier):
    r"""Minimise the loss among weights of which most are zero, by a projection after every step.

    .. math:: w \leftarrow \mathrm{Proj}_{d_t}\big(\mathrm{Opt}(w, \nabla L(w))\big)

    ``Proj`` keeps the ``d_t`` largest weights, fewer and fewer as the sparsity rises. All weights get gradients, so
    that one that is zero may come back. The projection acts at a learning rate of zero, too.

    Cost: one forward and backward pass, and a selection of the largest weights. State: none. Use it as the simplest
    rival of ``SAFE``.

    Args:
        model_or_params: The model, its parameters or parameter groups.
        base: Class of the optimizer that makes the step.
        sparsity: Share of zeros at the end, in ``[0, 1)``; 0 leaves the base optimizer. Default as for ``SAFE``.
        schedule: How the sparsity rises: ``"cubic"`` (as SAFE's authors run it), ``"constant"`` (the textbook's),
            ``"linear"`` or ``"cosine"``.
        num_steps: Step at which it reaches its end, at least 1: the length of training.
        prune_biases: Whether tensors of fewer than two dimensions are pruned, too.
        nonfinite: ``"raise"``, ``"skip"`` or ``"allow"``, see ``SharpnessAware``.
        **base_options: Arguments of the base optimizer.

    Example:
        >>> w = torch.tensor([[3.0, 1.0, -2.0, 0.5]], requires_grad=True)
        >>> optimizer = IHT([w], torch.optim.SGD, sparsity=0.5, schedule="constant", lr=0.25)
        >>> loss = optimizer.step(lambda: (w**2).sum())
        >>> w.detach()
        tensor([[ 1.5000,  0.0000, -1.0000,  0.0000]])

    Source:
        Blumensath and Davies, Iterative Hard Thresholding for Compressed Sensing, 2009, Eq. 2; Lee et al., SAFE:
        Finding Sparse and Flat Minima to Improve Pruning, 2025, for its schedule.
    """

    rule = "iht"
    neutral: ClassVar[dict[str, float] | None] = {"sparsity": 0.0}
    at_rest: ClassVar[dict[str, float]] = {"sparsity": 0.0}
    passes = "1 GNN"

    def __init__(
        self,
        model_or_params: ModelOrParams,
        base: type[torch.optim.Optimizer] = torch.optim.Adam,
        *,
        sparsity: float = 0.95,
        schedule: Schedule = "cubic",
        num_steps: int = 1000,
        prune_biases: bool = False,
        nonfinite: Nonfinite = "raise",
        **base_options: Any,
    ) -> None:
        super().__init__(
            model_or_params,
            base,
            sparsity=sparsity,
            schedule=schedule,
            num_steps=num_steps,
            prune_biases=prune_biases,
            nonfinite=nonfinite,
            **base_options,
        )

    def direction(self, gnn: Pass, peer: Pass) -> Grads:
        """Return the gradient at the present weights."""
        return gnn(clean=True)

    def after_step(self) -> None:
        """Keep as many of the largest weights as the schedule allows."""
        where, weights = self._prunable()
        mask_(weights, self._mask(where, weights, self.sparsity_at(self.num_calls + 1)))

    def counts(self, num_queries: int) -> tuple[Counts, Counts]:
        """Count one pass in every step."""
        return Counts(1, 1), Counts(1, 1)
