"""Draws episodes from labels and a set of classes."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
import torch
from scipy.special import gammaincinv
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
        num_query: Query nodes a class; ``"all"`` for every node that is no support node.
        query_imbalance: Concentration of the Dirichlet distribution that divides the ``n_way * num_query`` query
            nodes of an episode among its classes, at least 0.01; the smaller, the less alike, and a class may have no
            query node. None for equal numbers.
        drop_small: Leave out classes with fewer than ``k_shot + num_query`` nodes, with a warning in the log.

    Raises:
        ValueError: If a size is out of range, there are fewer than ``n_way`` classes, or a class has fewer than
            ``k_shot + num_query`` nodes (one more than ``k_shot`` with ``"all"``) and is not left out.

    Source:
        Veilleux et al., Realistic Evaluation of Transductive Few-Shot Learning, 2021, section 3 (imbalanced queries,
        with a concentration of 2).

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
        num_query: int | Literal["all"],
        query_imbalance: float | None = None,
        drop_small: bool = False,
    ) -> None:
        smallest = 1 if num_query == "all" else num_query
        check_positive(n_way=n_way, k_shot=k_shot, num_query=smallest)
        if query_imbalance is not None and not (query_imbalance >= 0.01 and num_query != "all"):
            raise ValueError(
                f"Expected 'query_imbalance' to be at least 0.01, beside a number of query nodes (got "
                f"query_imbalance={query_imbalance}, num_query={num_query}). Leave one of the two out."
            )
        self.n_way, self.k_shot, self.num_query = n_way, k_shot, num_query
        self.query_imbalance = query_imbalance
        self.drop_small = drop_small
        self._needed = k_shot + smallest
        members = _members(np.asarray(labels), sorted({int(c) for c in classes}))
        self._members = self._without_small(members)
        self.classes = tuple(self._members)
        if n_way > len(self.classes):
            raise ValueError(
                f"Expected 'n_way' to be at most the number of classes to draw from "
                f"(got n_way={n_way}, classes={len(self.classes)}). Lower episode.n_way or widen the class split."
            )
        self._support_labels = torch.arange(n_way).repeat_interleave(k_shot)
        self._query_labels = torch.arange(n_way).repeat_interleave(smallest)

    def draw(self, rng: np.random.Generator) -> Episode:
        """Draw one episode; the same generator state gives the same episode."""
        return self._draw(self._members, self.classes, rng)

    def draw_disjoint(self, num_episodes: int, rng: np.random.Generator) -> list[Episode]:
        """Draw episodes that share no node, at least one, until there are enough or the classes are used up."""
        left = dict(self._members)
        episodes: list[Episode] = []
        while len(left) >= self.n_way and len(episodes) < num_episodes:
            episode = self._draw(left, tuple(left), rng)
            used = set(episode.nodes.tolist())
            for class_id in episode.classes.tolist():
                left[class_id] = [node for node in left[class_id] if node not in used]
                if len(left[class_id]) < self._needed:
                    del left[class_id]
            episodes.append(episode)
        return episodes

    def _draw(self, members: Mapping[int, list[int]], classes: tuple[int, ...], rng: np.random.Generator) -> Episode:
        # Few calls for many numbers: a call costs more than the numbers. random() is the same in every numpy version.
        chosen = [classes[i] for i in _distinct(len(classes), rng.random(self.n_way).tolist())]
        pools = [members[class_id] for class_id in chosen]
        counts = self._query_counts(pools, rng)
        takes_rest = self.num_query == "all"
        drawn = [self.k_shot + (0 if takes_rest else count) for count in counts]
        numbers = rng.random(sum(drawn)).tolist()
        support: list[int] = []
        query: list[int] = []
        start = 0
        for pool, size in zip(pools, drawn, strict=True):
            places = _distinct(len(pool), numbers[start : start + size])
            nodes = [pool[j] for j in places]
            support += nodes[: self.k_shot]
            query += np.delete(pool, places).tolist() if takes_rest else nodes[self.k_shot :]
            start += size
        is_even = self.query_imbalance is None and not takes_rest
        labels = self._query_labels if is_even else torch.arange(self.n_way).repeat_interleave(torch.tensor(counts))
        return Episode(_ids(chosen), _ids(support), self._support_labels, _ids(query), labels)

    def _query_counts(self, pools: list[list[int]], rng: np.random.Generator) -> list[int]:
        """Number of query nodes of each class."""
        room = [len(pool) - self.k_shot for pool in pools]
        if self.num_query == "all":
            return room
        if self.query_imbalance is None:
            return [self.num_query] * self.n_way
        # Gamma variates by inversion, one number each: a sum of one scales them to a draw of the Dirichlet.
        weights = np.maximum(gammaincinv(self.query_imbalance, rng.random(self.n_way)), np.finfo(float).tiny)
        return _apportioned(weights / weights.sum(), self.n_way * self.num_query, np.array(room))

    def _without_small(self, members: dict[int, list[int]]) -> dict[int, list[int]]:
        needed = self._needed
        what = f"k_shot + {'1' if self.num_query == 'all' else 'num_query'} = {needed}"
        small = {class_id: nodes for class_id, nodes in members.items() if len(nodes) < needed}
        if not small:
            return members
        sizes = ", ".join(f"class {class_id} has {len(nodes)}" for class_id, nodes in small.items())
        if not self.drop_small:
            raise ValueError(
                f"Expected every class to have {what} labelled nodes (got {sizes}). "
                "Lower episode.k_shot or episode.num_query, choose another class split, "
                "or leave these classes out (EpisodeSampler(..., drop_small=True))."
            )
        if len(members) - len(small) < self.n_way:
            raise ValueError(
                f"Expected at least n_way={self.n_way} classes with {what} labelled nodes "
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


def _apportioned(shares: np.ndarray, total: int, room: np.ndarray) -> list[int]:
    """Divide a total by shares as nearly as whole numbers and the room of each part allow."""
    counts = np.minimum(np.floor(shares * total), room).astype(np.int64)
    while counts.sum() < total:
        missing = np.where(counts < room, shares * total - counts, -np.inf)
        counts[missing.argmax()] += 1
    whole: list[int] = counts.tolist()
    return whole


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
