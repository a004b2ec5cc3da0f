"""Sharpness-aware minimization that ascends along the noise of the batch alone."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch

from fgsam.checks import check_choice, check_fraction, check_non_negative
from fgsam.functional.ascent import sam_factor
from fgsam.functional.projection import resolved_length
from fgsam.functional.trees import Grads, add, scale
from fgsam.optim.base import ModelOrParams, Nonfinite, SharpnessAware
from fgsam.optim.passes import Pass

Form = Literal["paper", "code"]
"""The update of the paper, or that of the released code."""


class FriendlySAM(SharpnessAware):
    r"""Minimise the loss after an ascent along the part of the gradient that belongs to this batch only.

    A running mean stands for the gradient over all data. What remains of the batch's own is noise, and the ascent
    follows that:

    .. math:: m \leftarrow \lambda m + (1 - \lambda) g, \quad d = g - \sigma m, \quad
              w \leftarrow \mathrm{Opt}\Big(w, \nabla L\big(w + \rho \, d / \lVert d \rVert\big)\Big), \quad
              g = \nabla L(w)

    The mean starts at zero, so that the first ascent is SAM's; norms are over all parameters together,
    and noise that is rounding error counts as zero.
    ``form="code"`` takes ``d`` from the mean before it moves and starts the mean at the first gradient. With
    ``sigma = 1`` and the same mean the two directions agree, since ``g - m`` only shrinks by ``lambda`` as ``m`` moves.

    Cost: two forward and backward passes. State: one vector, the mean. Use it with batches that are small or few, where
    the common part of the gradient is better left alone.

    Args:
        model_or_params: The model, its parameters or parameter groups; a group may set its own ``rho``.
        base: Class of the optimizer that makes the step.
        rho: Radius of the ascent, at least 0; 0 gives the base optimizer. The default 0.1 is the authors' script's.
        sigma: Share of the mean that is taken off, at least 0; 0 gives SAM. Default published.
        decay: What the mean keeps in each step (the paper's ``lambda``), in ``[0, 1]``. The default 0.9 is that of the
            authors' class; their scripts use 0.6 to 0.95.
        form: ``"paper"`` or ``"code"``.
        nonfinite: ``"raise"``, ``"skip"`` or ``"allow"``, see ``SharpnessAware``.
        **base_options: Arguments of the base optimizer.

    Example:
        >>> w = torch.tensor([1.0], requires_grad=True)
        >>> optimizer = FriendlySAM([w], torch.optim.SGD, rho=0.5, lr=0.25)
        >>> for _ in range(2):  # the second gradient is 0.5, more than its mean 0.23: up again
        ...     loss = optimizer.step(lambda: (w**2).sum())
        >>> w.detach()
        tensor([-0.1250])

    Source:
        Li et al., Friendly Sharpness-Aware Minimization, 2024, Algorithm 1.
    """

    rule = "friendly_sam"
    neutral: ClassVar[dict[str, float] | None] = {"rho": 0.0}
    passes = "2 GNN"

    def __init__(
        self,
        model_or_params: ModelOrParams,
        base: type[torch.optim.Optimizer] = torch.optim.Adam,
        *,
        rho: float = 0.1,
        sigma: float = 1.0,
        decay: float = 0.9,
        form: Form = "paper",
        nonfinite: Nonfinite = "raise",
        **base_options: Any,
    ) -> None:
        check_non_negative(sigma=sigma)
        check_fraction(decay=decay)
        check_choice(("paper", "code"), form=form)
        self.sigma = sigma
        self.decay = decay
        self.form = form
        super().__init__(model_or_params, base, nonfinite=nonfinite, group_options={"rho": rho}, **base_options)

    def direction(self, gnn: Pass, peer: Pass) -> Grads:
        """Return the gradient at the top of the ascent along the noise."""
        g = gnn(clean=True)
        before = self.kept("mean")
        is_first = all(m is None for m in before)
        change = 1.0 if self.form == "code" and is_first else 1 - self.decay
        after = add(before, add(g, before, alpha=-1.0), alpha=change)
        self.keep("mean", after)
        noise: Grads = g
        if self.sigma:
            noise = add(g, before if self.form == "code" else after, alpha=-self.sigma)
            is_noise = resolved_length(noise, g) > 0
            noise = scale(noise, is_noise.to(g.length.dtype))
        with self.displaced(noise, sam_factor(noise, self.options_of_params("rho"))):
            return gnn()
