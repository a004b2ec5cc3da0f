"""Draws episodes from labels and a set of classes."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from fgsam.checks import check_positive
from fgsam.episodes.episode import Episode

logger = logging.getLogger(__name__)


class EpisodeSampler:
    """Draws classes, then support and query nodes of each of them, all without replacement.

    Args:
        labels: Class id of every node, shape ``[num_nodes]``; nodes with label -1 are never drawn.
        classes: Class ids to draw from.
        n_way: Classes in an episode.
        k_shot: Support nodes a class.
        num_query: Query nodes a class.
        drop_small: Leave out classes with fewer than ``k_shot + num_query`` nodes, with a warning in the log.

    Raises:
        ValueError: If there are fewer than ``n_way`` classes, or a class has fewer than ``k_shot + num_query`` nodes
            and is not left out.

    Example:
        >>> sampler = EpisodeSampler(torch.tensor([0, 0, 1, 1, 2, 2]), [0, 1, 2], n_way=2, k_shot=1, num_query=1)
        >>> episode = sampler.draw(np.random.default_rng(0))
        >>> episode.support_labels
        tensor([0, 1])
    """

    def __init__(
        self,
        labels: Tensor | np.ndarray,
        classes: Iterable[int],
        *,
        n_way: int,
        k_shot: int,
        num_query: int,
        drop_small: bool = False,
    ) -> None:
        check_positive(n_way=n_way, k_shot=k_shot, num_query=num_query)
        self.n_way, self.k_shot, self.num_query = n_way, k_shot, num_query
        self.drop_small = drop_small
        members = _members(np.asarray(labels), sorted({int(c) for c in classes}))
        self._members = self._without_small(members)
        self.classes = tuple(self._members)
        if n_way > len(self.classes):
            raise ValueError(
                f"Expected 'n_way' to be at most the number of classes to draw from "
                f"(got n_way={n_way}, classes={len(self.classes)}). Lower episode.n_way or widen the class split."
            )
        self._support_labels = torch.arange(n_way).repeat_interleave(k_shot)
        self._query_labels = torch.arange(n_way).repeat_interleave(num_query)

    def draw(self, rng: np.random.Generator) -> Episode:
        """Draw one episode; the same generator state gives the same episode."""
        n_way, k_shot, per_class = self.n_way, self.k_shot, self.k_shot + self.num_query
        # One call for all numbers: a call costs more than the numbers. random() is the same in every numpy version.
        numbers = rng.random(n_way * (1 + per_class)).tolist()
        support: list[int] = []
        query: list[int] = []
        classes = [self.classes[i] for i in _distinct(len(self.classes), numbers[:n_way])]
        for i, class_id in enumerate(classes):
            members = self._members[class_id]
            start = n_way + i * per_class
            nodes = [members[j] for j in _distinct(len(members), numbers[start : start + per_class])]
            support += nodes[:k_shot]
            query += nodes[k_shot:]
        return Episode(_ids(classes), _ids(support), self._support_labels, _ids(query), self._query_labels)

    def _without_small(self, members: dict[int, list[int]]) -> dict[int, list[int]]:
        needed = self.k_shot + self.num_query
        small = {class_id: nodes for class_id, nodes in members.items() if len(nodes) < needed}
        if not small:
            return members
        sizes = ", ".join(f"class {class_id} has {len(nodes)}" for class_id, nodes in small.items())
        if not self.drop_small:
            raise ValueError(
                f"Expected every class to have k_shot + num_query = {needed} labelled nodes (got {sizes}). "
                "Lower episode.k_shot or episode.num_query, choose another class split, "
                "or leave these classes out (EpisodeSampler(..., drop_small=True))."
            )
        if len(members) - len(small) < self.n_way:
            raise ValueError(
                f"Expected at least n_way={self.n_way} classes with k_shot + num_query = {needed} labelled nodes "
                f"(got {len(members) - len(small)}; {sizes}). Lower episode.k_shot or episode.num_query."
            )
        logger.warning("Classes with fewer than %d labelled nodes are left out: %s", needed, sizes)
        return {class_id: nodes for class_id, nodes in members.items() if class_id not in small}


def _members(labels: np.ndarray, classes: list[int]) -> dict[int, list[int]]:
    """List the nodes of each class, in ascending order."""
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], classes, side="left")
    ends = np.searchsorted(labels[order], classes, side="right")
    return {c: order[s:e].tolist() for c, s, e in zip(classes, starts, ends, strict=True)}


def _distinct(size: int, numbers: list[float]) -> list[int]:
    """Choose distinct indices below ``size``, one for each number in ``[0, 1)``.

    A Fisher-Yates shuffle that stops early and stores only the places it changed, so the cost does not depend on
    ``size``.
    """
    moved: dict[int, int] = {}
    chosen = []
    for i, number in enumerate(numbers):
        j = i + int(number * (size - i))
        chosen.append(moved.get(j, j))
        moved[j] = moved.get(i, i)
    return chosen


def _ids(values: list[int]) -> Tensor:
    """Make a tensor of node or class ids; the way through numpy is four times faster than ``torch.tensor``."""
    return torch.from_numpy(np.array(values, dtype=np.int64))
