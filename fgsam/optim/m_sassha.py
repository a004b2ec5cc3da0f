"""Sassha with one pass a step."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from fgsam.functional.ascent import sam_factor
from fgsam.functional.trees import Grads
from fgsam.optim.base import ModelOrParams, Nonfinite
from fgsam.optim.curvature_base import SecondOrder, correction_of
from fgsam.optim.passes import Pass


class MSassha(SecondOrder):
    r"""Minimise the loss a step ahead along the averaged gradient, in steps divided by the root of the curvature there.

    .. math:: \tilde w = w - \rho \, m / \lVert m \rVert, \quad
              m \leftarrow \beta_1 m + (1 - \beta_1) \nabla L(\tilde w), \quad
              D \leftarrow \beta_2 D + (1 - \beta_2) \, |z \circ H(\tilde w) z|

    The step from ``m`` and ``D`` is that of ``Sassha``, as are the names and forms. The averaged gradient of earlier
    steps takes the place of a fresh one, with the opposite sign: the pass looks ahead instead of up. The first step is
    at ``w`` itself. Weight decay acts at the unmoved weights; the released class does not run (it reads a name that is
    never set), so only the equations are followed, and no ``form`` of it exists beside the bias correction.

    Cost: one forward and backward pass at the moved weights, differentiated once more every ``hessian_every`` steps.
    State: ``m`` and ``D``; a copy of the weights during the pass. Buffers move at the moved weights. Use it where
    Sassha's second pass is too dear.

    Args:
        model_or_params: The model, its parameters or parameter groups; a group may set its own ``rho``, ``lr``,
            ``betas``, ``eps``, ``weight_decay`` and ``hessian_power``.
        lr: Step size, at least 0. Default as for ``Sassha``.
        rho: Length of the look ahead, at least 0. The default 0.1 is the smallest published one; they go up to 0.8.
        betas: Decay of ``m`` and ``D``, each in ``[0, 1)``. Default as for ``Sassha``.
        eps: Added to the divisor, positive. Default as for ``Sassha``.
        weight_decay: Decay apart from the gradient, at least 0.
        hessian_power: Power of the curvature, at least 0. The default 0.5 is the square root.
        hessian_every: Steps from one measure of the curvature to the next, at least 1. Default as for ``Sassha``.
        form: ``"exact"`` or ``"code"``: whether the bias correction of ``D`` counts its updates or the steps.
        nonfinite: ``"raise"``, ``"skip"`` or ``"allow"``, see ``SharpnessAware``.
        **base_options: Further arguments of ``SharpnessAware``, as ``max_norm``.

    Example:
        >>> import torch
        >>> w = torch.tensor([1.0], requires_grad=True)
        >>> optimizer = MSassha([w], lr=0.5)
        >>> losses = [float(optimizer.step(lambda: 0.5 * (w**2).sum())) for _ in range(2)]
        >>> print([round(loss, 2) for loss in losses])  # the second at 0.5 - 0.1
        [0.5, 0.08]

    Source:
        Shin et al., SASSHA: Sharpness-Aware Adaptive Second-Order Optimization with Stable Hessian Approximation,
        2025, the section on M-SASSHA.
    """

    rule = "m_sassha"
    passes = "1 GNN every step, with a Hessian product every hessian_every steps"
    buffers_move_at: ClassVar[Any] = "moved weights"

    def __init__(
        self,
        model_or_params: ModelOrParams,
        *,
        lr: float = 0.15,
        rho: float = 0.1,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-4,
        weight_decay: float = 0.0,
        hessian_power: float = 0.5,
        hessian_every: int = 10,
        form: Literal["exact", "code"] = "exact",
        nonfinite: Nonfinite = "raise",
        **base_options: Any,
    ) -> None:
        super().__init__(
            model_or_params,
            hessian_every=hessian_every,
            nonfinite=nonfinite,
            group_options={"rho": rho},
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            hessian_power=hessian_power,
            correction=correction_of(form),
            **base_options,
        )

    def direction(self, gnn: Pass, peer: Pass) -> Grads:
        """Return the gradient ahead along the averaged one, and measure the curvature there."""
        state = self.base_optimizer.state
        m: Grads = [state[p]["exp_avg"] if p in state else None for p in self._params()]
        with self.displaced(m, sam_factor(m, [-rho for rho in self.options_of_params("rho")])):
            return self.gradient(gnn, clean=True)
