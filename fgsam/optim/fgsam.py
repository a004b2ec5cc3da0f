"""Fast graph sharpness-aware minimization."""

from __future__ import annotations

from typing import Any, Literal

import torch

from fgsam.checks import check_choice, check_fraction, check_non_negative
from fgsam.functional.ascent import sam_factor
from fgsam.functional.trees import Grads, add_, scale_
from fgsam.optim.base import Counts, ModelOrParams, Nonfinite, SharpnessAware
from fgsam.optim.passes import Pass

Form = Literal["paper", "code"]
"""Algorithm 1 as printed, or the behaviour of the released code."""

GUARDS: dict[Form, float] = {"paper": 0.0, "code": 1e-8}
"""What each form adds to the norms it divides by. The paper adds nothing; a zero vector stays zero either way."""


class FGSAM(SharpnessAware):
    r"""Ascend with the GNN, descend with the peer MLP that shares its weights.

    .. math:: w \leftarrow \mathrm{Opt}\big(w, \lambda \, g_{gnn} + \nabla L_{mlp}(w + \rho \,
              g_{gnn} / \lVert g_{gnn} \rVert)\big), \quad g_{gnn} = \nabla L_{gnn}(w)

    ``form="code"`` weighs the two gradients as the released code does, ``(1 - lam)`` and ``lam``; under Adam its
    ``lam = 0.5`` differs from the paper's ``lam = 1`` only through epsilon and weight decay. The released code also
    took the GNN gradient at a mixture of old and new weights; that is a bug, and neither form has it.

    Cost: one GNN and one peer pass, forward and backward; the GNN gradient of the ascent is stored and added.
    State: none that lasts; a copy of the weights during the peer pass.
    Use it where message passing dominates the cost. ``rho = 0`` is not the base optimizer: it minimises
    ``lam * L_gnn + L_mlp``.

    Args:
        model_or_params: The model, its parameters or parameter groups; a group may set its own ``rho``.
        base: Class of the optimizer that makes the step.
        rho: Radius of the ascent, at least 0. The default 0.05 is that of the published settings.
        lam: Weight of the GNN gradient: at least 0 for the paper's form (default 1.0), in ``[0, 1]`` and on the peer's
            gradient for the code's (default 0.5, published).
        form: ``"paper"`` or ``"code"``.
        nonfinite: ``"raise"``, ``"skip"`` or ``"allow"``, see ``SharpnessAware``.
        **base_options: Arguments of the base optimizer.

    Example:
        >>> w = torch.tensor([1.0], requires_grad=True)
        >>> optimizer = FGSAM([w], torch.optim.SGD, rho=0.5, lr=0.125)
        >>> optimizer.step(lambda: (w**2).sum(), peer_closure=lambda: (2 * w).sum())
        tensor(1.)
        >>> w.detach()
        tensor([0.5000])

    Source:
        Luo et al., Fast Graph Sharpness-Aware Minimization for Enhancing and Accelerating Few-Shot Node
        Classification, 2024, Algorithm 1 (FGSAM).
    """

    rule = "fgsam"
    peer = "required"
    passes = "1 GNN + 1 peer"

    def __init__(
        self,
        model_or_params: ModelOrParams,
        base: type[torch.optim.Optimizer] = torch.optim.Adam,
        *,
        rho: float = 0.05,
        lam: float | None = None,
        form: Form = "paper",
        nonfinite: Nonfinite = "raise",
        **base_options: Any,
    ) -> None:
        self.form = form
        self.lam = resolve_lam(lam, form)
        super().__init__(model_or_params, base, nonfinite=nonfinite, group_options={"rho": rho}, **base_options)

    def counts(self, num_queries: int) -> tuple[Counts, Counts]:
        """Count one pass of each kind."""
        return Counts(1, 1, peer=1), Counts(1, 1, peer=1)

    def direction(self, gnn: Pass, peer: Pass) -> Grads:
        """Return the weighted sum of the GNN gradient here and the peer gradient at the top of the ascent."""
        g_gnn = gnn(clean=True)
        with self.displaced(g_gnn, sam_factor(g_gnn, self.options_of_params("rho"), guard=GUARDS[self.form])):
            g_peer = peer()
        return weigh_(g_gnn, g_peer, self.lam, self.form)


def resolve_lam(lam: float | None, form: Form) -> float:
    """Return the weight, or the default of the form if it is ``None``.

    Raises:
        ValueError: If the form is unknown or the weight out of its range.
    """
    check_choice(("paper", "code"), form=form)
    if form == "code":
        lam = 0.5 if lam is None else lam
        check_fraction(lam=lam)
    else:
        lam = 1.0 if lam is None else lam
        check_non_negative(lam=lam)
    return lam


def weigh_(g_gnn: Grads, g_peer: Grads, lam: float, form: Form) -> Grads:
    """Return ``lam * g_gnn + g_peer`` for the paper's form, ``(1 - lam) * g_gnn + lam * g_peer`` for the code's.

    The result is written into the tensors of ``g_peer``.
    """
    if form == "code":
        return add_(scale_(g_peer, lam), g_gnn, alpha=1 - lam)
    return add_(g_peer, g_gnn, alpha=lam)
