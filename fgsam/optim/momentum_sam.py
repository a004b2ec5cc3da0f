"""Sharpness-aware minimization along the momentum, with one pass a step."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from fgsam.functional.ascent import sam_factor
from fgsam.functional.trees import Grads
from fgsam.optim.base import Counts, ModelOrParams, Nonfinite, SharpnessAware
from fgsam.optim.passes import Pass


class MomentumSAM(SharpnessAware):
    r"""Minimise the loss a step ahead along the momentum, where sharp valleys show.

    .. math:: w \leftarrow \mathrm{Opt}\Big(w, \nabla L\big(w - \rho \, v / \lVert v \rVert\big)\Big)

    ``v`` is the momentum that the base optimizer holds before the step: ``momentum_buffer`` of SGD, ``exp_avg`` of Adam
    and its kin. In the first step it is zero, and the weights do not move. The norm is over all parameters together.

    The paper keeps the weights at the moved point between steps, ``w - rho v / ||v||``, so that evaluation and
    checkpoints have to move them back first. Here they are the unmoved ones between steps. The two sequences are the
    same but for weight decay, which the authors' code takes at the moved point and this class at ``w``.

    Cost: one forward and backward pass, at the moved weights; buffers such as batch statistics move there, and the
    loss returned is the one there. State: none beside the base optimizer's momentum; a copy of the weights during the
    pass. Use it where a second pass cannot be paid for.

    Args:
        model_or_params: The model, its parameters or parameter groups; a group may set its own ``rho``.
        base: Class of the optimizer that makes the step. It has to hold a momentum; where that is set to 0, as it is by
            default for ``SGD``, there is nothing to move along and the rule is the base optimizer.
        rho: Distance of the move, at least 0; 0 gives the base optimizer. The default 0.3 is the authors'.
        nonfinite: ``"raise"``, ``"skip"`` or ``"allow"``, see ``SharpnessAware``.
        **base_options: Arguments of the base optimizer.

    Raises:
        ValueError: If ``base`` knows no momentum.

    Example:
        >>> w = torch.tensor([1.0], requires_grad=True)
        >>> optimizer = MomentumSAM([w], torch.optim.SGD, rho=0.25, lr=0.25, momentum=0.5)
        >>> for _ in range(2):  # the second gradient is taken at 0.5 - 0.25, the momentum is 0.5 * 2 + 0.5
        ...     loss = optimizer.step(lambda: (w**2).sum())
        >>> w.detach()
        tensor([0.1250])

    Source:
        Becker et al., Momentum-SAM: Sharpness Aware Minimization without Computational Overhead, 2024.
    """

    rule = "momentum_sam"
    neutral: ClassVar[dict[str, float] | None] = {"rho": 0.0}
    passes = "1 GNN"
    buffers_move_at: ClassVar[Literal["weights", "moved weights"]] = "moved weights"

    def __init__(
        self,
        model_or_params: ModelOrParams,
        base: type[torch.optim.Optimizer] = torch.optim.Adam,
        *,
        rho: float = 0.3,
        nonfinite: Nonfinite = "raise",
        **base_options: Any,
    ) -> None:
        super().__init__(model_or_params, base, nonfinite=nonfinite, group_options={"rho": rho}, **base_options)
        if not self.defaults.keys() & {"momentum", "betas"}:
            raise ValueError(
                f"Expected 'base' to hold a momentum (got base={base.__name__}). Use torch.optim.SGD with "
                "momentum=0.9, Adam or AdamW."
            )

    def counts(self, num_queries: int) -> tuple[Counts, Counts]:
        """Count one pass."""
        return Counts(1, 1), Counts(1, 1)

    def direction(self, gnn: Pass, peer: Pass) -> Grads:
        """Return the gradient a step ahead along the momentum."""
        momentum: Grads = [self._momentum_of(p) for p in self._params()]
        with self.displaced(momentum, sam_factor(momentum, [-rho for rho in self.options_of_params("rho")])):
            return gnn(clean=True)

    def _momentum_of(self, p: Tensor) -> Tensor | None:
        held = self.state.get(p, {})
        found: Tensor | None = held.get("momentum_buffer", held.get("exp_avg"))
        return found
