"""Fast graph sharpness-aware minimization with the GNN in some steps only."""

from __future__ import annotations

from typing import Any

import torch

from fgsam.checks import check_non_negative
from fgsam.functional.ascent import inverse, sam_factor
from fgsam.functional.projection import across, across_, orthogonal_part_each, unit_each
from fgsam.functional.trees import Grads, add_scaled_, dot, norm, norms, scale_
from fgsam.optim.base import Counts, ModelOrParams, Nonfinite, SharpnessAware
from fgsam.optim.fgsam import GUARDS, Form, resolve_lam, weigh_
from fgsam.optim.passes import Pass


class FGSAMPlus(SharpnessAware):
    r"""FGSAM that runs the GNN every few steps and reuses what it learned from it in between.

    An exact step, the first of each period, takes FGSAM's direction and stores how the GNN's gradient and the gradient
    after the ascent differ from the peer's:

    .. math:: g = \lambda \, g_{gnn} + g_s, \quad g_s = \nabla L_{mlp}(w + \rho \, g_{gnn} / \lVert g_{gnn} \rVert),
              \quad g_G = P^\perp_{g_{mlp}}(g_{gnn}), \quad g_v = P^\perp_{g_{mlp}}(g_s)

    The other, cheap, steps run the peer alone and add the stored vectors, brought to its gradient's length:

    .. math:: g = g_{mlp} + \alpha \, g_v \frac{\lVert g_{mlp} \rVert}{\lVert g_v \rVert} + \lambda \Big(g_{mlp} +
              g_G \frac{\lVert g_{mlp} \rVert}{\lVert g_G \rVert}\Big)

    Norms and projections are over all parameters together, and a vector that is zero up to rounding stays zero.
    ``form="code"`` is the behaviour of the released code: weights ``(1 - lam)`` and ``lam``, ``g_v`` taken from the
    weighted sum instead of ``g_s``, tensor by tensor, no topology term in cheap steps, and 1e-8 added to norms.

    Cost: one GNN and two peer passes in an exact step, one peer pass in a cheap one. State: one vector, the weighted
    sum of ``g_v`` and ``g_G``, each brought to length one, which is all that a cheap step needs of them. Use it where
    message passing dominates the cost; with ``refresh_every = 1`` it equals FGSAM.

    The period counts calls, skipped ones included. A step without stored vectors, because the exact one before it was
    skipped, is exact.

    Args:
        model_or_params: The model, its parameters or parameter groups; a group may set its own ``rho``.
        base: Class of the optimizer that makes the step.
        rho: Radius of the ascent, at least 0. The default 0.1 is that of the published settings.
        refresh_every: Steps from one exact step to the next (the paper's ``k``), at least 1. Default published.
        alpha: Weight of the flatness vector in cheap steps, at least 0. Default published.
        lam: Weight of the GNN gradient: at least 0 for the paper's form (default 1.0), in ``[0, 1]`` and on the peer's
            gradient for the code's (default 0.5, published).
        form: ``"paper"`` or ``"code"``.
        nonfinite: ``"raise"``, ``"skip"`` or ``"allow"``, see ``SharpnessAware``.
        **base_options: Arguments of the base optimizer.

    Example:
        >>> w = torch.tensor([1.0, 0.0], requires_grad=True)
        >>> optimizer = FGSAMPlus([w], torch.optim.SGD, lr=0.125)
        >>> for _ in range(2):
        ...     loss = optimizer.step(lambda: (w**2).sum(), peer_closure=lambda: (w - 1).pow(2).sum())
        >>> loss  # of the peer, the only pass of a cheap step
        tensor(0.6381)

    Source:
        Luo et al., Fast Graph Sharpness-Aware Minimization for Enhancing and Accelerating Few-Shot Node
        Classification, 2024, Algorithm 1 (FGSAM+).
    """

    rule = "fgsam_plus"
    peer = "required"
    passes = "1 GNN + 2 peer every refresh_every steps, else 1 peer"

    def __init__(
        self,
        model_or_params: ModelOrParams,
        base: type[torch.optim.Optimizer] = torch.optim.Adam,
        *,
        rho: float = 0.1,
        refresh_every: int = 2,
        alpha: float = 0.7,
        lam: float | None = None,
        form: Form = "paper",
        nonfinite: Nonfinite = "raise",
        **base_options: Any,
    ) -> None:
        if not isinstance(refresh_every, int) or refresh_every < 1:
            raise ValueError(f"Expected 'refresh_every' to be a whole number, at least 1 (got {refresh_every!r})")
        check_non_negative(alpha=alpha)
        self.refresh_every = refresh_every
        self.alpha = alpha
        self.form = form
        self.lam = resolve_lam(lam, form)
        super().__init__(model_or_params, base, nonfinite=nonfinite, group_options={"rho": rho}, **base_options)

    def counts(self, num_queries: int) -> tuple[Counts, Counts]:
        """Count the passes of an exact and of a cheap step."""
        exact, cheap = Counts(1, 1, peer=2), Counts(0, 0, peer=1, clean=0)
        return exact, exact if self.refresh_every == 1 else cheap

    def direction(self, gnn: Pass, peer: Pass) -> Grads:
        """Return the direction of an exact or a cheap step, whichever is due."""
        has_shift = any(key.startswith("shift.") for key in self.own)
        if self.num_calls % self.refresh_every == 0 or not has_shift:
            return self._exact(gnn, peer)
        return self._cheap(peer)

    def _exact(self, gnn: Pass, peer: Pass) -> Grads:
        g_gnn = gnn(clean=True)
        g_mlp = peer()
        with self.displaced(g_gnn, sam_factor(g_gnn, self.options_of_params("rho"), guard=GUARDS[self.form])):
            g_s = peer()
        if self.form == "code":
            g = weigh_(g_gnn, g_s, self.lam, self.form)
            flatness = unit_each(orthogonal_part_each(g, g_mlp), guard=GUARDS["code"])
            self.keep("shift", scale_(flatness, self.alpha))
            return g
        square = dot(g_mlp, g_mlp)
        g_v, length_v = across(g_s, g_mlp, square)
        g = weigh_(g_gnn, g_s, self.lam, self.form)
        g_G, length_G = across_(g_gnn, g_mlp, square)
        flatness = scale_(g_v, self.alpha * inverse(length_v))
        self.keep("shift", add_scaled_(flatness, g_G, self.lam * inverse(length_G)))
        return g

    def _cheap(self, peer: Pass) -> Grads:
        g_mlp = peer()
        if self.form == "code":
            return add_scaled_(g_mlp, self.kept("shift"), norms(g_mlp))
        length = norm(g_mlp)
        return add_scaled_(scale_(g_mlp, 1 + self.lam), self.kept("shift"), length)
