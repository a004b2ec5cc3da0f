"""A learner that begins as a floor: clusters of query nodes on smoothed features, with every part of them learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from fgsam.checks import check_count
from fgsam.functional.distances import directions
from fgsam.functional.prototypes import class_members
from fgsam.graph.field import Field
from fgsam.graph.graph import Graph
from fgsam.methods.base import Method
from fgsam.methods.scales import NUM_SCALES, Scales
from fgsam.methods.sgc_kmeans import balanced
from fgsam.nn.encoders import NoEncoder

if TYPE_CHECKING:
    from fgsam.typing import NodeIds

FIRST_MIX = (-2.0, 0.0, 0.0, 0.0, 0.0, 1.0)
"""Logits of the scales at the start, no hops first and PageRank last."""

FIRST_SHARPNESS = 5.0
"""Inverse temperature of the shares at the start."""

PACE, METRIC_PACE = 5.0, 0.06
"""What one number, and one entry of the metric, is multiplied by, so that one learning rate suits both."""

ROWS = "rows of all scales"


class SmoothClusters(Method):
    """Soft k-means over the query nodes of an episode, with learned scales of smoothing, metric and sizes of classes.

    With ``s_j`` the row of a node at scale ``j`` (see :class:`fgsam.methods.scales.Scales`), ``M`` a matrix that begins
    at zero, and ``w`` a softmax over scales, a node is the rows ``sqrt(w_j) * unit(s_j + s_j M)`` side by side. A class
    begins as the direction of the sum of its support nodes. In each of ``num_steps`` steps a query node is shared among
    the classes by the softmax of ``2 t cos``, and the direction of a class is that of the sum of its support nodes and
    ``q`` times these shares. Logits are ``f`` times the scores that the next shares would be made of.

    Scores are pulled to equal sizes of classes with strength ``b``, as in ``sgc_kmeans``; ``b`` begins at 0 and may
    become negative. ``t``, ``q``, ``f``, ``b``, ``w`` and ``M`` are learned; at the start they make a plain floor. All
    queries of an episode are seen together, so that this is transductive inference, and what ``b`` has learned holds
    for numbers of queries like those of training.

    It has no encoder; the one that a run names is not made. In the peer's view a node has its row of no hops at every
    scale.

    Args:
        make_encoder: Not called.
        classes: Class ids of training; not read.
        graph: The graph that training sees, which gives directions and mean rows; labels are not read.
        num_steps: Number of steps, at least 1.
        dim: Number of directions kept of more than 256 features.

    Raises:
        ValueError: If ``num_steps`` or ``dim`` is no whole number of at least 1.

    Source:
        The steps: Ren et al., Meta-Learning for Semi-Supervised Few-Shot Classification, 2018, Eq. 3 and 4, with the
        queries in place of unlabelled nodes. What is learned in them is this package's own.
    """

    uses_queries: ClassVar[bool] = True
    num_given: ClassVar[int] = 3

    def __init__(
        self,
        make_encoder: Callable[[], nn.Module],
        classes: Sequence[int],
        graph: Graph,
        *,
        num_steps: int = 4,
        dim: int = 128,
    ) -> None:
        super().__init__(NoEncoder)
        check_count(num_steps=num_steps)
        check_count(dim=dim)
        self.num_steps = num_steps
        self._scales = Scales(graph, dim)
        self.mix = nn.Parameter(torch.zeros(NUM_SCALES))
        self.metric = nn.Parameter(torch.zeros(self._scales.dim, self._scales.dim))
        self.sharpness, self.trust, self.certainty, self.balance = (nn.Parameter(torch.zeros(())) for _ in range(4))

    def field(self, graph: Graph, nodes: NodeIds, *, peer: bool = False) -> Field:
        """Build a field of zero hops, and look up the smoothed rows of its targets.

        Args:
            graph: Where to look.
            nodes: Target nodes, without repetition.
            peer: Give the row of no hops at every scale.
        """
        field = super().field(graph, nodes, peer=peer)
        field.remember(ROWS, lambda: self._scales.rows(graph, field, peer=peer))
        return field

    def represent(self, field: Field) -> tuple[Tensor, ...]:
        """Mix the scales in the learned metric: one tensor of unit rows, shape ``[num_targets, num_scales * dim]``.

        Raises:
            ValueError: If the field was not made by :meth:`field`.
        """
        rows = field.remember(ROWS, _no_rows)
        moved = directions(rows + rows @ (METRIC_PACE * self.metric))
        weights = (PACE * self.mix + rows.new_tensor(FIRST_MIX)).softmax(0)
        return ((moved * weights.sqrt().unsqueeze(-1)).flatten(1),)

    def logits(
        self,
        support: tuple[Tensor, ...],
        support_labels: Tensor,
        query: tuple[Tensor, ...],
        n_way: int,
        *,
        is_query: Tensor | None = None,
    ) -> Tensor:
        """Score by the direction of each class after the last step, shape ``[..., num_query, n_way]``."""
        (known,), (asked,) = support, query
        counts = asked.new_ones(asked.shape[:-1]) if is_query is None else is_query.to(asked.dtype)
        counts = counts.unsqueeze(-1)
        sharpness, trust, certainty = (PACE * torch.stack([self.sharpness, self.trust, self.certainty])).exp()

        def scores(classes: Tensor) -> Tensor:
            return balanced(2 * FIRST_SHARPNESS * sharpness * asked @ classes.mT, counts, PACE * self.balance)

        sums = class_members(support_labels, n_way).to(known.dtype) @ known
        classes = directions(sums)
        for _ in range(self.num_steps):
            shares = scores(classes).softmax(-1) * counts
            classes = directions(sums + trust * shares.mT @ asked)
        found: Tensor = certainty * scores(classes)
        return found


def _no_rows() -> Tensor:
    raise ValueError(
        "Expected a field with the rows of all scales (got one without). Make it by method.field(graph, nodes)."
    )
