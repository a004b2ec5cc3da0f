"""Sharpness-aware minimization that looks at the loss above and below the weights."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from fgsam.functional.ascent import sam_factor
from fgsam.functional.trees import Grads, add_, add_scaled_, norm
from fgsam.optim.base import Counts, ModelOrParams, Nonfinite, SharpnessAware
from fgsam.optim.passes import Pass


class BilateralSAM(SharpnessAware):
    r"""Minimise the loss, its rise to the top of a small ball, and its fall to the bottom of another.

    .. math:: w \leftarrow \mathrm{Opt}\Big(w, g_{max} + g - \frac{\lVert g_{max} \rVert}{\lVert g_{min} \rVert}
              g_{min}\Big), \quad g_{max} = \nabla L(w + \rho_{max} u), \quad g_{min} = \nabla L(w - \rho_{min} u)

    where ``g`` is the gradient at ``w``, and ``u`` that brought to length one. Norms are over all parameters together;
    where ``g_min`` is zero, its term is. The authors' code ends with the weights at the lower point instead of at
    ``w``, so that each step moves them by ``rho_min`` besides; that is a bug and has no form here.

    Cost: three forward and backward passes. State: none that lasts; two gradients during the third pass. Use it where
    the time of a third pass does not count.

    Args:
        model_or_params: The model, its parameters or parameter groups; a group may set its own radii.
        base: Class of the optimizer that makes the step.
        rho_max: Radius of the ascent, at least 0. Default published.
        rho_min: Radius of the descent, at least 0; both radii at 0 give the base optimizer. The default 0.05 is the
            published start; the paper lowers it to 0 with the learning rate, for which see ``OptionSchedule``.
        nonfinite: ``"raise"``, ``"skip"`` or ``"allow"``, see ``SharpnessAware``.
        **base_options: Arguments of the base optimizer.

    Example:
        >>> w = torch.tensor([1.0], requires_grad=True)
        >>> BilateralSAM([w], torch.optim.SGD, rho_max=0.5, rho_min=0.5, lr=0.25).step(lambda: (w**2).sum())
        tensor(1.)
        >>> w.detach()  # 3 + 2 - 3 / 1 * 1 is the gradient itself
        tensor([0.5000])

    Source:
        Deng et al., Bilateral Sharpness-Aware Minimization for Flatter Minima, 2024.
    """

    rule = "bilateral_sam"
    neutral: ClassVar[dict[str, float] | None] = {"rho_max": 0.0, "rho_min": 0.0}
    passes = "3 GNN"

    def __init__(
        self,
        model_or_params: ModelOrParams,
        base: type[torch.optim.Optimizer] = torch.optim.Adam,
        *,
        rho_max: float = 0.05,
        rho_min: float = 0.05,
        nonfinite: Nonfinite = "raise",
        **base_options: Any,
    ) -> None:
        radii = {"rho_max": rho_max, "rho_min": rho_min}
        super().__init__(model_or_params, base, nonfinite=nonfinite, group_options=radii, **base_options)

    def counts(self, num_queries: int) -> tuple[Counts, Counts]:
        """Count three passes."""
        return Counts(3, 3), Counts(3, 3)

    def direction(self, gnn: Pass, peer: Pass) -> Grads:
        """Return the sum of the gradients at the top and in the middle, less the one at the bottom."""
        g = gnn(clean=True)
        with self.displaced(g, sam_factor(g, self.options_of_params("rho_max"))):
            g_max = gnn()
        with self.displaced(g, sam_factor(g, [-rho for rho in self.options_of_params("rho_min")])):
            g_min = gnn()
        top, bottom = norm(g_max), norm(g_min)
        # A quotient, since it is exactly one where the two are equal.
        ratio = torch.where(bottom > torch.finfo(bottom.dtype).tiny, top / bottom, 0.0)
        return add_scaled_(add_(g_max, g), g_min, -ratio)
