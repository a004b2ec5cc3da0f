"""Distances between rows, and their directions, safe to differentiate where rows coincide or vanish."""

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
    apart = squared != 0  # NaN is apart, and stays NaN
    # Replacing zeros before the root keeps 1 / sqrt(0) out of the backward pass; masking afterwards would not.
    return torch.where(apart, squared, 1.0).sqrt() * apart


def directions(x: Tensor) -> Tensor:
    """Scale every row to length 1, so that inner products are cosines.

    A row of zeros has no direction: it stays zero, with gradient zero, so that no NaN reaches the weights. Close to
    zero the gradient grows with the inverse of the length, as that of the direction does.

    Args:
        x: Rows, shape ``[..., num_x, dim]``.

    Returns:
        Rows of length 1 or 0, of the same shape.

    Example:
        >>> directions(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    squared = x.square().sum(-1, keepdim=True)
    has_length = squared > 0
    return x * (torch.where(has_length, squared, 1.0).rsqrt() * has_length)
