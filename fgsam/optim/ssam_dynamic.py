"""Sparse sharpness-aware minimization with a mask that drops and grows."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from fgsam.checks import check_choice, check_count, check_fraction
from fgsam.functional.ascent import sam_factor
from fgsam.functional.masks import drop_and_grow, flat, masked, shaped, share_of, top
from fgsam.functional.trees import Grads
from fgsam.optim.base import ModelOrParams, Nonfinite, SharpnessAware
from fgsam.optim.passes import Pass

Score = Literal["weight", "gradient", "random"]
"""What ranks the entries of the mask: absolute weights, absolute gradients, or chance."""


class SSAMDynamic(SharpnessAware):
    r"""Minimise the largest loss near the weights when only a slowly changing part of them may move (SSAM-D).

    .. math:: w \leftarrow \mathrm{Opt}\Big(w, \nabla L\big(w + \rho \, m \circ g / \lVert g \rVert\big)\Big), \quad
              g = \nabla L(w)

    The mask ``m`` begins at random. Every ``mask_every`` steps, before the ascent, it gives up the share

    .. math:: a_t = \frac{a_0}{2} \Big(1 + \cos \frac{\pi t}{T}\Big)

    of its entries, those of smallest score, and marks as many of the others, those of largest score. The norm is that
    of the whole gradient, so that the ascent is as long as SAM's or shorter; all weights are updated. Frozen parameters
    have no part in the mask. The number of marked entries is exact after every step.

    Cost: two forward and backward passes. State: one boolean for each parameter. Masked or not, the arithmetic is
    dense: use it for a gentler ascent, not for speed.

    Deviations: entries that are given up are limited to the number that can come in their place, while the released
    code loses density (with ``sparsity=0.2`` and ``drop_rate=0.5``, 60 % instead of 80 % are marked after the first
    update). It also renews the mask after the ascent, so that its scores belong to moved weights; here they belong to
    the weights themselves. Its updates count epochs.

    Args:
        model_or_params: The model, its parameters or parameter groups; a group may set its own ``rho``.
        base: Class of the optimizer that makes the step.
        rho: Radius, at least 0; 0 gives the base optimizer. The default 0.1 is the authors' for CIFAR-10.
        sparsity: Share of the parameters that stay in the ascent, in ``[0, 1]``: 0 gives SAM, 1 the base optimizer. The
            default is the authors'.
        drop_rate: Share ``a_0`` given up at first, in ``[0, 1]``. Default published.
        drop_by: Score by which entries are given up: ``"weight"``, ``"gradient"`` or ``"random"``. Default published.
        grow_by: Score by which entries are marked. Default published.
        mask_every: Steps from one update to the next, at least 1. The authors count epochs; the default 100 is ours.
        num_steps: Steps ``T`` until the drop rate is zero and the mask stays, at least 1. The default is ours.
        nonfinite: ``"raise"``, ``"skip"`` or ``"allow"``, see ``SharpnessAware``.
        **base_options: Arguments of the base optimizer.

    Example:
        >>> w = torch.ones(10, requires_grad=True)
        >>> optimizer = SSAMDynamic([w], torch.optim.SGD, sparsity=0.8, mask_every=1, lr=0.1)
        >>> for _ in range(3):
        ...     loss = optimizer.step(lambda: (w**2).sum())
        >>> int(optimizer.own["mask.0"].sum())
        2

    Source:
        Mi et al., Make Sharpness-Aware Minimization Stronger: A Sparsified Perturbation Approach, 2022, Algorithms 1
        and 3.
    """

    rule = "ssam_dynamic"
    neutral: ClassVar[dict[str, float] | None] = {"rho": 0.0}
    passes = "2 GNN"

    def __init__(
        self,
        model_or_params: ModelOrParams,
        base: type[torch.optim.Optimizer] = torch.optim.Adam,
        *,
        rho: float = 0.1,
        sparsity: float = 0.5,
        drop_rate: float = 0.5,
        drop_by: Score = "gradient",
        grow_by: Score = "random",
        mask_every: int = 100,
        num_steps: int = 1000,
        nonfinite: Nonfinite = "raise",
        **base_options: Any,
    ) -> None:
        check_fraction(sparsity=sparsity, drop_rate=drop_rate)
        check_choice(("weight", "gradient", "random"), drop_by=drop_by, grow_by=grow_by)
        check_count(mask_every=mask_every, num_steps=num_steps)
        self.sparsity = sparsity
        self.drop_rate = drop_rate
        self.drop_by: Score = drop_by
        self.grow_by: Score = grow_by
        self.mask_every = mask_every
        self.num_steps = num_steps
        super().__init__(model_or_params, base, nonfinite=nonfinite, group_options={"rho": rho}, **base_options)

    def direction(self, gnn: Pass, peer: Pass) -> Grads:
        """Return the gradient at the top of the masked ascent."""
        g = gnn(clean=True)
        has_mask = any(key.startswith("mask.") for key in self.own)
        if self.num_calls % self.mask_every == 0 or not has_mask:
            self._renew(g, has_mask)
        with self.displaced(masked(g, self.kept("mask")), sam_factor(g, self.options_of_params("rho"))):
            return gnn()

    @torch.no_grad()
    def _renew(self, g: Grads, has_mask: bool) -> None:
        params: Grads = [p.detach() if p.requires_grad else None for p in self._params()]
        if all(p is None for p in params):
            return
        weights = flat(params)
        num_live = len(weights) - share_of(len(weights), self.sparsity)
        if has_mask:
            rate = self.drop_rate / 2 * (1 + math.cos(math.pi * min(1.0, self.num_calls / self.num_steps)))
            # A parameter that has joined since, or has been thawed, starts unmarked.
            before = flat(_filled(self.kept("mask"), params, torch.bool))
            slopes = flat(_filled(g, params))
            drop, grow = self._score(self.drop_by, weights, slopes, 1), self._score(self.grow_by, weights, slopes, 2)
            mask = drop_and_grow(before, drop, grow, num_live, rate)
        else:
            mask = top(self._score("random", weights, weights, 0), num_live)
        self.keep("mask", shaped(mask, params))

    def _score(self, by: Score, weights: Tensor, slopes: Tensor, key: int) -> Tensor:
        if by == "random":
            numbers = torch.rand(len(weights), dtype=torch.float32, generator=self.generator(key))
            return numbers.to(weights.device)
        return (weights if by == "weight" else slopes).abs()


def _filled(tensors: Grads, params: Grads, dtype: torch.dtype | None = None) -> Grads:
    """Put zeros where a tensor of a parameter is missing, and drop what belongs to none."""
    pairs = zip(tensors, params, strict=True)
    return [p if p is None else torch.zeros_like(p, dtype=dtype) if one is None else one for one, p in pairs]
