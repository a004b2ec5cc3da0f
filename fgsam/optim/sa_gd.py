"""Gradient descent on the largest loss within a ball."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch

from fgsam.functional.ascent import inverse
from fgsam.functional.noise import gaussian
from fgsam.functional.trees import Gradient, Grads, add_scaled, norm, scale, scale_
from fgsam.optim.base import Counts, ModelOrParams, Nonfinite, SharpnessAware
from fgsam.optim.passes import Pass

_LONGEST = 1e6
"""Length of the longest step of an ascent, in radii: from there on only its direction counts."""
_ROUNDING_UNITS = 8
"""A loss that falls by less than this many rounding units has not fallen."""


class Point(NamedTuple):
    """A point of the ball, in radii from the weights, and the gradient there."""

    offset: Grads
    gradient: Gradient


class SAGD(SharpnessAware):
    r"""Minimise the largest loss within a small ball around the weights, taking the gradient where it is attained.

    .. math:: w \leftarrow \mathrm{Opt}\big(w, \nabla L(w + \epsilon^*)\big), \quad
              \epsilon^* = \arg\max_{\lVert \epsilon \rVert \le \rho} L(w + \epsilon)

    SAM's one ascent stands in for this maximum; the two agree on a linear loss, and on a quadratic one along its top
    eigenvector. They differ where the gradient vanishes: SAM stops there, this rule goes on if the ball holds more.

    The maximum is sought by projected gradient ascent, from the weights and from random points of the sphere. A
    step that lets the loss fall is taken back and shortened, others make the next one longer. On a convex loss that
    ends at a local maximum of the ball; from the weights on a convex quadratic it is the global one. No
    search with finitely many passes can promise that for other losses: this is a reference for small problems. Groups
    with radii of their own make the ball an ellipsoid with these half-axes.

    Cost: ``1 + num_ascents + 2 num_directions (1 + num_ascents)`` forward and backward passes, and one question to the
    device after each. State: none that lasts. Use it to see what SAM's approximation does, not to train networks.

    Args:
        model_or_params: The model, its parameters or parameter groups; a group may set its own ``rho``.
        base: Class of the optimizer that makes the step.
        rho: Radius of the ball, at least 0; 0 gives the base optimizer. The default 0.05 is SAM's.
        num_ascents: Steps of each ascent, at least 1. More of them come closer to the maximum.
        num_directions: Random directions whose two ends on the sphere are tried as further starts, at least 0. Without
            any, a point where the gradient vanishes is never left.
        nonfinite: ``"raise"``, ``"skip"`` or ``"allow"``, see ``SharpnessAware``.
        **base_options: Arguments of the base optimizer.

    Example:
        >>> w = torch.tensor([-0.1], requires_grad=True)  # the gradient is zero here, but not within the ball
        >>> loss = SAGD([w], torch.optim.SGD, rho=0.3, lr=0.5).step(lambda: 0.5 * w.clamp(min=0).pow(2).sum())
        >>> w.detach()
        tensor([-0.2000])

    Source:
        Schliserman et al., on sharpness-aware gradient descent and SAM in stochastic convex optimization, 2025,
        arXiv 2511.03548 (the name and the rule; the ascent is ours).
    """

    rule = "sa_gd"
    neutral: ClassVar[dict[str, float] | None] = {"rho": 0.0}
    passes = "1 + num_ascents + 2 * num_directions * (1 + num_ascents) GNN"

    def __init__(
        self,
        model_or_params: ModelOrParams,
        base: type[torch.optim.Optimizer] = torch.optim.Adam,
        *,
        rho: float = 0.05,
        num_ascents: int = 10,
        num_directions: int = 1,
        nonfinite: Nonfinite = "raise",
        **base_options: Any,
    ) -> None:
        for name, value, least in (("num_ascents", num_ascents, 1), ("num_directions", num_directions, 0)):
            if not isinstance(value, int) or value < least:
                raise ValueError(f"Expected '{name}' to be a whole number, at least {least} (got {value!r})")
        self.num_ascents = num_ascents
        self.num_directions = num_directions
        super().__init__(model_or_params, base, nonfinite=nonfinite, group_options={"rho": rho}, **base_options)

    def counts(self, num_queries: int) -> tuple[Counts, Counts]:
        """Count the passes of all ascents."""
        num_passes = 1 + self.num_ascents + 2 * self.num_directions * (1 + self.num_ascents)
        return Counts(num_passes, num_passes), Counts(num_passes, num_passes)

    def direction(self, gnn: Pass, peer: Pass) -> Grads:
        """Return the gradient at the highest point found."""
        radii = self.options_of_params("rho")
        best = self._climb(gnn, Point([None] * len(radii), gnn(clean=True)), radii)
        for i in range(self.num_directions):
            probe = gaussian(self._params(), self.generator(i))
            for sign in (1.0, -1.0):
                start = self._visit(gnn, scale(probe, sign * inverse(norm(probe))), radii)
                end = self._climb(gnn, start, radii)
                if end.gradient.loss > best.gradient.loss:
                    best = end
        return best.gradient

    def _climb(self, gnn: Pass, point: Point, radii: list[float]) -> Point:
        length = float(norm(scale(point.gradient, radii)))
        rate = 1 / length if length > 0 else 0.0  # the first trial from the weights is the point of SAM
        for _ in range(self.num_ascents):
            slope = scale(point.gradient, radii)
            step = torch.tensor(rate, dtype=torch.float64)
            trial = self._visit(gnn, _onto_ball(add_scaled(point.offset, slope, step)), radii)
            if _has_fallen(trial.gradient.loss, point.gradient.loss):
                rate /= 4
                continue
            point = trial
            length = float(norm(scale(point.gradient, radii)))
            rate = min(2 * rate, _LONGEST / length) if length > 0 else 0.0
        return point

    def _visit(self, gnn: Pass, offset: Grads, radii: list[float]) -> Point:
        with self.displaced(offset, [torch.tensor(rho, dtype=torch.float64) for rho in radii]):
            return Point(offset, gnn())


def _onto_ball(offset: Grads) -> Grads:
    """Bring a vector that is longer than one to length one, in place."""
    length = norm(offset)
    return scale_(offset, torch.where(length > 1, length.reciprocal(), 1.0))


def _has_fallen(new: torch.Tensor, old: torch.Tensor) -> bool:
    return bool(new < old - _ROUNDING_UNITS * torch.finfo(old.dtype).eps * old.abs())
