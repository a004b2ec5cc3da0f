"""The plain optimizers in the contract of the sharpness-aware ones."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from fgsam.functional.trees import Grads
from fgsam.optim.base import Counts, ModelOrParams, Nonfinite, SharpnessAware
from fgsam.optim.passes import Pass


class Plain(SharpnessAware):
    """One clean pass, handed to PyTorch's own optimizer.

    Minimises the loss itself. Costs one forward and one backward pass and holds no state beside the base optimizer's.
    """

    base_class: ClassVar[type[torch.optim.Optimizer]]
    neutral: ClassVar[dict[str, float] | None] = {}
    passes = "1 GNN"

    def __init__(self, model_or_params: ModelOrParams, *, nonfinite: Nonfinite = "raise", **base_options: Any) -> None:
        if "base" in base_options:
            raise TypeError(
                f"Expected no 'base' for rule '{self.rule}', which is {self.base_class.__name__} itself "
                f"(got base={base_options['base']!r}). Leave it out."
            )
        super().__init__(model_or_params, self.base_class, nonfinite=nonfinite, **base_options)

    def counts(self, num_queries: int) -> tuple[Counts, Counts]:
        """Count one pass."""
        return Counts(1, 1), Counts(1, 1)

    def direction(self, gnn: Pass, peer: Pass) -> Grads:
        """Return the gradient at the present weights."""
        return gnn(clean=True)


class Adam(Plain):
    """PyTorch's ``Adam`` with ``step(closure)``: the yardstick for every other rule.

    Args:
        model_or_params: The model, its parameters or parameter groups.
        nonfinite: ``"raise"``, ``"skip"`` or ``"allow"``, see ``SharpnessAware``.
        **base_options: Arguments of ``torch.optim.Adam``; ``lr`` is 0.001 by default.

    Example:
        >>> w = torch.tensor([1.0], requires_grad=True)
        >>> Adam([w], lr=0.1).step(lambda: (w**2).sum())
        tensor(1.)
        >>> w.detach()
        tensor([0.9000])

    Source:
        Kingma and Ba, Adam: A Method for Stochastic Optimization, 2015, Algorithm 1.
    """

    rule = "adam"
    base_class = torch.optim.Adam


class AdamW(Plain):
    """PyTorch's ``AdamW`` with ``step(closure)``: Adam with weight decay apart from the gradient.

    Args:
        model_or_params: The model, its parameters or parameter groups.
        nonfinite: ``"raise"``, ``"skip"`` or ``"allow"``, see ``SharpnessAware``.
        **base_options: Arguments of ``torch.optim.AdamW``; ``lr`` is 0.001 and ``weight_decay`` 0.01 by default.

    Source:
        Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019, Algorithm 2.
    """

    rule = "adamw"
    base_class = torch.optim.AdamW


class SGD(Plain):
    """PyTorch's ``SGD`` with ``step(closure)``: gradient descent, with momentum if asked for.

    Args:
        model_or_params: The model, its parameters or parameter groups.
        nonfinite: ``"raise"``, ``"skip"`` or ``"allow"``, see ``SharpnessAware``.
        **base_options: Arguments of ``torch.optim.SGD``; ``lr`` is 0.001 and ``momentum`` 0 by default.

    Source:
        Robbins and Monro, A Stochastic Approximation Method, 1951.
    """

    rule = "sgd"
    base_class = torch.optim.SGD
