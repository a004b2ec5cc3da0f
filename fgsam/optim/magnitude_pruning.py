"""Gradual magnitude pruning."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from fgsam.functional.sparsity import Schedule, largest, mask_, num_kept
from fgsam.functional.trees import Grads
from fgsam.optim.base import Counts, ModelOrParams, Nonfinite
from fgsam.optim.passes import Pass
from fgsam.optim.sparsifier import Sparsifier


class MagnitudePruning(Sparsifier):
    r"""Minimise the loss while the smallest weights are removed, for good and more and more of them.

    .. math:: w \leftarrow M_t \circ \mathrm{Opt}(w, \nabla L(w)), \quad
              s_t = s \, \big(1 - (1 - t / T)^3\big)

    After step ``t`` the mask ``M_t`` holds the ``round((1 - s_t) n)`` largest weights that no earlier mask removed. The
    mask acts at a learning rate of zero, too.

    Cost: one forward and backward pass, and a selection of the largest weights in steps that remove some. State: the
    mask. Use it as the plain rival of ``SAFE``.

    Args:
        model_or_params: The model, its parameters or parameter groups.
        base: Class of the optimizer that makes the step.
        sparsity: Share ``s`` of zeros at the end, in ``[0, 1)``; 0 leaves the base optimizer. Default as for ``SAFE``.
        schedule: How the sparsity rises: ``"cubic"`` (published), ``"linear"``, ``"cosine"`` or ``"constant"``.
        num_steps: Step ``T`` at which it reaches its end, at least 1; less than the length of training leaves steps to
            recover.
        prune_biases: Whether tensors of fewer than two dimensions are pruned, too.
        nonfinite: ``"raise"``, ``"skip"`` or ``"allow"``, see ``SharpnessAware``.
        **base_options: Arguments of the base optimizer.

    Example:
        >>> w = torch.tensor([[3.0, 1.0, -2.0, 0.5]], requires_grad=True)
        >>> optimizer = MagnitudePruning([w], torch.optim.SGD, sparsity=0.5, num_steps=2, lr=0.25)
        >>> for _ in range(2):
        ...     loss = optimizer.step(lambda: (w**2).sum())
        >>> w.detach()
        tensor([[ 0.7500,  0.0000, -0.5000,  0.0000]])

    Source:
        Zhu and Gupta, To Prune, or Not to Prune: Exploring the Efficacy of Pruning for Model Compression, 2018, Eq. 1,
        with one pruning step after each update.
    """

    rule = "magnitude_pruning"
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
        """Remove what the mask removes, and as many more of the smallest weights as the schedule asks for."""
        where, weights = self._prunable()
        num_weights = sum(w.numel() for w in weights)
        count = num_kept(num_weights, self.sparsity_at(self.num_calls + 1))
        if count == num_weights:
            return
        kept = [self.own.get(f"mask.{i}") for i in where]
        masks = [torch.ones_like(w, dtype=torch.bool) if m is None else m for w, m in zip(weights, kept, strict=True)]
        if sum(int(mask.sum()) for mask in masks) > count:
            # What was removed ranks below all that is left, also below a weight that happens to be zero.
            masks = largest([w.abs().masked_fill(~m, -1) for w, m in zip(weights, masks, strict=True)], count)
            self.own.update({f"mask.{i}": mask for i, mask in zip(where, masks, strict=True)})
        mask_(weights, masks)

    def counts(self, num_queries: int) -> tuple[Counts, Counts]:
        """Count one pass in every step."""
        return Counts(1, 1), Counts(1, 1)
