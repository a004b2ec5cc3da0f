"""AdaHessian."""

from __future__ import annotations

from typing import Any, Literal

from fgsam.checks import check_choice
from fgsam.functional.curvature import averaged_in_blocks
from fgsam.functional.trees import Grads
from fgsam.optim.base import ModelOrParams, Nonfinite
from fgsam.optim.curvature_base import PowerDescent, SecondOrder


class SquareDescent(PowerDescent):
    """The curvature is averaged as a square here, so that half the power belongs to its root."""

    def _power(self, group: dict[str, Any]) -> float:
        return float(group["hessian_power"]) / 2


class AdaHessian(SecondOrder):
    r"""Minimise the loss by Adam's step, with the Hessian's diagonal in place of the gradient in the divisor.

    .. math:: m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad
              v \leftarrow \beta_2 v + (1 - \beta_2) \, d^2, \quad d = \mathrm{mean}_{block}(z \circ H z), \quad
              w \leftarrow (1 - \eta \lambda) w - \eta \, \hat m / (\hat v^{k / 2} + \epsilon)

    ``z`` holds random signs; ``m`` and ``v`` are freed from their start at zero by the number of their updates. The
    mean goes over the entries of a convolution kernel (tensors of four dimensions), and with ``averaging="rows"`` over
    the rows of matrices too; complex parameters are not averaged. The paper averages ``z * Hz`` itself;
    ``form="code"`` its absolute value, as the released code. Without averaging the two agree.

    Cost: one forward and backward pass, differentiated once more every ``hessian_every`` steps. State: ``m`` and ``v``.
    Use it as the second-order yardstick without sharpness awareness. There is no base optimizer to choose.

    Args:
        model_or_params: The model, its parameters or parameter groups; a group may set its own ``lr``, ``betas``,
            ``eps``, ``weight_decay`` and ``hessian_power``.
        lr: Step size, at least 0. Default published.
        betas: Decay of ``m`` and ``v``, each in ``[0, 1)``. Default published.
        eps: Added to the divisor, positive. The default 1e-4 is the released one.
        weight_decay: Decay apart from the gradient, at least 0.
        hessian_power: The power ``k`` of the root mean square curvature, at least 0. The default is 1.
        hessian_every: Steps from one measure of the curvature to the next, at least 1. The paper shows that up to 5 do.
        averaging: ``"kernels"`` (the released default for images), ``"rows"`` (the released default for other
            networks: kernels and rows) or ``"none"``.
        form: ``"paper"`` or ``"code"``.
        nonfinite: ``"raise"``, ``"skip"`` or ``"allow"``, see ``SharpnessAware``.
        **base_options: Further arguments of ``SharpnessAware``, as ``max_norm``.

    Example:
        >>> import torch
        >>> w = torch.tensor([1.0, 1.0], requires_grad=True)
        >>> optimizer = AdaHessian([w], lr=0.5, eps=1e-8)
        >>> loss = optimizer.step(lambda: 0.5 * (w * w * torch.tensor([1.0, 100.0])).sum())
        >>> w.detach()  # half a Newton step for both
        tensor([0.5000, 0.5000])

    Source:
        Yao et al., ADAHESSIAN: An Adaptive Second Order Optimizer for Machine Learning, 2021, Algorithm 1.
    """

    rule = "adahessian"
    passes = "1 GNN every step, with a Hessian product every hessian_every steps"
    descent = SquareDescent

    def __init__(
        self,
        model_or_params: ModelOrParams,
        *,
        lr: float = 0.15,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-4,
        weight_decay: float = 0.0,
        hessian_power: float = 1.0,
        hessian_every: int = 1,
        averaging: Literal["kernels", "rows", "none"] = "kernels",
        form: Literal["paper", "code"] = "paper",
        nonfinite: Nonfinite = "raise",
        **base_options: Any,
    ) -> None:
        check_choice(("kernels", "rows", "none"), averaging=averaging)
        check_choice(("paper", "code"), form=form)
        self.averaging, self.form = averaging, form
        super().__init__(
            model_or_params,
            hessian_every=hessian_every,
            nonfinite=nonfinite,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            hessian_power=hessian_power,
            **base_options,
        )

    def measure(self, diagonal: Grads) -> Grads:
        """Average the diagonal in its blocks, and square it."""
        measured: Grads = []
        for p, d in zip(self._params(), diagonal, strict=True):
            if d is not None and self.form == "code":
                d = d.abs()
            if d is not None and self.averaging != "none" and not p.is_complex():
                d = averaged_in_blocks(d, rows=self.averaging == "rows")
            measured.append(None if d is None else d * d)
        return measured
