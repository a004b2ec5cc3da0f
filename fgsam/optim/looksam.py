"""Sharpness-aware minimization that looks ahead in some steps only."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from fgsam.checks import check_non_negative
from fgsam.functional.ascent import inverse, sam_factor
from fgsam.functional.projection import across
from fgsam.functional.trees import Grads, add_scaled_, dot, norm, scale_
from fgsam.optim.base import Counts, ModelOrParams, Nonfinite, SharpnessAware
from fgsam.optim.passes import Pass


class LookSAM(SharpnessAware):
    r"""Minimise SAM's objective, and reuse for some steps the part of its gradient that leads to flat regions.

    An exact step, the first of each period, is SAM's and stores the part of its gradient across the plain one; the
    other, cheap, steps add that part, brought to the length of the plain gradient:

    .. math:: g_s = \nabla L(w + \rho \, g / \lVert g \rVert), \quad g_v = P^\perp_g(g_s) \qquad \text{then} \qquad
              g + \alpha \frac{\lVert g \rVert}{\lVert g_v \rVert} g_v, \quad g = \nabla L(w)

    Norms and the projection are over all parameters together, and a ``g_v`` that is rounding error counts as zero. No
    official code exists. Two of four public ports project tensor by tensor, one leaves the weights moved, and one
    runs two backward passes in every step, which saves nothing.

    Cost: two forward and backward passes in an exact step, one in a cheap one. State: one vector, ``g_v`` brought to
    length one. Use it where SAM helps and its second pass is too expensive; with ``refresh_every = 1`` it equals SAM.

    The period counts calls, skipped ones included. A step without a stored vector, because the exact one before it was
    skipped, is exact.

    Args:
        model_or_params: The model, its parameters or parameter groups; a group may set its own ``rho``.
        base: Class of the optimizer that makes the step.
        rho: Radius of the ascent, at least 0; 0 gives the base optimizer. The default 0.1 is the ports'.
        refresh_every: Steps from one exact step to the next (the paper's ``k``), at least 1. The default 5 is one of
            the two values in the paper.
        alpha: Weight of the stored part, at least 0; 0 makes cheap steps those of the base optimizer. The default 0.7
            is the ports'.
        nonfinite: ``"raise"``, ``"skip"`` or ``"allow"``, see ``SharpnessAware``.
        **base_options: Arguments of the base optimizer.

    Example:
        >>> w = torch.tensor([2.0, 1.0], requires_grad=True)
        >>> optimizer = LookSAM([w], torch.optim.SGD, refresh_every=2, lr=0.1)
        >>> for _ in range(2):
        ...     loss = optimizer.step(lambda: w[0] ** 2 + 2 * w[1] ** 2)
        >>> w.detach()
        tensor([1.4622, 0.1495])

    Source:
        Liu et al., Towards Efficient and Scalable Sharpness-Aware Minimization, 2022, Algorithm 1.
    """

    rule = "looksam"
    neutral: ClassVar[dict[str, float] | None] = {"rho": 0.0}
    passes = "2 GNN every refresh_every steps, else 1 GNN"

    def __init__(
        self,
        model_or_params: ModelOrParams,
        base: type[torch.optim.Optimizer] = torch.optim.Adam,
        *,
        rho: float = 0.1,
        refresh_every: int = 5,
        alpha: float = 0.7,
        nonfinite: Nonfinite = "raise",
        **base_options: Any,
    ) -> None:
        if not isinstance(refresh_every, int) or refresh_every < 1:
            raise ValueError(f"Expected 'refresh_every' to be a whole number, at least 1 (got {refresh_every!r})")
        check_non_negative(alpha=alpha)
        self.refresh_every = refresh_every
        self.alpha = alpha
        super().__init__(model_or_params, base, nonfinite=nonfinite, group_options={"rho": rho}, **base_options)

    def counts(self, num_queries: int) -> tuple[Counts, Counts]:
        """Count the passes of an exact and of a cheap step."""
        exact, cheap = Counts(2, 2), Counts(1, 1)
        return exact, exact if self.refresh_every == 1 else cheap

    def direction(self, gnn: Pass, peer: Pass) -> Grads:
        """Return the direction of an exact or a cheap step, whichever is due."""
        g = gnn(clean=True)
        has_flatness = any(key.startswith("flatness.") for key in self.own)
        if self.num_calls % self.refresh_every == 0 or not has_flatness:
            return self._exact(gnn, g)
        return add_scaled_(g, self.kept("flatness"), self.alpha * norm(g)) if self.alpha else g

    def _exact(self, gnn: Pass, g: Grads) -> Grads:
        with self.displaced(g, sam_factor(g, self.options_of_params("rho"))):
            g_s = gnn()
        if self.refresh_every > 1:
            g_v, length = across(g_s, g, dot(g, g))
            self.keep("flatness", scale_(g_v, inverse(length)))
        return g_s
