"""MAML with learned step sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from fgsam.functional.inner import Order, Stateless
from fgsam.methods.adapting import BIAS, ENCODER, WEIGHT, Adapting


class MetaSGD(Adapting):
    """Learns weights together with a step size of every single one, which may become negative.

    Rows of the head share their step sizes among classes while it starts at zero, so that classes keep no names.

    Args:
        make_encoder: Makes the encoder, with fresh weights at each call.
        num_steps: Number of inner steps; published with one, which leaves the encoder still unless ``num_outputs`` is
            set.
        inner_lr: Size of every inner step before training.
        order: ``"first"`` takes the inner gradients as constants, ``"second"`` differentiates through them, as
            published.
        num_outputs: Learn a start of the head for each of so many classes, as published; by default it starts at zero.

    Source:
        Li et al., Meta-SGD: Learning to Learn Quickly for Few-Shot Learning, 2017, Eq. 3 and Algorithm 1, where step
        sizes begin at random values from 0.005 to 0.1. Number of steps as in MAML here.
    """

    def __init__(
        self,
        make_encoder: Callable[[], nn.Module],
        *,
        num_steps: int = 10,
        inner_lr: float = 0.5,
        order: Order = "first",
        num_outputs: int | None = None,
    ) -> None:
        super().__init__(make_encoder, num_steps=num_steps, inner_lr=inner_lr, order=order, num_outputs=num_outputs)
        weight, bias = self.head(num_outputs or 1, torch.empty(0))
        moving = Stateless(self.encoder, ENCODER).weights | {WEIGHT: weight, BIAS: bias}
        self._names = list(moving)
        self.step_sizes = nn.ParameterList(torch.full_like(value.detach(), inner_lr) for value in moving.values())

    def rates(self) -> Mapping[str, Tensor]:
        """Size of an inner step, of each entry of each weight."""
        return dict(zip(self._names, self.step_sizes, strict=True))
