"""A generated citation graph of CoraFull's shape: the graph that comes with the package.

A document mixes a background that all share, with Zipf frequencies, and the words of topics. A class is a choice of
three of the topics, so that classes share topics, and a learner that finds the topics on some classes gains on others.
Documents cite mostly documents of the same home. The home is the own class, but for strays: these live in another
class, so that their words and their neighbours disagree. A few documents receive many citations.

Only sums, products, quotients and ``Generator.random`` enter, whose bits are the same on every machine.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.sparse as sp

from fgsam.checks import check_fraction, check_positive
from fgsam.episodes.streams import generator
from fgsam.graph.graph import Graph

NAME = "synthetic"
_SMALLEST_CLASS = 15
_NUM_TOPICS = 16
_HOME_SHARE = 0.65
"""Share of the citations that stay in the home of a document; the others go anywhere."""
_REPEATED = 1.025
"""Words drawn for each different word in a document."""
_MAX_ROUNDS = 100


def load(
    root: Path | None = None,
    *,
    num_nodes: int = 19_793,
    num_features: int = 8_710,
    num_classes: int = 70,
    words_per_node: float = 60.0,
    topic_share: float = 0.22,
    stray_share: float = 0.21,
    homophily: float = 0.57,
    mean_degree: float = 6.40843,
    seed: int = 0,
    symmetrise: bool | None = None,
) -> Graph:
    """Generate a graph; the same options give the same bits, the defaults give CoraFull's size.

    Args:
        root: Not used: nothing is read.
        num_nodes: Documents.
        num_features: Words, at least 40 and at least twice ``words_per_node``.
        num_classes: Classes, from 2 to half as many as nodes; the smallest has 15 documents when there are enough.
        words_per_node: Mean number of different words in a document, about.
        topic_share: Share of a document's words that are topical, in [0, 1]; lower is harder.
        stray_share: Share of documents whose home is another class, from 0 to (1 - homophily) / 2; higher is harder.
        homophily: Share of citations inside a class, in [0, 1]; lower is harder.
        mean_degree: Mean number of neighbours, from 2 to a quarter of the nodes.
        seed: Another seed, another graph.
        symmetrise: Add the reverse of each citation (the default), or keep each in one direction (False).

    Raises:
        ValueError: If an option is out of range, or the citations find no room.

    Example:
        >>> graph = load(num_nodes=300, num_features=200, num_classes=10, words_per_node=20)
        >>> graph.num_nodes, graph.num_classes
        (300, 10)
    """
    del root
    check_positive(words_per_node=words_per_node)
    check_fraction(topic_share=topic_share, homophily=homophily)
    _check_between("stray_share", stray_share, 0, (1 - homophily) / 2)
    _check_between("num_classes", num_classes, 2, num_nodes / 2)
    _check_between("mean_degree", mean_degree, 2, num_nodes / 4)
    _check_between("num_features", num_features, max(40, 2 * words_per_node), 10_000_000)
    rng = generator(NAME, seed)
    # Nodes are made class by class and shuffled at the end.
    labels = np.repeat(np.arange(num_classes), _class_sizes(num_nodes, num_classes))
    home = _homes(labels, num_classes, stray_share, rng)
    node, word = _background(num_nodes, num_features, words_per_node, rng)
    topical = np.flatnonzero(rng.random(len(word)) < topic_share)
    word[topical] = _topical_words(labels[node[topical]], num_classes, num_features, rng)
    edges = _citations(labels, home, int(mean_degree * num_nodes / 2 + 0.5), homophily, rng)
    order = _permutation(num_nodes, rng)
    x = _bag_of_words(node, word, (num_nodes, num_features))[order]
    return Graph.from_arrays(
        x, np.argsort(order, kind="stable")[edges], labels[order], directed=symmetrise is False, name=NAME
    )


def _check_between(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"Expected '{name}' to be between {low:g} and {high:g} (got {name}={value})")


def _class_sizes(num_nodes: int, num_classes: int) -> np.ndarray:
    """Sizes in ascending order, shaped like those of CoraFull: 15 to 928 at its size."""
    smallest = min(_SMALLEST_CLASS, num_nodes // num_classes)
    place = np.arange(num_classes) / (num_classes - 1)
    fourth = place * place * place * place
    steps = np.cumsum(1.513 * place + 1.77 * fourth * fourth)
    spread = np.floor(steps / steps[-1] * (num_nodes - smallest * num_classes) + 0.5).astype(np.int64)
    sizes: np.ndarray = smallest + np.diff(spread, prepend=0)
    return sizes


def _homes(labels: np.ndarray, num_classes: int, stray_share: float, rng: np.random.Generator) -> np.ndarray:
    """Class that each node lives in: its own, for a stray any other one."""
    step = 1 + np.floor(rng.random(len(labels)) * (num_classes - 1)).astype(np.int64)
    strays = rng.random(len(labels)) < stray_share
    homes: np.ndarray = np.where(strays, (labels + step) % num_classes, labels)
    return homes


def _background(
    num_nodes: int, num_features: int, words_per_node: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Node and word of every place in every document, the words with Zipf frequencies."""
    lengths = _REPEATED * words_per_node * (0.5 + rng.random(num_nodes))
    node = np.repeat(np.arange(num_nodes), np.floor(lengths + 0.5).astype(np.int64))
    # The commonest ranks are flattened: vocabularies like CoraFull's leave out stop words.
    frequency = np.cumsum(1.0 / (np.arange(num_features) + 0.01 * num_features))
    rank = np.searchsorted(frequency, rng.random(len(node)) * frequency[-1], side="right")
    return node, _permutation(num_features, rng)[np.minimum(rank, num_features - 1)]


