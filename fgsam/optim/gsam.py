"""Sharpness-aware minimization guided by the surrogate gap."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from fgsam.checks import check_non_negative
from fgsam.functional.ascent import sam_factor
from fgsam.functional.projection import across_
from fgsam.functional.trees import Grads, add_scaled_, dot
from fgsam.optim.base import ModelOrParams, Nonfinite, SharpnessAware
from fgsam.optim.passes import Pass


class GSAM(SharpnessAware):
    r"""Minimise SAM's loss, and with it the gap between that loss and the plain one.

    .. math:: w \leftarrow \mathrm{Opt}\Big(w, g_p - \alpha \, P^\perp_{g_p}(g)\Big), \quad g = \nabla L(w), \quad
              g_p = \nabla L\big(w + \rho \, g / \lVert g \rVert\big)

    The part of ``g`` across ``g_p`` is climbed: to first order that leaves the perturbed loss alone and raises the
    plain one towards it. Norms and the projection are over all parameters together.

    The paper ties the radius to the learning rate. ``OptionSchedule`` with ``follow_lr`` from
    ``fgsam.optim.schedules`` does that; with ``rho`` alone it is constant, as in the authors' PyTorch script, which
    uses ASAM's scaling by the weights and a radius of 2.

    Cost: two forward and backward passes. State: none that lasts; the first gradient during the second pass. Use it
    where SAM leaves sharp minima whose perturbed loss is low.

    Args:
        model_or_params: The model, its parameters or parameter groups; a group may set its own ``rho``.
        base: Class of the optimizer that makes the step.
        rho: Radius of the ascent, at least 0; 0 gives the base optimizer. The default 0.05 is SAM's.
        alpha: Weight of the part that closes the gap, at least 0; 0 gives SAM. The default 0.4 is the authors'
            script's.
        nonfinite: ``"raise"``, ``"skip"`` or ``"allow"``, see ``SharpnessAware``.
        **base_options: Arguments of the base optimizer.

    Example:
        >>> w = torch.tensor([2.0, 1.0], requires_grad=True)
        >>> GSAM([w], torch.optim.SGD, rho=0.5, lr=0.1).step(lambda: w[0] ** 2 + 2 * w[1] ** 2)
        tensor(6.)
        >>> w.detach()
        tensor([1.5412, 0.4482])

    Source:
        Zhuang et al., Surrogate Gap Minimization Improves Sharpness-Aware Training, 2022, Algorithm 1.
    """

    rule = "gsam"
    neutral: ClassVar[dict[str, float] | None] = {"rho": 0.0}
    passes = "2 GNN"

    def __init__(
        self,
        model_or_params: ModelOrParams,
        base: type[torch.optim.Optimizer] = torch.optim.Adam,
        *,
        rho: float = 0.05,
        alpha: float = 0.4,
        nonfinite: Nonfinite = "raise",
        **base_options: Any,
    ) -> None:
        check_non_negative(alpha=alpha)
        self.alpha = alpha
        super().__init__(model_or_params, base, nonfinite=nonfinite, group_options={"rho": rho}, **base_options)

    def direction(self, gnn: Pass, peer: Pass) -> Grads:
        """Return the gradient at the top of the ascent, less a share of what the plain one has across it."""
        g = gnn(clean=True)
        with self.displaced(g, sam_factor(g, self.options_of_params("rho"))):
            g_p = gnn()
        if not self.alpha:
            return g_p
        gap, length = across_(g, g_p, dot(g_p, g_p))
        return add_scaled_(g_p, gap, -self.alpha * (length > 0).to(length.dtype))
