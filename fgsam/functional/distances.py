"""Distances between rows, safe to differentiate where rows coincide."""

from __future__ import annotations

import torch
from torch import Tensor


def squared_euclidean(x: Tensor, y: Tensor) -> Tensor:
    """Squared Euclidean distance of every row of one set to every row of another.

    Differences are taken first: the expansion ``|x|^2 - 2xy + |y|^2`` cancels for close rows.

    Args:
        x: First rows, shape ``[..., num_x, dim]``.
        y: Second rows, shape ``[..., num_y, dim]``; leading dimensions broadcast.

    Returns:
        Distances, shape ``[..., num_x, num_y]``.

    Example:
        >>> squared_euclidean(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
        tensor([[25.,  1.]])
    """
    return (x.unsqueeze(-2) - y.unsqueeze(-3)).square().sum(-1)


def euclidean(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distance of every row of one set to every row of another.

    Where two rows coincide the distance has no gradient; zero is used, so that no NaN reaches the weights.

    Args:
        x: First rows, shape ``[..., num_x, dim]``.
        y: Second rows, shape ``[..., num_y, dim]``; leading dimensions broadcast.

    Returns:
        Distances, shape ``[..., num_x, num_y]``.

    Example:
        >>> euclidean(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[5., 0.]])
    """
    squared = squared_euclidean(x, y)
    apart = squared > 0
    # Replacing zeros before the root keeps 1 / sqrt(0) out of the backward pass; masking afterwards would not.
    return torch.where(apart, squared, 1.0).sqrt() * apart
