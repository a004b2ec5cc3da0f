"""Sharpness-aware minimization."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from fgsam.functional.ascent import sam_factor
from fgsam.functional.trees import Grads
from fgsam.optim.base import ModelOrParams, Nonfinite, SharpnessAware
from fgsam.optim.passes import Pass


class SAM(SharpnessAware):
    r"""Minimise the largest loss within a small ball around the weights.

    .. math:: w \leftarrow \mathrm{Opt}\Big(w, \nabla L\big(w + \rho \, g / \lVert g \rVert\big)\Big), \quad
              g = \nabla L(w)

    The norm is over all parameters together. Weight decay acts in the base step, at the unmoved weights. Both passes
    draw the same dropout mask.

    Cost: two forward and backward passes. State: none that lasts; a copy of the weights during the second pass.
    Use it when generalisation is worth twice the time of the base optimizer.

    Args:
        model_or_params: The model, its parameters or parameter groups; a group may set its own ``rho``.
        base: Class of the optimizer that makes the step.
        rho: Radius of the ball, at least 0; 0 gives the base optimizer. The default 0.05 is the paper's.
        nonfinite: ``"raise"``, ``"skip"`` or ``"allow"``, see ``SharpnessAware``.
        **base_options: Arguments of the base optimizer.

    Example:
        >>> w = torch.tensor([1.0], requires_grad=True)
        >>> SAM([w], torch.optim.SGD, rho=0.5, lr=0.25).step(lambda: (w**2).sum())
        tensor(1.)
        >>> w.detach()
        tensor([0.2500])

    Source:
        Foret et al., Sharpness-Aware Minimization for Efficiently Improving Generalization, 2021, Algorithm 1.
    """

    rule = "sam"
    neutral: ClassVar[dict[str, float] | None] = {"rho": 0.0}
    passes = "2 GNN"

    def __init__(
        self,
        model_or_params: ModelOrParams,
        base: type[torch.optim.Optimizer] = torch.optim.Adam,
        *,
        rho: float = 0.05,
        nonfinite: Nonfinite = "raise",
        **base_options: Any,
    ) -> None:
        super().__init__(model_or_params, base, nonfinite=nonfinite, group_options={"rho": rho}, **base_options)

    def direction(self, gnn: Pass, peer: Pass) -> Grads:
        """Return the gradient at the top of the ascent."""
        g = gnn(clean=True)
        with self.displaced(g, sam_factor(g, self.options_of_params("rho"))):
            return gnn()
