"""Sophia with Hutchinson's estimator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fgsam.checks import check_non_negative
from fgsam.functional.curvature import as_real, gaussian
from fgsam.functional.trees import Grads
from fgsam.optim.base import ModelOrParams, Nonfinite
from fgsam.optim.curvature_base import MomentDescent, SecondOrder


class ClippedDescent(MomentDescent):
    """Divides the averaged gradient by the averaged curvature, where it is positive, and bounds every entry by one."""

    def __init__(self, params: Any, *, gamma: float, **options: Any) -> None:
        super().__init__(params, further={"gamma": gamma}, **options)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; options it does not name take the defaults."""
        check_non_negative(gamma=param_group.get("gamma", self.defaults["gamma"]))
        super().add_param_group(param_group)

    def _descend(self, group: dict[str, Any], params: list[Tensor], states: list[dict[str, Any]]) -> None:
        for p, state in zip(params, states, strict=True):
            m = as_real(state["exp_avg"])
            # Where the curvature was never measured it counts as zero, and the step is the sign of m.
            divisor = state["curvature"] * group["gamma"] if "curvature" in state else torch.zeros_like(m)
            bounded = (m / divisor.clamp_(min=_floor(group["eps"], m.dtype))).clamp_(-1, 1)
            as_real(p).add_(bounded, alpha=-group["lr"])


class SophiaH(SecondOrder):
    r"""Minimise the loss in steps divided by the curvature, none of whose entries is longer than the step size.

    .. math:: m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad
              h \leftarrow \beta_2 h + (1 - \beta_2) \, z \circ H z, \quad
              w \leftarrow (1 - \eta \lambda) w - \eta \, \mathrm{clip}\big(m / \max(\gamma h, \epsilon), 1\big)

    ``z`` is standard normal, and ``h`` changes every ``hessian_every`` steps. Neither average is corrected for its
    start at zero. Where the curvature is not positive the entry moves by its sign alone.

    Cost: one forward and backward pass, differentiated once more every ``hessian_every`` steps. State: ``m`` and
    ``h``. Use it as a second-order yardstick that infrequent and noisy curvature cannot throw off. There is no base
    optimizer to choose. The released code holds the Gauss-Newton form only; this one follows the paper.

    Args:
        model_or_params: The model, its parameters or parameter groups; a group may set its own ``lr``, ``betas``,
            ``gamma``, ``eps`` and ``weight_decay``.
        lr: Step size and bound of every entry's step, at least 0. The default 1e-4 is that of the released class.
        betas: Decay of ``m`` and ``h``, each in ``[0, 1)``. Default published.
        gamma: Multiplies the curvature, at least 0: the smaller, the more entries are clipped. The default 0.01 is
            published for this estimator.
        eps: Smallest divisor, positive; raised to the smallest normal number of the parameter's type. Default
            published.
        weight_decay: Decay apart from the gradient, at least 0. The paper takes 0.2 for language models.
        hessian_every: Steps from one measure of the curvature to the next, at least 1. Default published.
        nonfinite: ``"raise"``, ``"skip"`` or ``"allow"``, see ``SharpnessAware``.
        **base_options: Further arguments of ``SharpnessAware``, as ``max_norm``.

    Example:
        >>> w = torch.tensor([1.0, -1.0], requires_grad=True)
        >>> loss = SophiaH([w], lr=0.25).step(lambda: (w**2).sum())
        >>> w.detach()  # the averages begin at zero, so that the first steps are signs
        tensor([ 0.7500, -0.7500])

    Source:
        Liu et al., Sophia: A Scalable Stochastic Second-order Optimizer for Language Model Pre-training, 2024,
        Algorithms 1 and 3.
    """

    rule = "sophia_h"
    passes = "1 GNN every step, with a Hessian product every hessian_every steps"
    descent = ClippedDescent

    def __init__(
        self,
        model_or_params: ModelOrParams,
        *,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.96, 0.99),
        gamma: float = 0.01,
        eps: float = 1e-12,
        weight_decay: float = 0.0,
        hessian_every: int = 10,
        nonfinite: Nonfinite = "raise",
        **base_options: Any,
    ) -> None:
        super().__init__(
            model_or_params,
            hessian_every=hessian_every,
            nonfinite=nonfinite,
            lr=lr,
            betas=betas,
            gamma=gamma,
            eps=eps,
            weight_decay=weight_decay,
            **base_options,
        )

    def probe(self, params: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
        """Draw standard normal numbers."""
        return gaussian(params, generator)

    def measure(self, diagonal: Grads) -> Grads:
        """Keep the diagonal with its signs."""
        return diagonal


def _floor(eps: float, dtype: torch.dtype) -> float:
    return max(eps, torch.finfo(dtype).tiny)