def _topical_words(class_ids: np.ndarray, num_classes: int, num_features: int, rng: np.random.Generator) -> np.ndarray:
    """A word for each given class: from its first topic in half of the cases, else from its second or third."""
    size = max(10, num_features // 60)
    topics = np.stack([_permutation(num_features, rng)[:size] for _ in range(_NUM_TOPICS)])
    chosen = np.stack([_permutation(_NUM_TOPICS, rng)[:3] for _ in range(num_classes)])
    which = np.searchsorted([0.5, 0.8], rng.random(len(class_ids)), side="right")
    # The first words of a topic are taken more often.
    number = rng.random(len(class_ids))
    words: np.ndarray = topics[chosen[class_ids, which], np.floor(number * number * size).astype(np.int64)]
    return words


def _bag_of_words(node: np.ndarray, word: np.ndarray, shape: tuple[int, int]) -> sp.csr_matrix:
    node, word = np.divmod(np.unique(node * shape[1] + word), shape[1])
    return sp.csr_matrix((np.ones(len(word), dtype=np.float32), (node, word)), shape=shape)


def _citations(
    labels: np.ndarray, home: np.ndarray, num_pairs: int, homophily: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw undirected pairs, none twice, until the wanted numbers are there and every node has one."""
    num_nodes = len(labels)
    num_same = int(homophily * num_pairs + 0.5)
    # Pareto weights: degrees fall off with exponent about 3, as in citation graphs. Nodes stand home by home.
    order = np.argsort(home, kind="stable")
    weight = np.concatenate([[0.0], np.cumsum(1.0 / np.sqrt(rng.random(num_nodes) + 1e-3))])
    bounds = np.concatenate([[0], np.cumsum(np.bincount(home, minlength=labels.max() + 1))])
    labels, home = labels[order], home[order]
    keys = np.empty(0, dtype=np.int64)
    for _ in range(_MAX_ROUNDS):
        ends = np.concatenate(np.divmod(keys, num_nodes))
        sources = np.flatnonzero(np.bincount(ends, minlength=num_nodes) == 0)
        if not len(sources):
            # A surplus makes up for the pairs that are turned down.
            sources = _by_weight(weight, 0, num_nodes, rng.random(2 * (num_pairs - len(keys)) + 16))
        at_home = rng.random(len(sources)) < _HOME_SHARE
        start = np.where(at_home, bounds[home[sources]], 0)
        end = np.where(at_home, bounds[home[sources] + 1], num_nodes)
        targets = _by_weight(weight, start, end, rng.random(len(sources)))
        drawn = (np.minimum(sources, targets) * num_nodes + np.maximum(sources, targets))[sources != targets]
        keys = _within_quota(np.concatenate([keys, drawn]), labels, num_same, num_pairs - num_same)
        if len(keys) == num_pairs:
            pairs: np.ndarray = order[np.stack(np.divmod(keys, num_nodes))]
            return pairs
    raise ValueError(
        f"Expected room for {num_pairs} citations (placed {len(keys)}). "
        "Lower 'mean_degree', bring 'homophily' nearer to 0.5, or raise 'num_nodes'."
    )


def _within_quota(keys: np.ndarray, labels: np.ndarray, num_same: int, num_other: int) -> np.ndarray:
    """Keep the first of equal pairs, then the first so many pairs inside and the first so many between classes."""
    keys = keys[np.sort(np.unique(keys, return_index=True)[1])]
    first, second = np.divmod(keys, len(labels))
    same = labels[first] == labels[second]
    kept: np.ndarray = keys[np.where(same, np.cumsum(same) <= num_same, np.cumsum(~same) <= num_other)]
    return kept


def _by_weight(weight: np.ndarray, start: np.ndarray | int, end: np.ndarray | int, number: np.ndarray) -> np.ndarray:
    """Choose nodes from ``start`` to ``end - 1`` by cumulated weight, one for each number in ``[0, 1)``."""
    level = weight[start] + number * (weight[end] - weight[start])
    chosen: np.ndarray = np.clip(np.searchsorted(weight, level, side="right") - 1, start, np.asarray(end) - 1)
    return chosen


def _permutation(size: int, rng: np.random.Generator) -> np.ndarray:
    """Shuffle ``0..size-1``; sorting ``random()`` gives the same order in every version of numpy."""
    order: np.ndarray = np.argsort(rng.random(size), kind="stable")
    return order
