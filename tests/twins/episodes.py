"""Slow, obvious versions of what episodes promise."""

from __future__ import annotations

import numpy as np

from fgsam.episodes.episode import Episode


def shuffled_prefix(size: int, numbers: list[float]) -> list[int]:
    """The first places of a Fisher-Yates shuffle of a whole list, one for each number."""
    items = list(range(size))
    for i, number in enumerate(numbers):
        j = i + int(number * (size - i))
        items[i], items[j] = items[j], items[i]
    return items[: len(numbers)]


def check_episode(
    episode: Episode, labels: np.ndarray, classes: set[int], n_way: int, k_shot: int, num_query: int
) -> None:
    """Go through an episode node by node."""
    chosen = episode.classes.tolist()
    assert len(set(chosen)) == n_way == episode.n_way
    assert set(chosen) <= classes
    support, query = episode.support.tolist(), episode.query.tolist()
    assert len(support) == n_way * k_shot == episode.num_support
    assert len(query) == n_way * num_query
    assert len(set(support + query)) == len(support) + len(query)
    assert episode.nodes.tolist() == support + query
    for nodes, episode_labels, per_class in (
        (support, episode.support_labels.tolist(), k_shot),
        (query, episode.query_labels.tolist(), num_query),
    ):
        for place, (node, label) in enumerate(zip(nodes, episode_labels, strict=True)):
            assert label == place // per_class
            assert labels[node] == chosen[label]
