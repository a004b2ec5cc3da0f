"""Pruning by the alternating direction method of multipliers."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from fgsam.functional.sparsity import Schedule
from fgsam.functional.trees import Grads
from fgsam.optim.base import Counts, ModelOrParams, Nonfinite
from fgsam.optim.passes import Pass
from fgsam.optim.sparsifier import Splitter


class ADMMPruning(Splitter):
    r"""Minimise the loss among weights of which most are zero, drawn there by a penalty.

    .. math:: w \leftarrow \mathrm{Opt}\big(w, \nabla L(w) + \lambda_t (w - z + u)\big)

    Every ``dual_every`` steps ``z = Proj(w + u)`` and ``u = u + w - z``: this is ``SAFE`` without the ascent, and with
    one pass. ``finish()`` and ``deployed()`` are as there, and so are the weights that are pruned.

    Cost: one forward and backward pass, and a selection of the largest weights every ``dual_every`` steps. State: ``z``
    and ``u``. Use it as the rival that tells what SAFE owes to flatness.

    Args:
        model_or_params: The model, its parameters or parameter groups.
        base: Class of the optimizer that makes the step.
        sparsity: Share of zeros at the end, in ``[0, 1)``. This and the other defaults are those of ``SAFE``.
        penalty: Weight of the penalty, at least 0; 0 leaves the base optimizer with a projection at the end.
        schedule: How the penalty rises: ``"cosine"``, ``"constant"``, ``"linear"`` or ``"cubic"``.
        num_steps: Step at which it reaches its end, at least 1: the length of training.
        dual_every: Steps from one projection to the next, at least 1.
        prune_biases: Whether tensors of fewer than two dimensions are pruned, too.
        nonfinite: ``"raise"``, ``"skip"`` or ``"allow"``, see ``SharpnessAware``.
        **base_options: Arguments of the base optimizer.

    Source:
        Boyd et al., Distributed Optimization and Statistical Learning via the Alternating Direction Method of
        Multipliers, 2011, Section 9.1; Zhang et al., A Systematic DNN Weight Pruning Framework, 2018.
    """

    rule = "admm_pruning"
    neutral: ClassVar[dict[str, float] | None] = {"penalty": 0.0, "sparsity": 0.0}
    at_rest: ClassVar[dict[str, float]] = {"penalty": 0.0}
    passes = "1 GNN"

    def __init__(
        self,
        model_or_params: ModelOrParams,
        base: type[torch.optim.Optimizer] = torch.optim.Adam,
        *,
        sparsity: float = 0.95,
        penalty: float = 1e-3,
        schedule: Schedule = "cosine",
        num_steps: int = 1000,
        dual_every: int = 32,
        prune_biases: bool = False,
        nonfinite: Nonfinite = "raise",
        **base_options: Any,
    ) -> None:
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
            **base_options,
        )

    def direction(self, gnn: Pass, peer: Pass) -> Grads:
        """Return the gradient with that of the penalty."""
        return self.drawn(gnn(clean=True))

    def counts(self, num_queries: int) -> tuple[Counts, Counts]:
        """Count one pass in every step."""
        return Counts(1, 1), Counts(1, 1)
