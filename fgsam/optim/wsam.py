"""Sharpness-aware minimization with a weight on sharpness."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from fgsam.functional.ascent import sam_factor
from fgsam.functional.trees import Grads, add_, add_scaled_, scale_
from fgsam.optim.base import ModelOrParams, Nonfinite, SharpnessAware
from fgsam.optim.passes import Pass


class WSAM(SharpnessAware):
    r"""Minimise the loss, with a chosen weight on how much it rises within a small ball.

    .. math:: \nabla L^{WSAM} = g + \frac{\gamma}{1 - \gamma} (g_s - g), \quad g = \nabla L(w), \quad
              g_s = \nabla L\big(w + \rho \, g / \lVert g \rVert\big)

    By default the second term is decoupled: the base optimizer uses ``g`` alone, and the term is then taken off the
    weights as it is, times the learning rate, as ``AdamW`` does with weight decay. So momentum and preconditioner never
    see it. Coupled, the base optimizer gets the sum. For plain SGD the two are the same. Norms are over all parameters
    together.

    Cost: two forward and backward passes. State: none that lasts; the first gradient during the second pass. Use it
    to move between the base optimizer (``gamma = 0``), SAM (0.5, coupled) and what lies beyond.

    Args:
        model_or_params: The model, its parameters or parameter groups; a group may set its own ``rho``.
        base: Class of the optimizer that makes the step; it needs a learning rate ``lr``.
        rho: Radius of the ascent, at least 0. The default 0.05 is that of the authors' class.
        gamma: Weight of sharpness, at least 0 and below 1; 0 gives the base optimizer. Default of the authors' class.
        decoupled: Whether the sharpness term goes around the base optimizer. Default of the authors' class.
        nonfinite: ``"raise"``, ``"skip"`` or ``"allow"``, see ``SharpnessAware``.
        **base_options: Arguments of the base optimizer.

    Example:
        >>> w = torch.tensor([1.0], requires_grad=True)
        >>> WSAM([w], torch.optim.SGD, rho=0.25, gamma=0.75, lr=0.125).step(lambda: (w**2).sum())
        tensor(1.)
        >>> w.detach()  # 2 + 3 * (2.5 - 2) downhill
        tensor([0.5625])

    Source:
        Yue et al., Sharpness-Aware Minimization Revisited: Weighted Sharpness as a Regularization Term, 2023.
    """

    rule = "wsam"
    neutral: ClassVar[dict[str, float] | None] = {"gamma": 0.0}
    passes = "2 GNN"
    _sharpness: Sequence[Tensor | None] = ()

    def __init__(
        self,
        model_or_params: ModelOrParams,
        base: type[torch.optim.Optimizer] = torch.optim.Adam,
        *,
        rho: float = 0.05,
        gamma: float = 0.9,
        decoupled: bool = True,
        nonfinite: Nonfinite = "raise",
        **base_options: Any,
    ) -> None:
        if not 0 <= gamma < 1:
            raise ValueError(f"Expected 'gamma' to be at least 0 and below 1 (got gamma={gamma})")
        self.gamma = gamma
        self.decoupled = decoupled
        super().__init__(model_or_params, base, nonfinite=nonfinite, group_options={"rho": rho}, **base_options)

    def direction(self, gnn: Pass, peer: Pass) -> Grads:
        """Return the plain gradient if sharpness goes its own way, else the weighted sum of both."""
        g = gnn(clean=True)
        with self.displaced(g, sam_factor(g, self.options_of_params("rho"))):
            g_s = gnn()
        weight = self.gamma / (1 - self.gamma)
        if self.decoupled:
            self._sharpness = scale_(add_(g_s, g, alpha=-1.0), weight)
            return g
        # As a sum of two multiples it is exactly SAM's for a weight of one, and the base's for zero.
        return add_scaled_(scale_(g_s, weight), g, torch.tensor(1 - weight, dtype=torch.float64))

    def share(self, average: Callable[[Grads], Grads]) -> None:
        """Average the sharpness term, if it goes its own way."""
        self._sharpness = average(list(self._sharpness))

    def after_step(self) -> None:
        """Take the sharpness term off the weights, if it is decoupled."""
        for p, sharpness, lr in zip(self._params(), self._sharpness, self.options_of_params("lr"), strict=False):
            if sharpness is not None:
                p.sub_(sharpness, alpha=float(lr))
        self._sharpness = ()
