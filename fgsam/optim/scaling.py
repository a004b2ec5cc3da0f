"""Loss scaling for half precision, in every pass of a step."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from fgsam.functional.trees import Grads


class Scaling:
    """Scales losses before ``backward`` and brings gradients back to true units, with one scale for a whole step.

    The scale stays on the device. A scaler that is missing or not enabled changes no bit.

    Args:
        scaler: Holds the scale.
        device: Where the parameters are.
    """

    def __init__(self, scaler: torch.amp.GradScaler | None = None, device: torch.device | None = None) -> None:
        self._scaler = scaler if scaler is not None and scaler.is_enabled() else None
        if self._scaler is not None:
            one = torch.ones((), dtype=torch.float32, device=device)
            self._inverse: Tensor = self._scaler.scale(one).reciprocal()

    @property
    def is_on(self) -> bool:
        """Whether losses are scaled."""
        return self._scaler is not None

    def scaled(self, objective: Tensor) -> Tensor:
        """Multiply what is about to be differentiated by the scale."""
        return objective if self._scaler is None else self._scaler.scale(objective)

    def unscaled(self, grads: Grads) -> Grads:
        """Divide gradients by the scale."""
        if self._scaler is None:
            return grads
        return [None if grad is None else grad * self._inverse.to(grad.device) for grad in grads]

    def update(self, *, is_finite: bool) -> None:
        """Let the scaler grow or back off, once a step."""
        if self._scaler is None:
            return
        # What a scaler goes by is what it has seen of an optimizer's gradients. It is shown the outcome of all passes.
        witness = torch.zeros_like(self._inverse, requires_grad=True)
        witness.grad = torch.full_like(witness, 0.0 if is_finite else math.inf)
        self._scaler.unscale_(torch.optim.SGD([witness]))
        self._scaler.update()


def refuse_scaled_step(optimizer: torch.optim.Optimizer) -> None:
    """Raise ``TypeError`` if ``step`` was called by a scaler, which takes the optimizer for one of a single pass."""
    if "found_inf" in vars(optimizer):
        for name in ("found_inf", "grad_scale"):  # the scaler's, for optimizers that unscale by themselves
            delattr(optimizer, name)
        raise TypeError(
            "Expected the GradScaler as an argument of the optimizer (got a call of scaler.step, which knows one pass "
            "a step only). Build it with SAM(model, ..., scaler=scaler) and call optimizer.step(closure) alone: it "
            "scales and unscales every pass, and updates the scaler."
        )


def check_scaler(scaler: object, params: Iterable[Tensor]) -> None:
    """Raise for what is not a scaler, and for weights that are themselves in half precision.

    Raises:
        TypeError: If ``scaler`` is neither ``None`` nor a ``GradScaler``.
        ValueError: If a parameter is of type float16, whose gradients could not be unscaled without loss.
    """
    if scaler is None:
        return
    if not isinstance(scaler, torch.amp.GradScaler):
        raise TypeError(
            f"Expected 'scaler' to be a torch.amp.GradScaler (got {scaler!r}). Pass torch.amp.GradScaler('cuda'), or "
            "leave it out for bfloat16 and float32."
        )
    if any(p.dtype == torch.float16 for p in params):
        raise ValueError(
            "Expected parameters in float32 where losses are scaled (got float16). Leave the model in float32, and run "
            "it within torch.autocast(device, torch.float16) in the closure."
        )
