"""Minimization of a soft maximum of the loss around the weights."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch

from fgsam.checks import check_choice, check_non_negative
from fgsam.functional.ascent import sam_factor
from fgsam.functional.noise import gaussian, in_unit_ball
from fgsam.functional.tilting import TiltedMean
from fgsam.functional.trees import Gradient, Grads
from fgsam.optim.base import Counts, ModelOrParams, Nonfinite, SharpnessAware
from fgsam.optim.passes import Pass


class TiltedSAM(SharpnessAware):
    r"""Minimise a soft maximum of the loss in a neighbourhood: more than its mean, less than its largest value.

    .. math:: L_t(w) = \frac{1}{t} \log \mathrm{E}_\epsilon \, e^{t L(w + \epsilon)}, \quad
              \nabla L_t(w) \approx \frac{\sum_i e^{t L(w + \epsilon_i)} \nabla L(w + \epsilon_i)}
              {\sum_i e^{t L(w + \epsilon_i)}}

    The draws are uniform in the ball of radius ``rho`` over all parameters together, or normal with the standard
    deviation ``rho`` in every entry. For ``t = 0`` this is the mean over the draws, for a large ``t`` the draw of the
    largest loss; one draw alone is the same for every ``t``. A constant added to the loss changes nothing.

    The paper draws from the tilted density itself, by Hamiltonian Monte Carlo. Weighing plain draws estimates the same
    gradient and needs no tuning; it is derived here from the objective. ``ascend=True`` goes from each draw one SAM
    ascent up before the gradient is taken, as the public code does in place of the sampler.

    Cost: ``num_samples`` forward and backward passes, twice that with ``ascend``. Buffers such as batch statistics move
    in the first of them, at moved weights, and the loss returned is the one there. State: none that lasts; one sum of
    gradients, however many draws there are. Use it to choose between average and worst case by one number.

    Args:
        model_or_params: The model, its parameters or parameter groups; a group may set its own ``rho``.
        base: Class of the optimizer that makes the step.
        rho: Radius or standard deviation of the draws, and radius of the ascent, at least 0; 0 with one draw gives the
            base optimizer. Default published.
        tilt: The tilt ``t``, at least 0 and finite. Default published; the paper tries 0 to 400.
        num_samples: Draws a step, at least 1. Default published.
        noise: ``"ball"`` or ``"gaussian"``.
        ascend: Whether each draw is followed by an ascent.
        nonfinite: ``"raise"``, ``"skip"`` or ``"allow"``, see ``SharpnessAware``.
        **base_options: Arguments of the base optimizer.

    Example:
        >>> w = torch.tensor([1.0], requires_grad=True)
        >>> _ = torch.manual_seed(0)
        >>> loss = TiltedSAM([w], torch.optim.SGD, rho=0.1, tilt=5.0, lr=0.25).step(lambda: (w**2).sum())
        >>> bool(w - 0.5 < 0.05)
        True

    Source:
        Li et al., Tilted Sharpness-Aware Minimization, 2025, arXiv 2410.22656 (the objective and its gradient).
    """

    rule = "tilted_sam"
    neutral: ClassVar[dict[str, float] | None] = {"rho": 0.0, "num_samples": 1}
    passes = "num_samples GNN"
    buffers_move_at: ClassVar[Literal["weights", "moved weights"]] = "moved weights"

    def __init__(
        self,
        model_or_params: ModelOrParams,
        base: type[torch.optim.Optimizer] = torch.optim.Adam,
        *,
        rho: float = 0.05,
        tilt: float = 1.0,
        num_samples: int = 3,
        noise: Literal["ball", "gaussian"] = "ball",
        ascend: bool = False,
        nonfinite: Nonfinite = "raise",
        **base_options: Any,
    ) -> None:
        check_tilt(tilt, num_samples)
        check_choice(("ball", "gaussian"), noise=noise)
        self.tilt = tilt
        self.num_samples = num_samples
        self.noise = noise
        self.ascend = ascend
        super().__init__(model_or_params, base, nonfinite=nonfinite, group_options={"rho": rho}, **base_options)

    def counts(self, num_queries: int) -> tuple[Counts, Counts]:
        """Count a pass for each draw, or two."""
        num_passes = self.num_samples * (2 if self.ascend else 1)
        return Counts(num_passes, num_passes), Counts(num_passes, num_passes)

    def direction(self, gnn: Pass, peer: Pass) -> Grads:
        """Return the gradients at the draws, weighted by the exponential of their losses."""
        draw = in_unit_ball if self.noise == "ball" else gaussian
        radii = self.options_of_params("rho")
        mean = TiltedMean(self.tilt)
        for i in range(self.num_samples):
            noise = draw(self._params(), self.generator(i))
            with self.displaced(noise, [torch.tensor(rho, dtype=torch.float64) for rho in radii]):
                mean.add_(self._gradient(gnn, radii, is_first=i == 0))
        return mean.value()

    def _gradient(self, gnn: Pass, radii: list[float], *, is_first: bool) -> Gradient:
        g = gnn(clean=is_first)
        if not self.ascend:
            return g
        with self.displaced(g, sam_factor(g, radii)):
            return gnn()


def check_tilt(tilt: float, num_samples: int) -> None:
    """Raise ``ValueError`` for a tilt or a number of draws outside their ranges."""
    check_non_negative(tilt=tilt)
    if math.isinf(tilt):
        raise ValueError(f"Expected 'tilt' to be finite (got tilt={tilt}). A large one picks the largest loss.")
    if not isinstance(num_samples, int) or num_samples < 1:
        raise ValueError(f"Expected 'num_samples' to be a whole number, at least 1 (got {num_samples!r})")
