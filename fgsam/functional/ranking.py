"""How well a score ranks one class above another."""

from __future__ import annotations

import torch
from torch import Tensor


def roc_auc(scores: Tensor, is_positive: Tensor) -> float:
    """Share of pairs of a positive and a negative one in which the positive one scores higher; equal ones count half.

    Args:
        scores: Any numbers, shape ``[num_nodes]``.
        is_positive: Which are positive, booleans, shape ``[num_nodes]``.

    Returns:
        The area under the ROC curve, between 0 and 1.

    Raises:
        ValueError: If one of the two classes is missing.

    Example:
        >>> import torch
        >>> roc_auc(torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([False, False, True, True]))
        0.75

    Source:
        Hanley and McNeil, The Meaning and Use of the Area under a Receiver Operating Characteristic (ROC) Curve, 1982.
    """
    num_positive = int(is_positive.sum())
    num_negative = len(is_positive) - num_positive
    if not (num_positive and num_negative):
        raise ValueError(f"Expected nodes of both classes (got {num_positive} positive and {num_negative} negative)")
    _, places, counts = torch.unique(scores.double(), return_inverse=True, return_counts=True)
    ranks = counts.cumsum(0).double() - (counts.double() - 1) / 2  # of equal scores, the mean of theirs
    smallest = num_positive * (num_positive + 1) / 2
    return float((ranks[places][is_positive].sum() - smallest) / (num_positive * num_negative))
