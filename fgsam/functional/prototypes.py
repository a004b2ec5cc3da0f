"""One embedding for each class of an episode, from supports of any size."""

from __future__ import annotations

import torch
from torch import Tensor


def class_prototypes(embeddings: Tensor, labels: Tensor, n_way: int) -> Tensor:
    """Average the support embeddings of each class.

    Args:
        embeddings: Support embeddings, shape ``[..., num_support, dim]``.
        labels: Episode labels in ``0..n_way-1``, shape ``[num_support]`` or ``[..., num_support]``; classes may differ
            in size.
        n_way: Number of classes in the episode, at least 1.

    Returns:
        One prototype for each class, shape ``[..., n_way, dim]``.

    Raises:
        ValueError: If a label lies outside ``0..n_way-1`` or some class has no support node.

    Example:
        >>> x = torch.tensor([[1.0, 1.0], [3.0, 1.0], [0.0, 2.0]])
        >>> class_prototypes(x, torch.tensor([0, 0, 1]), n_way=2)
        tensor([[2., 1.],
                [0., 2.]])

    Source:
        Snell et al., Prototypical Networks for Few-shot Learning, 2017, Eq. 1.
    """
    members = class_members(labels, n_way).to(embeddings.dtype)
    return members @ embeddings / members.sum(-1, keepdim=True)


def class_softmax(scores: Tensor, labels: Tensor, n_way: int) -> Tensor:
    """Share of each support node in its class: a softmax that runs over the nodes of one class.

    Args:
        scores: One finite score for each support node, shape ``[..., num_support]``.
        labels: Episode labels in ``0..n_way-1``, shape ``[num_support]`` or ``[..., num_support]``.
        n_way: Number of classes in the episode, at least 1.

    Returns:
        Shares, shape ``[..., n_way, num_support]``: rows sum to one, and are zero at nodes of other classes.

    Raises:
        ValueError: If a label lies outside ``0..n_way-1`` or some class has no support node.

    Example:
        >>> class_softmax(torch.tensor([0.0, 0.0, 5.0]), torch.tensor([0, 0, 1]), n_way=2)
        tensor([[0.5000, 0.5000, 0.0000],
                [0.0000, 0.0000, 1.0000]])
    """
    members = class_members(labels, n_way)
    return scores.unsqueeze(-2).masked_fill(~members, -torch.inf).softmax(-1)


def class_members(labels: Tensor, n_way: int) -> Tensor:
    """Mark the support nodes of each class.

    Args:
        labels: Episode labels in ``0..n_way-1``, shape ``[..., num_support]``.
        n_way: Number of classes in the episode, at least 1.

    Returns:
        Booleans, shape ``[..., n_way, num_support]``.

    Raises:
        ValueError: If a label lies outside ``0..n_way-1`` or some class has no support node.
    """
    members = labels.unsqueeze(-2) == torch.arange(n_way, device=labels.device).unsqueeze(-1)
    if not members.any(-2).all():
        raise ValueError(
            f"Expected 'labels' to lie in 0..{n_way - 1} (got {labels.min().item()}..{labels.max().item()}). "
            "Number the classes of the episode from 0, or raise n_way."
        )
    if not members.any(-1).all():
        counts = members.sum(-1).reshape(-1, n_way)
        empty = counts[(counts == 0).any(-1)][0].tolist()
        raise ValueError(f"Expected a support node for every class (got counts {empty})")
    return members
