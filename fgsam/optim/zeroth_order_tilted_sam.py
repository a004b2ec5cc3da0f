"""Minimization of a soft maximum of the loss around the weights, by forward passes alone."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch

from fgsam.checks import check_positive
from fgsam.functional.noise import gaussian
from fgsam.functional.tilting import tilted_slopes
from fgsam.functional.trees import Grads, add_scaled_
from fgsam.optim.base import Counts, ModelOrParams, Nonfinite, SharpnessAware
from fgsam.optim.passes import Pass
from fgsam.optim.tilted_sam import check_tilt


class ZerothOrderTiltedSAM(SharpnessAware):
    r"""Minimise the objective of ``TiltedSAM`` with normal draws, from losses alone.

    .. math:: \nabla L_t(w) = \frac{\mathrm{E}_u[e^{t L(w + \rho u)} u]}{t \rho \, \mathrm{E}_u[e^{t L(w + \rho u)}]}
              \approx \sum_i \frac{e^{t L(w + \rho u_i)} - e^{t L(w - \rho u_i)}}
              {t \rho \sum_j \big(e^{t L(w + \rho u_j)} + e^{t L(w - \rho u_j)}\big)} \, u_i

    The first equality is Stein's identity for standard normal ``u``; opposite draws cancel the even part of the loss.
    For ``t = 0`` it is the two-point estimate of the gradient of the mean. The estimator is derived from the objective,
    and so are ``rho`` and ``num_samples``: of the paper only the abstract and summaries were at hand.

    No pass can tell which parameters the loss depends on, so all that are trained move, and a gradient that is not
    finite cannot show. A closure must not call ``backward``.

    Cost: two forward passes for each draw, none backward. Buffers such as batch statistics move in the first, at moved
    weights, and the loss returned is the one there. State: none; draws are made twice and never stored. Use it where
    gradients cannot be had or held.

    Args:
        model_or_params: The model, its parameters or parameter groups; a group may set its own ``rho``, and one with 0
            is left alone.
        base: Class of the optimizer that makes the step.
        rho: Standard deviation of the draws in every entry, above 0.
        tilt: The tilt ``t``, at least 0 and finite. Summaries of the paper call 1 a safe first choice.
        num_samples: Pairs of opposite draws a step, at least 1.
        nonfinite: ``"raise"``, ``"skip"`` or ``"allow"``, see ``SharpnessAware``.
        **base_options: Arguments of the base optimizer.

    Example:
        >>> w = torch.tensor([1.0], requires_grad=True)
        >>> optimizer = ZerothOrderTiltedSAM([w], torch.optim.SGD, lr=0.1)
        >>> for _ in range(50):
        ...     loss = optimizer.step(lambda: (w**2).sum())
        >>> bool(w.abs() < 0.1)
        True

    Source:
        Gong and Li, Zeroth-Order Sharpness-Aware Learning with Exponential Tilting, 2025.
    """

    rule = "zeroth_order_tilted_sam"
    needs_graph = True
    passes = "2 * num_samples GNN, forward only"
    buffers_move_at: ClassVar[Literal["weights", "moved weights"]] = "moved weights"

    def __init__(
        self,
        model_or_params: ModelOrParams,
        base: type[torch.optim.Optimizer] = torch.optim.Adam,
        *,
        rho: float = 0.05,
        tilt: float = 1.0,
        num_samples: int = 4,
        nonfinite: Nonfinite = "raise",
        **base_options: Any,
    ) -> None:
        check_positive(rho=rho)
        check_tilt(tilt, num_samples)
        self.tilt = tilt
        self.num_samples = num_samples
        super().__init__(model_or_params, base, nonfinite=nonfinite, group_options={"rho": rho}, **base_options)

    def counts(self, num_queries: int) -> tuple[Counts, Counts]:
        """Count two forward passes for each draw."""
        return Counts(2 * self.num_samples, 0), Counts(2 * self.num_samples, 0)

    def direction(self, gnn: Pass, peer: Pass) -> Grads:
        """Return the sum of all draws, each times the slope of the soft maximum along it."""
        radii = self.options_of_params("rho")
        losses: list[torch.Tensor] = []
        for i in range(self.num_samples):
            noise = self._draw(i, radii)
            for sign in (1, -1):
                with self.displaced(noise, [torch.tensor(sign * rho, dtype=torch.float64) for rho in radii]):
                    losses.append(gnn.losses(clean=not losses).mean())
        values = torch.stack(losses).double()
        total: Grads = [None] * len(radii)
        for i, slope in enumerate(tilted_slopes(values[0::2], values[1::2], self.tilt)):
            factors: Grads = [slope / rho if rho else None for rho in radii]
            total = add_scaled_(total, self._draw(i, radii), factors)
        return total

    def _draw(self, i: int, radii: list[float]) -> Grads:
        noise = gaussian(self._params(), self.generator(i))
        return [one if rho else None for one, rho in zip(noise, radii, strict=True)]
