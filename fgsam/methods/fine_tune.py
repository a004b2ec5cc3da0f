"""An encoder taught the base classes, and a new classifier whose training goes on into the encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fgsam.checks import check_count, check_positive
from fgsam.episodes.episode import Episode
from fgsam.functional.inner import Stateless, inner_step
from fgsam.functional.logistic import logistic_regression
from fgsam.graph.field import Field
from fgsam.methods.base import check_targets
from fgsam.methods.linear_probe import LinearProbe
from fgsam.methods.probe import Scaling, scaled

WEIGHT, BIAS = "classifier.weight", "classifier.bias"


class FineTune(LinearProbe):
    """The linear probe, followed by gradient steps on the support nodes that move the encoder too.

    Pre-training is that of the linear probe. An episode begins with its logistic regression; from there encoder and
    classifier take plain gradient steps on the cross-entropy of the support nodes, each episode from the same weights.
    Steps from a classifier at random or at zero would first distort the embeddings, and at random would tell classes
    apart by their names. ``represent`` and ``logits`` give the start, the probe without any step.

    Args:
        make_encoder: Makes the encoder, with fresh weights at each call.
        classes: Ids of the classes that are taught, at least one; only their number counts.
        num_steps: Number of gradient steps in an episode.
        inner_lr: Size of such a step; the default suits rows of length one, other scalings want less.
        batch_size: Nodes in a step of pre-training; None for all of them.
        max_epochs: Most times that every node is learned from.
        scaling: What is done to embeddings before the classifier: none, unit (rows to length one) or min_max (columns
            to the range that they have in the support nodes before the first step).
        cost: Weight of the loss against the penalty in the regression: scikit-learn's C.

    Raises:
        ValueError: If an option is out of range.

    Source:
        Kumar et al., Fine-Tuning Can Distort Pretrained Features and Underperform Out-of-Distribution, 2022: a probe
        first, then fine-tuning.
    """

    adapts: ClassVar[bool] = True

    def __init__(
        self,
        make_encoder: Callable[[], nn.Module],
        classes: Sequence[int],
        *,
        num_steps: int = 20,
        inner_lr: float = 1.0,
        batch_size: int | None = 128,
        max_epochs: int = 200,
        scaling: Scaling = "unit",
        cost: float = 10.0,
    ) -> None:
        super().__init__(
            make_encoder, classes, batch_size=batch_size, max_epochs=max_epochs, scaling=scaling, cost=cost
        )
        check_count(num_steps=num_steps)
        check_positive(inner_lr=inner_lr)
        self.num_steps = num_steps
        self.inner_lr = inner_lr

    def score(self, field: Field, episode: Episode) -> Tensor:
        """Tune copies of the weights on the support nodes, and score the query nodes, shape ``[num_query, n_way]``."""
        check_targets(field, episode)
        support, labels = field.head(episode.num_support).reread(), episode.support_labels
        with torch.no_grad():
            start = self.encoder(support)
        head = logistic_regression(scaled(start, start, self.scaling), labels, episode.n_way, cost=self.cost)
        encoder = Stateless(self.encoder, "encoder")
        weights = encoder.weights | {
            name: part.to(start).requires_grad_() for name, part in zip((WEIGHT, BIAS), head, strict=True)
        }

        def outputs(field: Field) -> Tensor:
            rows = scaled(encoder(weights, field), start, self.scaling)
            return torch.addmm(weights[BIAS], rows, weights[WEIGHT])

        with torch.enable_grad():
            for _ in range(self.num_steps):
                loss = F.cross_entropy(outputs(support), labels)
                weights = inner_step(loss, weights, self.inner_lr, order="first")
        return outputs(field)[episode.num_support :]
