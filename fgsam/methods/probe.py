"""Logistic regression on the embeddings of an episode's support nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from fgsam.checks import check_choice, check_positive
from fgsam.functional.logistic import logistic_logits
from fgsam.methods.base import PretrainedMethod

Scaling = Literal["none", "unit", "min_max"]


class Probe(PretrainedMethod):
    """A pre-trained learner that keeps its encoder, and fits a logistic regression to the support nodes.

    Args:
        make_encoder: Makes the encoder, with fresh weights at each call.
        batch_size: Nodes in a step; None for all of them.
        max_epochs: Most times that every node is learned from.
        scaling: What is done to embeddings before the regression, see :func:`scaled`.
        cost: Weight of the loss against the penalty in the regression: scikit-learn's C.

    Raises:
        ValueError: If ``batch_size``, ``max_epochs`` or ``cost`` is not positive, or ``scaling`` is unknown.
    """

    def __init__(
        self,
        make_encoder: Callable[[], nn.Module],
        *,
        batch_size: int | None,
        max_epochs: int,
        scaling: Scaling,
        cost: float,
    ) -> None:
        super().__init__(make_encoder, batch_size=batch_size, max_epochs=max_epochs)
        check_choice(get_args(Scaling), scaling=scaling)
        check_positive(cost=cost)
        self.scaling = scaling
        self.cost = cost

    def logits(
        self, support: tuple[Tensor, ...], support_labels: Tensor, query: tuple[Tensor, ...], n_way: int
    ) -> Tensor:
        """Score by a logistic regression on the support embeddings, shape ``[..., num_query, n_way]``."""
        known, asked = (scaled(rows, support[0], self.scaling) for rows in (support[0], query[0]))
        return logistic_logits(known, support_labels, asked, n_way, cost=self.cost).to(query[0].dtype)


def scaled(rows: Tensor, support: Tensor, scaling: Scaling) -> Tensor:
    """Bring embeddings to a common scale that the support nodes alone decide.

    Args:
        rows: Embeddings of support or query nodes, shape ``[..., num_rows, dim]``.
        support: Embeddings of the support nodes, shape ``[..., num_support, dim]``.
        scaling: ``"none"``; ``"unit"`` brings each row to length one; ``"min_max"`` maps each column so that the
            support nodes fill the interval from 0 to 1, and a column in which they are equal to 0 there.

    Example:
        >>> import torch
        >>> scaled(torch.tensor([[4.0, 9.0]]), torch.tensor([[0.0, 7.0], [2.0, 7.0]]), "min_max")
        tensor([[2., 2.]])
    """
    if scaling == "none":
        return rows
    if scaling == "unit":
        return F.normalize(rows, dim=-1)
    low, high = support.aminmax(dim=-2, keepdim=True)
    width = high - low
    return (rows - low) / width.where(width > 0, width.new_ones(()))
