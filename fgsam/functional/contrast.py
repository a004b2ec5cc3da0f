"""Losses of self-supervised learning: two views of a node are one thing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(first: Tensor, second: Tensor, *, temperature: float) -> Tensor:
    """Tell each node's other view from the views of all other nodes.

    With cosines ``s``, divided by the temperature, the loss of node ``i`` in the first view is ``-log`` of
    ``exp(s(u_i, v_i))`` over its sum with ``exp(s(u_i, v_k))`` and ``exp(s(u_i, u_k))`` for all other nodes ``k``; that
    of the second view is the same with the views exchanged, and the loss is the mean of both.

    Args:
        first: Rows of one view, shape ``[num_nodes, dim]``.
        second: Rows of the other view of the same nodes, shape ``[num_nodes, dim]``.
        temperature: Divides the cosines, positive.

    Returns:
        One loss for each node, shape ``[num_nodes]``; zero for a node alone.

    Example:
        >>> info_nce(torch.eye(2), torch.eye(2), temperature=1.0)  # log(1 + 2 / e)
        tensor([0.5514, 0.5514])

    Source:
        Zhu et al., Deep Graph Contrastive Representation Learning, 2020, Eq. 1 and 2 (GRACE).
    """
    u, v = F.normalize(first, dim=-1), F.normalize(second, dim=-1)
    across = u @ v.mT / temperature
    return (_told_apart(across, u, temperature) + _told_apart(across.mT, v, temperature)) / 2


def bootstrap_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Distance of unit vectors: two minus twice the cosine of what is predicted and what is there.

    Args:
        predicted: Shape ``[num_nodes, dim]``.
        target: Shape ``[num_nodes, dim]``; gradients do not reach it.

    Returns:
        One loss for each node, between 0 and 4, shape ``[num_nodes]``.

    Example:
        >>> bootstrap_loss(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[3.0, 0.0], [1.0, 0.0]]))
        tensor([0., 2.])

    Source:
        Thakoor et al., Large-Scale Representation Learning on Graphs via Bootstrapping, 2022, Eq. 1 (BGRL), as in
        Grill et al., Bootstrap Your Own Latent, 2020, Eq. 2.
    """
    return 2 - 2 * F.cosine_similarity(predicted, target.detach(), dim=-1)


def _told_apart(across: Tensor, rows: Tensor, temperature: float) -> Tensor:
    itself = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    within = (rows @ rows.mT / temperature).masked_fill(itself, -torch.inf)
    return F.cross_entropy(
        torch.cat([across, within], 1), torch.arange(len(rows), device=rows.device), reduction="none"
    )
