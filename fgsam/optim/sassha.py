"""Sharpness-aware second-order optimization."""

from __future__ import annotations

from typing import Any, Literal

from fgsam.functional.ascent import sam_factor
from fgsam.functional.trees import Grads
from fgsam.optim.base import Counts, ModelOrParams, Nonfinite
from fgsam.optim.curvature_base import SecondOrder, correction_of
from fgsam.optim.passes import Pass


class Sassha(SecondOrder):
    r"""Minimise the largest loss within a small ball, in steps divided by the root of the curvature up there.

    .. math:: \tilde g = \nabla L(\tilde w), \quad \tilde w = w + \rho \, g / \lVert g \rVert, \quad
              m \leftarrow \beta_1 m + (1 - \beta_1) \tilde g, \quad
              D \leftarrow \beta_2 D + (1 - \beta_2) \, |z \circ H(\tilde w) z|

    .. math:: w \leftarrow (1 - \eta \lambda) w - \eta \, \frac{m}{1 - \beta_1^t} \Big/
              \Big(\sqrt{D / (1 - \beta_2^n)} + \epsilon\Big)

    ``z`` holds random signs, and ``D`` changes every ``hessian_every`` steps, ``n`` times so far. The absolute value
    removes negative curvature; the root raises the small curvature of flat regions. One estimate has the mean
    ``H_ii``, but its absolute value has a larger one where the Hessian is not diagonal. The paper prints ``t`` in place
    of ``n``: with the defaults that makes ``D`` 5.5 times too small at the second update, and the step 2.3 times too
    long. ``form="code"`` does so, as the released code: ``t`` is that of the last update.

    A weight whose curvature was measured as zero, as one of a feature that the batch lacks, moves by ``lr * m / eps``
    until the next measure. With sparse features that changes from episode to episode: raise ``eps``, or measure in
    every step.

    The released loop for images evaluates ``H z`` after the weights went back, on activations of the perturbed ones,
    and builds the graph of second derivatives in every step; both are faults and have no form. Its several probes a
    step are left out: published runs use one.

    Cost: two forward and backward passes; every ``hessian_every`` steps the second backward is differentiated once
    more. State: ``m`` and ``D``; a copy of the weights during the second pass. Use it where layers are curved very
    differently. There is no base optimizer to choose; step sizes are far larger than Adam's.

    Args:
        model_or_params: The model, its parameters or parameter groups; a group may set its own ``rho``, ``lr``,
            ``betas``, ``eps``, ``weight_decay`` and ``hessian_power``.
        lr: Step size, at least 0. The default 0.15 is the authors' for CIFAR-10; they use 0.3 for CIFAR-100 and
            ImageNet (0.6 with ViT), 0.01 for fine-tuning.
        rho: Radius of the ball, at least 0. The default 0.2 is published for CIFAR-10 and ImageNet; others are 0.25
            (CIFAR-100), 0.1 (label noise), 0.02 (GPT-2). The released class has 0, which no published run uses.
        betas: Decay of ``m`` and ``D``, each in ``[0, 1)``. Default published; GPT-2 takes 0.965 and 0.99.
        eps: Added to the divisor, positive. Default published; some runs take 1e-6.
        weight_decay: Decay apart from the gradient, at least 0. The released scripts divide their value by ``lr``.
        hessian_power: Power of the curvature, at least 0. The default 0.5 is the square root; a schedule may lower it
            from 1, in ``param_groups``.
        hessian_every: Steps from one measure of the curvature to the next, at least 1. Default published; 1 for
            fine-tuning.
        form: ``"exact"`` or ``"code"``.
        nonfinite: ``"raise"``, ``"skip"`` or ``"allow"``, see ``SharpnessAware``.
        **base_options: Further arguments of ``SharpnessAware``, as ``max_norm``.

    Example:
        >>> import torch
        >>> w = torch.tensor([1.0, 1.0], requires_grad=True)
        >>> optimizer = Sassha([w], lr=0.5, rho=0.0, eps=1e-8)
        >>> loss = optimizer.step(lambda: 0.5 * (w * w * torch.tensor([1.0, 100.0])).sum())
        >>> w.detach()  # a gradient of 100 with a curvature of 100 moves as far as one of 10 with a curvature of 1
        tensor([ 0.5000, -4.0000])

    Source:
        Shin et al., SASSHA: Sharpness-Aware Adaptive Second-Order Optimization with Stable Hessian Approximation,
        2025, Algorithm 1.
    """

    rule = "sassha"
    passes = "2 GNN every step, the second with a Hessian product every hessian_every steps"

    def __init__(
        self,
        model_or_params: ModelOrParams,
        *,
        lr: float = 0.15,
        rho: float = 0.2,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-4,
        weight_decay: float = 0.0,
        hessian_power: float = 0.5,
        hessian_every: int = 10,
        form: Literal["exact", "code"] = "exact",
        nonfinite: Nonfinite = "raise",
        **base_options: Any,
    ) -> None:
        super().__init__(
            model_or_params,
            hessian_every=hessian_every,
            nonfinite=nonfinite,
            group_options={"rho": rho},
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            hessian_power=hessian_power,
            correction=correction_of(form),
            **base_options,
        )

    def direction(self, gnn: Pass, peer: Pass) -> Grads:
        """Return the gradient at the top of the ascent, and measure the curvature there."""
        g = gnn(clean=True)
        with self.displaced(g, sam_factor(g, self.options_of_params("rho"))):
            return self.gradient(gnn)

    def counts(self, num_queries: int) -> tuple[Counts, Counts]:
        """Count a step that measures the curvature in its second pass, and one that does not."""
        longest, shortest = super().counts(num_queries)
        return longest._replace(forwards=2, backwards=2), shortest._replace(forwards=2, backwards=2)
