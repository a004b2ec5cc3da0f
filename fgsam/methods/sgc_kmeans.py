"""A floor that lets the query nodes of an episode tell about each other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import ClassVar

from torch import Tensor

from fgsam.checks import check_non_negative, check_positive
from fgsam.functional.distances import squared_euclidean
from fgsam.functional.prototypes import class_members, class_prototypes
from fgsam.methods.floors import FeatureFloor, Setting, checked_values, smoothing_settings
from fgsam.methods.smoothing import Smoothing
from fgsam.typing import EdgeKind

BALANCE_STEPS = 3
"""Corrections of the sizes of classes."""

SMOOTHED_BY = 0.5
"""Query nodes added to every class before sizes are compared, so that an empty one has a size."""


class SGCKMeans(FeatureFloor):
    """Soft k-means over the query nodes of an episode, on smoothed features, starting at the class means.

    In each step a query node is shared among the classes by ``softmax(-distance^2 / temperature)``, and a class mean is
    taken of its support nodes and these shares. All queries of an episode are seen together, so that this is
    transductive inference.

    With a balance ``b`` the classes are brought to about the same size: three times, the score of a class is lowered by
    ``b * log((m + 0.5) / (n + 0.5))``, where ``m`` is the sum of its shares, and ``n`` the mean of these sums. This
    assumes what uneven numbers of queries break; with 0 it is plain k-means.

    Args:
        hops: Numbers of smoothing steps to choose from, at least 1.
        edges: Normalisations to choose from, ``"row"`` and ``"sym"``.
        temperatures: Softness of the shares to choose from, positive; features have length one.
        steps: Numbers of steps to choose from, at least 1.
        balances: Strengths of the pull towards equal sizes to choose from, at least 0.
        dim: Number of directions kept of more than 256 features.
        smoothing: Ways of smoothing to choose from: ``"hops"``, ``"pagerank"`` and ``"scales"``.
        num_trials: Settings that are tried, drawn from the candidates; null for all of them.

    Source:
        Ren et al., Meta-Learning for Semi-Supervised Few-Shot Classification, 2018, Eq. 3 and 4, with the queries in
        place of unlabelled nodes.
    """

    uses_queries: ClassVar[bool] = True

    def __init__(
        self,
        *,
        hops: Sequence[int] = (2, 4, 8),
        edges: Sequence[EdgeKind] = ("row", "sym"),
        temperatures: Sequence[float] = (0.1, 0.2, 0.4),
        steps: Sequence[int] = (3, 10),
        balances: Sequence[float] = (0.0, 0.5, 1.5),
        dim: int = 128,
        smoothing: Sequence[Smoothing] = ("hops", "pagerank", "scales"),
        num_trials: int | None = 32,
    ) -> None:
        super().__init__(dim=dim, num_trials=num_trials)
        self.smoothings = smoothing_settings(smoothing, hops, edges)
        self.temperatures, self.steps = checked_values(temperatures=temperatures), checked_values(steps=steps)
        check_positive(number_of_balances=len(balances))
        for balance in balances:
            check_non_negative(balances=balance)
        self.balances = tuple(balances)

    def candidates(self) -> list[Setting]:
        """Every combination of smoothing, hops, normalisation, temperature, number of steps and balance."""
        every = product(self.smoothings, self.temperatures, self.steps, self.balances)
        return [
            {**setting, "temperature": warmth, "num_steps": count, "balance": balance}
            for setting, warmth, count, balance in every
        ]

    def _logits(
        self, setting: Setting, support: Tensor, support_labels: Tensor, query: Tensor, n_way: int, is_query: Tensor
    ) -> Tensor:
        rows, asked = self._known[support], self._known[query]
        members = class_members(support_labels, n_way).to(rows.dtype)
        sums, sizes = members @ rows, members.sum(-1, keepdim=True)
        means = class_prototypes(rows, support_labels, n_way)
        counts = is_query.unsqueeze(-1).to(rows.dtype)

        def scores() -> Tensor:
            return balanced(-squared_euclidean(asked, means) / setting["temperature"], counts, setting["balance"])

        for _ in range(setting["num_steps"]):
            shares = (scores().softmax(-1) * counts).mT
            means = (sums + shares @ asked) / (sizes + shares.sum(-1, keepdim=True))
        return scores()


def balanced(scores: Tensor, counts: Tensor, balance: float | Tensor) -> Tensor:
    """Lower the scores of classes that have more than their part of the query nodes, three times.

    Args:
        scores: Shares of a query node are their softmax, shape ``[..., num_query, n_way]``.
        counts: 1, or 0 where a query node is only repeated, shape ``[..., num_query, 1]``.
        balance: How much, times the logarithm of a size over the mean size; 0 changes nothing.

    Returns:
        The new scores, of the same shape.
    """
    mean_size = counts.sum(-2, keepdim=True) / scores.size(-1)
    for _ in range(BALANCE_STEPS):
        sizes = (scores.softmax(-1) * counts).sum(-2, keepdim=True)
        scores = scores - balance * ((sizes + SMOOTHED_BY) / (mean_size + SMOOTHED_BY)).log()
    return scores
