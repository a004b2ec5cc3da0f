"""Logistic regression on the embeddings of an episode's support nodes."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from fgsam.functional.logistic import logistic_regression

Scaling = Literal["none", "unit", "min_max"]


def probe_logits(
    support: Tensor, support_labels: Tensor, query: Tensor, n_way: int, *, scaling: Scaling, cost: float
) -> Tensor:
    """Fit a logistic regression to the support nodes of every episode, and score the query nodes with it.

    Args:
        support: Support embeddings, shape ``[..., num_support, dim]``.
        support_labels: Episode labels in ``0..n_way-1``, shape ``[num_support]`` or ``[..., num_support]``.
        query: Query embeddings, shape ``[..., num_query, dim]``.
        n_way: Number of classes in the episode.
        scaling: What is done to embeddings before, see :func:`scaled`.
        cost: Weight of the loss against the penalty, positive: scikit-learn's ``C``.

    Returns:
        Logits, shape ``[..., num_query, n_way]``.

    Raises:
        ValueError: If ``cost`` is not positive, a label is out of range or a class has no support node.
    """
    weight, bias = logistic_regression(scaled(support, support, scaling), support_labels, n_way, cost=cost)
    logits = scaled(query, support, scaling).double() @ weight + bias.unsqueeze(-2)
    return logits.to(query.dtype)


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
