"""What learners share that train on the support nodes of an episode before they score its query nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, NoReturn, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fgsam.checks import check_choice, check_count, check_positive
from fgsam.episodes.episode import Episode
from fgsam.functional.inner import Order, Stateless, Weights, inner_step
from fgsam.functional.prototypes import class_members
from fgsam.graph.field import Field
from fgsam.graph.stacked import StackedFields, stackable
from fgsam.methods.base import Method, check_targets
from fgsam.nn.encoders import Encoder, is_built_in
from fgsam.nn.layers import Affine

ENCODER, WEIGHT, BIAS = "encoder", "head.weight", "head.bias"
"""Names of the weights that move: this prefix for those of the encoder, and the two of the head."""


class Head(nn.Module):
    """Where the linear classifier of an episode starts.

    By default at zero. A learned start that all classes share, which keeps logits free of the names of classes, is the
    same thing: softmax and its gradient do not see what is added to every class alike, so neither the steps nor the
    scores would differ, and the start would get no gradient. The classes part in the first step, by their support
    labels; the encoder begins to move in the second, because a head of equal columns sends no gradient back.

    Args:
        dim: Length of an embedding.
        num_outputs: Learn a start for each of so many classes instead, as published. Then classes are told apart by
            their numbers, and an episode must have as many.

    Raises:
        ValueError: If ``num_outputs`` is no whole number of at least 1.

    Source:
        The shared start: Ye and Chao, How to Train Your MAML to Excel in Few-Shot Classification, 2022. Zero: Kao et
        al., MAML is a Noisy Contrastive Learner in Classification, 2022.
    """

    def __init__(self, dim: int, num_outputs: int | None) -> None:
        super().__init__()
        if num_outputs is not None:
            check_count(num_outputs=num_outputs)
        self.dim = dim
        self.start = None if num_outputs is None else Affine(dim, num_outputs)

    def forward(self, n_way: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Give the first weight, shape ``[dim, n_way]``, and bias, shape ``[n_way]``, of the type of ``like``.

        Raises:
            ValueError: If another number of classes is learned.
        """
        if self.start is None:
            return like.new_zeros(self.dim, n_way), like.new_zeros(n_way)
        num_outputs = len(self.start.bias)
        if n_way != num_outputs:
            raise ValueError(
                f"Expected episodes of num_outputs={num_outputs} classes (got n_way={n_way}). "
                "Set num_outputs to n_way, or leave it out for a start that suits any number of classes."
            )
        return self.start.weight, self.start.bias


class InnerLoop(Method):
    """What learners share that take gradient steps within an episode; options are those of :class:`Adapting`."""

    def __init__(
        self,
        make_encoder: Callable[[], nn.Module],
        *,
        num_steps: int = 10,
        inner_lr: float = 0.5,
        order: Order = "first",
        num_outputs: int | None = None,
    ) -> None:
        super().__init__(make_encoder)
        check_count(num_steps=num_steps)
        check_positive(inner_lr=inner_lr)
        check_choice(get_args(Order), order=order)
        self.num_steps = num_steps
        self.inner_lr = inner_lr
        self.order = order
        self.head = Head(cast(Encoder, self.encoder).dim, num_outputs)


