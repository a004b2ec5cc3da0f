"""Almost no inner loop: only the head of an episode adapts."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fgsam.functional.inner import Order, descended_head
from fgsam.graph.field import Field
from fgsam.methods.adapting import InnerLoop


class ANIL(InnerLoop):
    """Learns embeddings in which a few gradient steps of a linear head lead to a good classifier.

    The encoder stays as it is in an episode. So nodes are embedded once, and the heads of all episodes take their
    steps together, with the gradient written out.

    Args:
        make_encoder: Makes the encoder, with fresh weights at each call.
        num_steps: Number of inner steps.
        inner_lr: Size of an inner step.
        order: ``"second"`` differentiates through the steps, as published; ``"first"`` takes them as constants, so
            that the encoder learns from the query nodes alone.
        num_outputs: Learn a start of the head for each of so many classes, as published; it then depends on how the
            classes of an episode are numbered. By default the head starts at zero.

    Raises:
        ValueError: If an option is out of range.

    Source:
        Raghu et al., Rapid Learning or Feature Reuse? Towards Understanding the Effectiveness of MAML, 2020, section
        4. Steps and step size as in MAML here.
    """

    def __init__(
        self,
        make_encoder: Callable[[], nn.Module],
        *,
        num_steps: int = 10,
        inner_lr: float = 0.5,
        order: Order = "second",
        num_outputs: int | None = None,
    ) -> None:
        super().__init__(make_encoder, num_steps=num_steps, inner_lr=inner_lr, order=order, num_outputs=num_outputs)

    def represent(self, field: Field) -> tuple[Tensor, ...]:
        """Embed the targets, with a one for the bias of the head: one tensor of shape ``[num_targets, dim + 1]``."""
        return (F.pad(self.encoder(field), (0, 1), value=1.0),)

    def logits(
        self, support: tuple[Tensor, ...], support_labels: Tensor, query: tuple[Tensor, ...], n_way: int
    ) -> Tensor:
        """Adapt the head to the support nodes, and score by it, shape ``[..., num_query, n_way]``."""
        weight, bias = self.head(n_way, support[0])
        head = descended_head(
            support[0],
            support_labels,
            torch.cat([weight, bias.unsqueeze(0)]),
            num_steps=self.num_steps,
            rate=self.inner_lr,
            order=self.order,
        )
        return query[0] @ head
