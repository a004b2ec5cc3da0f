"""Adaptive sharpness-aware minimization."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from fgsam.checks import check_non_negative
from fgsam.functional.ascent import asam_perturbation
from fgsam.functional.trees import Grads
from fgsam.optim.base import ModelOrParams, Nonfinite, SharpnessAware
from fgsam.optim.passes import Pass


class ASAM(SharpnessAware):
    r"""Minimise the largest loss within a ball whose axes follow the sizes of the weights.

    .. math:: w \leftarrow \mathrm{Opt}\Big(w, \nabla L\big(w + \rho \, T_w^2 g / \lVert T_w g \rVert\big)\Big), \quad
              g = \nabla L(w)

    ``T_w`` is ``|w| + eta`` for weights (tensors of two or more dimensions) and the identity for biases. Rescaling the
    weights in a way that leaves the loss unchanged then leaves the sharpness unchanged too (with ``eta = 0``).

    Cost: two forward and backward passes. State: none that lasts; a copy of the weights during the second pass.
    Use it where layers differ much in scale. Its ``rho`` is not comparable to SAM's: ten times larger is usual.

    Args:
        model_or_params: The model, its parameters or parameter groups; a group may set its own ``rho``.
        base: Class of the optimizer that makes the step.
        rho: Radius, at least 0; 0 gives the base optimizer. The default 0.5 is the authors' for CIFAR-10.
        eta: Added to the absolute weights so that weights at zero can move, at least 0. The default is the authors'.
        nonfinite: ``"raise"``, ``"skip"`` or ``"allow"``, see ``SharpnessAware``.
        **base_options: Arguments of the base optimizer.

    Example:
        >>> w = torch.tensor([[1.0]], requires_grad=True)
        >>> ASAM([w], torch.optim.SGD, rho=0.5, eta=0.0, lr=0.25).step(lambda: (w**2).sum())
        tensor(1.)
        >>> w.detach()
        tensor([[0.2500]])

    Source:
        Kwon et al., ASAM: Adaptive Sharpness-Aware Minimization for Scale-Invariant Learning of Deep Neural Networks,
        2021, Algorithm 1.
    """

    rule = "asam"
    neutral: ClassVar[dict[str, float] | None] = {"rho": 0.0}
    passes = "2 GNN"

    def __init__(
        self,
        model_or_params: ModelOrParams,
        base: type[torch.optim.Optimizer] = torch.optim.Adam,
        *,
        rho: float = 0.5,
        eta: float = 0.01,
        nonfinite: Nonfinite = "raise",
        **base_options: Any,
    ) -> None:
        check_non_negative(eta=eta)
        self.eta = eta
        super().__init__(model_or_params, base, nonfinite=nonfinite, group_options={"rho": rho}, **base_options)

    def direction(self, gnn: Pass, peer: Pass) -> Grads:
        """Return the gradient at the top of the adaptive ascent."""
        g = gnn(clean=True)
        with torch.no_grad():
            perturbation = asam_perturbation(self._params(), g, self.options_of_params("rho"), self.eta)
        with self.displaced(perturbation):
            return gnn()
