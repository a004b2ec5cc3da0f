"""Sharpness-aware minimization where the gradient is large for its time."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch

from fgsam.checks import check_fraction
from fgsam.functional.ascent import sam_factor
from fgsam.functional.trees import Grads, norm
from fgsam.optim.base import Counts, ModelOrParams, Nonfinite, SharpnessAware
from fgsam.optim.passes import Pass


class AESAM(SharpnessAware):
    r"""Minimise SAM's objective in the steps whose gradient is large, and the loss itself in the others.

    The squared norm of the gradient stands for sharpness. Its running mean and variance tell what is large:

    .. math:: n = \lVert \nabla L(w) \rVert^2, \quad \mu \leftarrow \delta \mu + (1 - \delta) n, \quad
              \sigma^2 \leftarrow \delta \sigma^2 + (1 - \delta) (n - \mu)^2, \quad
              \text{SAM's step if } n \ge \mu + c_t \sigma

    The threshold ``c_t`` moves evenly from ``threshold_start`` to ``threshold_end`` over the run, so that SAM becomes
    more frequent. Norms are over all parameters together.

    Only the formulas were at hand, no code of the authors. Derived are: the defaults; the start ``mu = n``,
    ``sigma = 0``, which makes the first step SAM's; and that the averages move before they are compared with.

    Cost: one forward and backward pass, and a second in the steps that are SAM's; one question to the device a step.
    State: two numbers. Use it to spend SAM's second pass where it matters most.

    Args:
        model_or_params: The model, its parameters or parameter groups; a group may set its own ``rho``.
        base: Class of the optimizer that makes the step.
        rho: Radius of the ascent, at least 0; 0 gives the base optimizer. The default 0.05 is SAM's.
        threshold_start: Threshold of the first step (the paper's ``lambda_2``), in standard deviations. ``-inf`` at
            both ends gives SAM, ``inf`` the base optimizer. Default derived.
        threshold_end: Threshold of the last step (the paper's ``lambda_1``). Default derived.
        num_steps: Steps of the whole run, over which the threshold moves, at least 1. Without it the threshold stays
            halfway between its ends, as it is on average.
        decay: What the averages keep in each step (the paper's ``delta``), in ``[0, 1]``. Default derived.
        nonfinite: ``"raise"``, ``"skip"`` or ``"allow"``, see ``SharpnessAware``.
        **base_options: Arguments of the base optimizer.

    Example:
        >>> w = torch.tensor([1.0], requires_grad=True)
        >>> optimizer = AESAM([w], torch.optim.SGD, rho=0.5, lr=0.25)
        >>> for _ in range(2):  # SAM's step first; then the gradient is smaller than before
        ...     loss = optimizer.step(lambda: (w**2).sum())
        >>> w.detach()
        tensor([0.1250])

    Source:
        Jiang et al., An Adaptive Policy to Employ Sharpness-Aware Minimization, 2023.
    """

    rule = "aesam"
    neutral: ClassVar[dict[str, float] | None] = {"rho": 0.0}
    passes = "2 GNN every time the gradient is large, else 1 GNN"

    def __init__(
        self,
        model_or_params: ModelOrParams,
        base: type[torch.optim.Optimizer] = torch.optim.Adam,
        *,
        rho: float = 0.05,
        threshold_start: float = 1.0,
        threshold_end: float = -1.0,
        num_steps: int | None = None,
        decay: float = 0.9,
        nonfinite: Nonfinite = "raise",
        **base_options: Any,
    ) -> None:
        _check_thresholds(threshold_start, threshold_end)
        if num_steps is not None and (not isinstance(num_steps, int) or num_steps < 1):
            raise ValueError(f"Expected 'num_steps' to be a whole number, at least 1, or None (got {num_steps!r})")
        check_fraction(decay=decay)
        self.threshold_start = threshold_start
        self.threshold_end = threshold_end
        self.num_steps = num_steps
        self.decay = decay
        super().__init__(model_or_params, base, nonfinite=nonfinite, group_options={"rho": rho}, **base_options)

    def counts(self, num_queries: int) -> tuple[Counts, Counts]:
        """Count the passes of SAM's step and of a plain one."""
        return Counts(2, 2), Counts(1, 1)

    def direction(self, gnn: Pass, peer: Pass) -> Grads:
        """Return SAM's gradient if the plain one is large, else the plain one."""
        g = gnn(clean=True)
        length = float(norm(g))
        if not self._is_large(length * length):  # unlike a power, a product that is too large is infinite
            return g
        with self.displaced(g, sam_factor(g, self.options_of_params("rho"))):
            return gnn()

    def _is_large(self, square: float) -> bool:
        """Take a squared norm into the averages, and compare it with them."""
        mean, variance = self.own.get("mean", square), self.own.get("variance", 0.0)
        # A gradient that does not change is its own mean exactly, also where it is not finite.
        change = square - mean if square != mean else 0.0
        mean += (1 - self.decay) * change
        rest = self.decay * change
        variance += (1 - self.decay) * (rest * rest - variance)
        self.own.update(mean=mean, variance=variance)
        threshold = self._threshold()
        return threshold < 0 if math.isinf(threshold) else square >= mean + threshold * math.sqrt(variance)

    def _threshold(self) -> float:
        if self.threshold_start == self.threshold_end:
            return self.threshold_start
        progress = 0.5 if self.num_steps is None else min(self.num_calls / self.num_steps, 1.0)
        return self.threshold_start + progress * (self.threshold_end - self.threshold_start)


def _check_thresholds(start: float, end: float) -> None:
    if math.isnan(start) or math.isnan(end) or (start != end and math.isinf(start - end)):
        raise ValueError(
            "Expected 'threshold_start' and 'threshold_end' to be finite, or the same infinity "
            f"(got threshold_start={start}, threshold_end={end})"
        )
