"""A floor that looks at edges alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from fgsam.functional.prototypes import class_members
from fgsam.graph.graph import Graph
from fgsam.methods.floors import Floor, Setting, checked_edges, checked_values
from fgsam.methods.smoothing import PageRank
from fgsam.typing import EdgeKind

_COLUMNS = 32
"""Classes propagated side by side: more of them no longer fit the cache, and take longer each."""


class LabelPropagation(Floor):
    """Personalised PageRank of the support nodes, added up in each class; features are not read.

    A query node gets the class whose support nodes a random walk from it ends at most. One that no support node
    reaches gets the class that reaches most of the graph.

    Args:
        hops: Mean lengths of the walks to choose from, at least 1.
        edges: Normalisations to choose from, ``"row"`` and ``"sym"``.
        num_trials: Settings that are tried, drawn from the candidates; all of them when not given.

    Source:
        Zhou et al., Learning with Local and Global Consistency, 2004; the iteration of Gasteiger et al., Predict then
        Propagate, 2019, Eq. 5.
    """

    def __init__(
        self,
        *,
        hops: Sequence[int] = (1, 2, 4, 8),
        edges: Sequence[EdgeKind] = ("row", "sym"),
        num_trials: int | None = None,
    ) -> None:
        super().__init__(num_trials=num_trials)
        self.hops, self.edges = checked_values(hops=hops), checked_edges(edges)

    def candidates(self) -> list[Setting]:
        """Every combination of length and normalisation."""
        return [{"edges": kind, "num_hops": num_hops} for num_hops, kind in product(self.hops, self.edges)]

    def _prepare(self, graph: Graph, setting: Setting) -> PageRank:
        return PageRank(graph.weights(setting["edges"]).to(dtype=torch.float32), setting["num_hops"])

    def _logits(
        self, setting: Setting, support: Tensor, support_labels: Tensor, query: Tensor, n_way: int, is_query: Tensor
    ) -> Tensor:
        members = class_members(support_labels, n_way).float()
        shares = (members / members.sum(-1, keepdim=True)).mT.expand(*support.shape, n_way)
        every = (support, query, shares.flatten(-2))
        flat = [(rows if rows.dim() > 1 else rows.unsqueeze(0)).flatten(0, -2) for rows in every]
        parts = zip(*(torch.split(rows, max(1, _COLUMNS // n_way)) for rows in flat), strict=True)
        found = [_reached(self._known, *few, n_way=n_way) for few in parts]
        return torch.cat(found).view(*query.shape, n_way)


def _reached(walk: PageRank, support: Tensor, query: Tensor, shares: Tensor, *, n_way: int) -> Tensor:
    """Propagate the classes of a few episodes together, a column for each.

    Args:
        walk: The walk.
        support: Support nodes, shape ``[num_episodes, num_support]``.
        query: Query nodes, shape ``[num_episodes, num_query]``.
        shares: Share of each support node in each class, shape ``[num_episodes, num_support * n_way]``.
        n_way: Number of classes in an episode.

    Returns:
        What reaches each query node of each class, shape ``[num_episodes, num_query, n_way]``.
    """
    num_episodes = len(support)
    episode = torch.arange(num_episodes).unsqueeze(-1)
    start = shares.new_zeros(walk.shape[0], num_episodes, n_way)
    start.index_put_((support, episode.expand_as(support)), shares.view(*support.shape, n_way), accumulate=True)
    end = walk.product(start.flatten(1)).view_as(start)
    rows = end[query, episode]
    return torch.where((rows != 0).any(-1, keepdim=True), rows, end.mean(0).unsqueeze(1))