class Adapting(InnerLoop):
    """Takes gradient steps on the support nodes of an episode, then scores its query nodes with the weights found.

    The field of the support nodes is cut once and read in every step. Weights are held beside the modules, so any
    encoder will do, a user's too. Dropout is on in every step and on the query nodes, or off in all of them. In a peer
    pass the steps are taken on the field of zero hops as well.

    Args:
        make_encoder: Makes the encoder, with fresh weights at each call.
        num_steps: Number of inner steps.
        inner_lr: Size of an inner step.
        order: ``"first"`` takes the inner gradients as constants, ``"second"`` differentiates through them.
        num_outputs: Learn a start of the head for each of so many classes; by default it starts at zero.

    Raises:
        ValueError: If an option is out of range.
    """

    adapts: ClassVar[bool] = True

    def logits(
        self, support: tuple[Tensor, ...], support_labels: Tensor, query: tuple[Tensor, ...], n_way: int
    ) -> NoReturn:
        """Refuse: what is known of single nodes does not tell how the encoder adapts to an episode.

        Raises:
            TypeError: Always.
        """
        raise TypeError(
            f"Expected the field of an episode, to which {type(self).__name__} adapts its encoder "
            "(got representations of nodes). Call score(field, episode)."
        )

    def score(self, field: Field, episode: Episode) -> Tensor:
        """Adapt to the support nodes of an episode and score its query nodes, shape ``[num_query, n_way]``."""
        check_targets(field, episode)
        support = field.head(episode.num_support).reread()
        return self._scored(field, support, episode.support_labels, episode.n_way)[episode.num_support :]

    def score_all(self, fields: Sequence[Field], episodes: Sequence[Episode]) -> list[Tensor]:
        """Score several episodes, without gradients side by side where that is faster.

        It is for encoders that take several sets of weights (``encoder.stacks``) and dense features. Of sparse ones,
        the weights of all episodes together would leave the processor's cache, and one after the other is as fast.

        Args:
            fields: One for each episode; see :meth:`score`.
            episodes: Episodes of equally many classes.

        Returns:
            Logits of each episode, shape ``[num_query, n_way]``.
        """
        sizes = {episode.num_support for episode in episodes}
        can_stack = is_built_in(self.encoder) and self.encoder.stacks and stackable(fields)
        if torch.is_grad_enabled() or len(sizes) != 1 or not can_stack:
            return [Adapting.score(self, field, episode) for field, episode in zip(fields, episodes, strict=True)]
        for field, episode in zip(fields, episodes, strict=True):
            check_targets(field, episode)
        size = sizes.pop()
        labels = torch.stack([episode.support_labels for episode in episodes])
        support = StackedFields([field.head(size) for field in fields])
        scores = self._scored(StackedFields(fields), support, labels, episodes[0].n_way)
        return [rows[size : field.num_targets] for rows, field in zip(scores, fields, strict=True)]

    def start(
        self, encoder: Weights, support: Field | StackedFields, labels: Tensor, n_way: int
    ) -> tuple[Weights, Weights]:
        """Give the weights that the steps move and those that they leave: all of them, and none.

        Args:
            encoder: Weights of the encoder, those of several episodes stacked.
            support: The field of the support nodes, or those of several episodes.
            labels: Episode labels in ``0..n_way-1``, shape ``[num_support]`` or ``[num_episodes, num_support]``.
            n_way: Number of classes in an episode.
        """
        weight, bias = (_repeated(start, labels.shape[:-1]) for start in self.head(n_way, next(self.parameters())))
        return encoder | {WEIGHT: _derivable(weight), BIAS: _derivable(bias)}, {}

    def rates(self) -> float | Mapping[str, Tensor]:
        """Size of an inner step, of all weights or of each."""
        return self.inner_lr

    def _scored(
        self, field: Field | StackedFields, support: Field | StackedFields, labels: Tensor, n_way: int
    ) -> Tensor:
        """Scores of all targets after the steps, shape ``[..., num_targets, n_way]``."""
        class_members(labels, n_way)
        order = self.order if torch.is_grad_enabled() else "first"
        encoder = Stateless(self.encoder, ENCODER)

        def outputs(weights: Weights, field: Field | StackedFields) -> Tensor:
            scores: Tensor = encoder(weights, field) @ weights[WEIGHT] + weights[BIAS]
            return scores

        with torch.enable_grad():
            own = {name: _repeated(weight, labels.shape[:-1]) for name, weight in encoder.weights.items()}
            moving, fixed = self.start(own, support, labels, n_way)
            for _ in range(self.num_steps):
                scores = outputs(moving | fixed, support)
                total = F.cross_entropy(scores.flatten(0, -2), labels.flatten(), reduction="sum")
                moving = inner_step(total / labels.shape[-1], moving, self.rates(), order=order)
        return outputs(moving | fixed, field)


def _repeated(weight: Tensor, shape: torch.Size) -> Tensor:
    """One copy for each episode, with a dimension that runs over nodes where the weight is a vector."""
    return weight.expand(*shape, *(1,) * (2 - weight.dim()), *weight.shape) if shape else weight


def _derivable(tensor: Tensor) -> Tensor:
    return tensor if tensor.requires_grad else tensor.requires_grad_()
