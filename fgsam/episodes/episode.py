"""One few-shot task with its labelled and its evaluated nodes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Episode:
    """One draw of support and query nodes for a choice of classes.

    Attributes:
        classes: Class ids of the graph, shape ``[n_way]``; episode label ``i`` stands for ``classes[i]``.
        support: Labelled nodes, class by class, shape ``[n_way * k_shot]``.
        support_labels: Episode labels ``0..n_way-1`` of the support nodes.
        query: Nodes to be classified, class by class, shape ``[num_query]``: in all, and perhaps not as many of each
            class.
        query_labels: Episode labels ``0..n_way-1`` of the query nodes.
    """

    classes: Tensor
    support: Tensor
    support_labels: Tensor
    query: Tensor
    query_labels: Tensor

    @property
    def n_way(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def num_support(self) -> int:
        """Number of support nodes; they come first in ``nodes``."""
        return len(self.support)

    @cached_property
    def nodes(self) -> Tensor:
        """Support nodes, then query nodes: the targets of the field that a method reads."""
        return torch.cat([self.support, self.query])

    def to(self, device: torch.device | str) -> Episode:
        """Copy the episode to a device."""
        return Episode(
            self.classes.to(device),
            self.support.to(device),
            self.support_labels.to(device),
            self.query.to(device),
            self.query_labels.to(device),
        )
