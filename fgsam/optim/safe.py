"""Sparse training with a penalty and flatness."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from fgsam.functional.ascent import sam_factor
from fgsam.functional.sparsity import Schedule
from fgsam.functional.trees import Grads
from fgsam.optim.base import ModelOrParams, Nonfinite
from fgsam.optim.passes import Pass
from fgsam.optim.sparsifier import Splitter


class SAFE(Splitter):
    r"""Minimise the largest loss within a small ball around the weights, among weights of which most are zero.

    .. math:: w \leftarrow \mathrm{Opt}\big(w, \nabla L(w + \rho \, g / \lVert g \rVert) + \lambda_t (w - z + u)\big),
              \quad g = \nabla L(w)

    Every ``dual_every`` steps ``z = Proj(w + u)``, which keeps the largest entries, and ``u = u + w - z``. Training
    ends with ``finish()``, which leaves exactly ``round((1 - sparsity) n)`` weights that are not zero;
    ``with optimizer.deployed():`` holds these weights for a look at them in between. Re-estimate batch statistics
    after ``finish()``, as the authors do.

    The projection goes over all weights together. Biases and other vectors are neither pruned nor held back; the
    released code for images overwrites them with zeros, and draws them to their last values, which is a fault and has
    no form. The penalty's gradient is taken at the unmoved weights; it goes through the base optimizer.

    Cost: two forward and backward passes, and a selection of the largest weights every ``dual_every`` steps. State:
    ``z`` and ``u``; a copy of the weights during the second pass. Use it for networks of 80 % zeros and more, above
    all with noisy labels.

    Args:
        model_or_params: The model, its parameters or parameter groups; a group may set its own ``rho``.
        base: Class of the optimizer that makes the step; the authors take SGD with momentum, and Adam for language.
        sparsity: Share of zeros at the end, in ``[0, 1)``. Default published for images.
        rho: Radius of the ball, at least 0; 0 leaves ADMM. Default published for images.
        penalty: Weight of the penalty, at least 0; 0 leaves SAM with a projection at the end. Default published.
        schedule: How the penalty rises: ``"cosine"`` (published for images), ``"constant"`` (for language),
            ``"linear"`` or ``"cubic"``.
        num_steps: Step at which it reaches its end, at least 1: the length of training.
        dual_every: Steps from one projection to the next, at least 1. Default published.
        prune_biases: Whether tensors of fewer than two dimensions are pruned, too.
        nonfinite: ``"raise"``, ``"skip"`` or ``"allow"``, see ``SharpnessAware``.
        **base_options: Arguments of the base optimizer.

    Example:
        >>> w = torch.tensor([[3.0, 1.0, -2.0, 0.5]], requires_grad=True)
        >>> optimizer = SAFE([w], torch.optim.SGD, sparsity=0.5, lr=0.1)
        >>> loss = optimizer.step(lambda: (w**2).sum())
        >>> optimizer.finish()
        >>> w.count_nonzero()
        tensor(2)

    Source:
        Lee et al., SAFE: Finding Sparse and Flat Minima to Improve Pruning, 2025, Algorithm 1.
    """

    rule = "safe"
    neutral: ClassVar[dict[str, float] | None] = {"rho": 0.0, "penalty": 0.0, "sparsity": 0.0}
    at_rest: ClassVar[dict[str, float]] = {"penalty": 0.0}
    passes = "2 GNN"

    def __init__(
        self,
        model_or_params: ModelOrParams,
        base: type[torch.optim.Optimizer] = torch.optim.Adam,
        *,
        sparsity: float = 0.95,
        rho: float = 0.1,
        penalty: float = 1e-3,
        schedule: Schedule = "cosine",
        num_steps: int = 1000,
        dual_every: int = 32,
        prune_biases: bool = False,
        nonfinite: Nonfinite = "raise",
        **base_options: Any,
    ) -> None:
        super().__init__(
            model_or_params,
            base,
            sparsity=sparsity,
            penalty=penalty,
            schedule=schedule,
            num_steps=num_steps,
            dual_every=dual_every,
            prune_biases=prune_biases,
            nonfinite=nonfinite,
            group_options={"rho": rho},
            **base_options,
        )

    def direction(self, gnn: Pass, peer: Pass) -> Grads:
        """Return the gradient at the top of the ascent, with that of the penalty."""
        g = gnn(clean=True)
        with self.displaced(g, sam_factor(g, self.options_of_params("rho"))):
            g_s = gnn()
        return self.drawn(g_s)
