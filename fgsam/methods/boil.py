"""Body only inner loop: only the encoder adapts."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from fgsam.functional.inner import Order, Weights
from fgsam.functional.prototypes import class_prototypes
from fgsam.graph.field import Field
from fgsam.graph.stacked import StackedFields
from fgsam.methods.adapting import BIAS, WEIGHT, Adapting


class BOIL(Adapting):
    """Learns weights from which the encoder moves the nodes of an episode towards fixed classes.

    The head stays as it is in an episode. As published (``num_outputs``) it is learned, one start for each class,
    and depends on how classes are numbered. A start that all classes share, the cure for that in MAML, sends no
    gradient to the encoder here. By default the head is therefore made from the support nodes before the first step:
    scores are negative squared distances to the class means of their embeddings, up to a constant for each node. The
    means stay where they are while the encoder moves, and are learned with it between episodes.

    Args:
        make_encoder: Makes the encoder, with fresh weights at each call.
        num_steps: Number of inner steps.
        inner_lr: Size of an inner step.
        order: ``"first"`` takes the inner gradients as constants, ``"second"`` differentiates through them.
        num_outputs: Learn a head for so many classes, as published; by default it is made from class means.

    Source:
        Oh et al., BOIL: Towards Representation Change for Few-shot Learning, 2021, Eq. 2, for ``num_outputs``. The
        class means are this package's reading.
    """

    def __init__(
        self,
        make_encoder: Callable[[], nn.Module],
        *,
        num_steps: int = 10,
        inner_lr: float = 0.1,
        order: Order = "first",
        num_outputs: int | None = None,
    ) -> None:
        super().__init__(make_encoder, num_steps=num_steps, inner_lr=inner_lr, order=order, num_outputs=num_outputs)

    def start(
        self, encoder: Weights, support: Field | StackedFields, labels: Tensor, n_way: int
    ) -> tuple[Weights, Weights]:
        """Give the weights of the encoder, which the steps move, and the head, which they leave."""
        # Steps differentiate by these views, so that they do not see the encoder's part in the means.
        moving = {name: weight.view_as(weight) for name, weight in encoder.items()}
        if self.head.start is not None:
            weight, bias = self.head(n_way, next(self.parameters()))
        else:
            means = class_prototypes(self.encoder(support), labels, n_way)
            weight, bias = 2 * means.mT, -means.square().sum(-1).unsqueeze(-2)
        return moving, {WEIGHT: weight, BIAS: bias}
