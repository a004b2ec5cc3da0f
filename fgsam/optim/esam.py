"""Efficient sharpness-aware minimization."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from fgsam.checks import check_share
from fgsam.functional.ascent import sam_factor
from fgsam.functional.masks import masked, share_of, top
from fgsam.functional.trees import Grads
from fgsam.optim.base import ModelOrParams, Nonfinite, SharpnessAware
from fgsam.optim.passes import Pass


class ESAM(SharpnessAware):
    r"""Minimise the largest loss near the weights, moving some weights only and heeding the sharpest queries only.

    .. math:: w \leftarrow \mathrm{Opt}\Big(w, \frac{1}{|S|} \sum_{i \in S} \nabla \ell_i(w + \epsilon)\Big), \quad
              \epsilon = \frac{\rho}{\beta} \, m \circ g / \lVert g \rVert, \quad g = \nabla L(w)

    Stochastic weight perturbation: each entry of ``m`` is 1 with probability ``beta``, independently and anew in each
    step, so that the expected displacement is SAM's. Sharpness-sensitive data selection: ``S`` holds the
    ``ceil(gamma * n)`` queries whose losses rise most from ``w`` to ``w + epsilon``, the first ones among equals. The
    norm is over all parameters together. ``beta = gamma = 1`` is SAM.

    Cost: two forward and backward passes over all queries. The paper's forward pass between them is not needed, since
    the losses at the moved weights are those of the second pass; its saving, a second pass over the selected queries
    alone, is not had either, because a closure evaluates all of them. State: none. Use it to study the selection.

    Deviations: the released code switches whole tensors on and off, with the draw of the step before, takes the norm of
    those that are on, unfreezes frozen parameters, and selects by a strict cut-off that loses a query, or all of them
    when their rises are equal.

    Args:
        model_or_params: The model, its parameters or parameter groups; a group may set its own ``rho``.
        base: Class of the optimizer that makes the step.
        rho: Radius, at least 0. The default 0.05 is the authors' for CIFAR-10.
        beta: Probability that a weight moves, in ``(0, 1]``. The default 0.5 is that of the authors' script.
        gamma: Share of the queries in the second gradient, in ``(0, 1]``. The default 0.5 is that of the authors'
            script.
        nonfinite: ``"raise"``, ``"skip"`` or ``"allow"``, see ``SharpnessAware``.
        **base_options: Arguments of the base optimizer.

    Example:
        >>> w = torch.tensor([1.0], requires_grad=True)
        >>> optimizer = ESAM([w], torch.optim.SGD, rho=0.5, beta=1.0, gamma=0.5, lr=0.25)
        >>> optimizer.step(lambda: torch.stack([w**2, 3 * w]))
        tensor(2.)
        >>> w.detach()  # the linear loss has risen more
        tensor([0.2500])

    Source:
        Du et al., Efficient Sharpness-aware Minimization for Improved Training of Neural Networks, 2022, Algorithm 1.
    """

    rule = "esam"
    needs_vectors = True
    neutral: ClassVar[dict[str, float] | None] = {"rho": 0.0, "gamma": 1.0}
    passes = "2 GNN"

    def __init__(
        self,
        model_or_params: ModelOrParams,
        base: type[torch.optim.Optimizer] = torch.optim.Adam,
        *,
        rho: float = 0.05,
        beta: float = 0.5,
        gamma: float = 0.5,
        nonfinite: Nonfinite = "raise",
        **base_options: Any,
    ) -> None:
        check_share(beta=beta, gamma=gamma)
        self.beta = beta
        self.gamma = gamma
        super().__init__(model_or_params, base, nonfinite=nonfinite, group_options={"rho": rho}, **base_options)

    def direction(self, gnn: Pass, peer: Pass) -> Grads:
        """Return the gradient of the sharpest queries at the top of the partial ascent."""
        before: list[Tensor] = []

        def everyone(losses: Tensor) -> Tensor:
            before.append(losses)
            return torch.full_like(losses, 1 / len(losses))

        def sharpest(losses: Tensor) -> Tensor:
            num_kept = share_of(len(losses), self.gamma)
            return top(losses - before[0], num_kept).to(losses.dtype) / num_kept

        is_whole = self.gamma == 1
        g = gnn(clean=True, weigh=None if is_whole else everyone)
        radii = [rho / self.beta for rho in self.options_of_params("rho")]
        with self.displaced(self._drawn(g), sam_factor(g, radii)):
            return gnn(weigh=None if is_whole else sharpest)

    def _drawn(self, g: Grads) -> Grads:
        """Keep each entry with probability beta."""
        if self.beta == 1:
            return g
        generator = self.generator()
        # Drawn for every parameter, so that the numbers of one do not depend on the gradients of others.
        chances = [torch.rand(p.shape, dtype=torch.float32, generator=generator) for p in self._params()]
        return masked(g, [(c < self.beta).to(p.device) for c, p in zip(chances, self._params(), strict=True)])
