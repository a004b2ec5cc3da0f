"""Matching networks on graphs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fgsam.checks import check_positive
from fgsam.functional.distances import directions
from fgsam.functional.prototypes import class_members
from fgsam.methods.base import Method


class MatchingNet(Method):
    """Classifies a query node by the votes of the support nodes, weighted by a softmax of their cosines with it.

    With ``a_i = softmax_i(cos(query, support_i) / temperature)`` the probability of a class is the sum of ``a_i`` over
    its support nodes; logits are its logarithm, summed without leaving the logarithmic scale. A larger class has more
    votes, so that supports of unequal size are a prior. An embedding of zeros has cosine 0 with everything, and no
    gradient.

    The full-context embeddings of the paper are left out: they read the support set as a sequence, whose order would
    matter.

    Args:
        make_encoder: Makes the encoder, with fresh weights at each call.
        temperature: Divides the cosines, positive. The paper has none, which is 1: then one vote is at most ``e^2``
            times another, however alike two nodes are.

    Raises:
        ValueError: If ``temperature`` is not positive.

    Source:
        Vinyals et al., Matching Networks for One Shot Learning, 2016, Eq. 1 and section 2.1.1.
    """

    def __init__(self, make_encoder: Callable[[], nn.Module], *, temperature: float = 0.1) -> None:
        super().__init__(make_encoder)
        check_positive(temperature=temperature)
        self.temperature = temperature

    def logits(
        self, support: tuple[Tensor, ...], support_labels: Tensor, query: tuple[Tensor, ...], n_way: int
    ) -> Tensor:
        """Score by the logarithm of each class's share of the votes, shape ``[..., num_query, n_way]``."""
        cosines = directions(query[0]) @ directions(support[0]).mT
        votes = (cosines / self.temperature).log_softmax(-1).unsqueeze(-2)
        members = class_members(support_labels, n_way).unsqueeze(-3)
        return torch.where(members, votes, -torch.inf).logsumexp(-1)
