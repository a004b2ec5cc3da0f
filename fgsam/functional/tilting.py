"""Averages that lean towards large losses."""

from __future__ import annotations

import torch
from torch import Tensor

from fgsam.functional.trees import Gradient, Grads, add_scaled_, scale_


class TiltedMean:
    r"""Average gradients, each weighted by the exponential of its loss, without holding more than one.

    .. math:: \frac{\sum_i e^{t L_i} g_i}{\sum_i e^{t L_i}}

    The largest loss so far is taken off all of them, so that no exponential overflows.

    Args:
        tilt: The tilt ``t``, at least 0 and finite; 0 gives the plain mean.

    Example:
        >>> mean = TiltedMean(tilt=1.0)
        >>> for loss in (0.0, 1.0):
        ...     gradient = Gradient([torch.tensor([loss])])
        ...     gradient.loss = torch.tensor(loss)
        ...     mean.add_(gradient)
        >>> mean.value()
        [tensor([0.7311])]
    """

    def __init__(self, tilt: float) -> None:
        self.tilt = tilt
        self._top: Tensor | None = None
        self._total: Grads = []
        self._mass: Tensor = torch.ones(())

    def add_(self, gradient: Gradient) -> None:
        """Take in the gradient of one pass, whose tensors may be written to."""
        loss = gradient.loss.to(gradient.length)
        if self._top is None:
            self._top, self._total, self._mass = loss, list(gradient), torch.ones_like(loss)
            return
        top = torch.maximum(self._top, loss)
        old, new = torch.exp(self.tilt * (self._top - top)), torch.exp(self.tilt * (loss - top))
        self._total = add_scaled_(scale_(self._total, old), gradient, new)
        self._mass, self._top = self._mass * old + new, top

    def value(self) -> Grads:
        """Return the average, at the end."""
        return scale_(self._total, self._mass.reciprocal())


def tilted_slopes(plus: Tensor, minus: Tensor, tilt: float) -> Tensor:
    r"""Difference of the weights of opposite points in the tilted mean, divided by the tilt.

    .. math:: \frac{e^{t L_i^+} - e^{t L_i^-}}{t \sum_j (e^{t L_j^+} + e^{t L_j^-})}

    For a tilt of 0 this is its limit, the difference of losses over twice the number of pairs.

    Args:
        plus: Losses at one point of each pair, shape ``[num_pairs]``.
        minus: Losses at the opposite points, shape ``[num_pairs]``.
        tilt: The tilt ``t``, at least 0 and finite.

    Returns:
        Shape ``[num_pairs]``.

    Example:
        >>> tilted_slopes(torch.tensor([3.0]), torch.tensor([1.0]), tilt=0.0)
        tensor([1.])
    """
    larger, gap = torch.maximum(plus, minus), (plus - minus).abs()
    top = larger.max()
    mass = (torch.exp(tilt * (plus - top)) + torch.exp(tilt * (minus - top))).sum()
    share = -torch.expm1(-tilt * gap) / tilt if tilt else gap
    return torch.sign(plus - minus) * torch.exp(tilt * (larger - top)) * share / mass
