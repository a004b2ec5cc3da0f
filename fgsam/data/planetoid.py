"""Cora, CiteSeer and PubMed in the eight files of Planetoid, whose pickles are never run.

Source:
    Yang et al., Revisiting Semi-supervised Learning with Graph Embeddings, 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from fgsam.data.named import NamedGraph
from fgsam.data.node_splits import PublicSplits
from fgsam.data.reading import DamagedFileError, RawGraph, each_once, reading, whole_numbers, without_loops
from fgsam.data.unpickle import unpickled_array, unpickled_lists, unpickled_matrix
from fgsam.nodes.split import NUM_VAL, PER_CLASS, NodeSplit


def read(paths: Sequence[Path]) -> RawGraph:
    """Read ``allx``, ``tx``, ``ally``, ``ty``, ``graph`` and ``test.index``.

    The first nodes have the rows of ``allx``; row ``i`` of ``tx`` belongs to the node on line ``i`` of ``test.index``.
    A number that is skipped there, as in CiteSeer, is a node without features, edges and class; it gets class 0, as
    everywhere else.
    """
    features, test_features, classes, test_classes, graph, test_index = paths
    x, test_x = unpickled_matrix(features), unpickled_matrix(test_features)
    labels, test_labels = (_class_ids(path) for path in (classes, test_classes))
    with reading(test_index):
        nodes = _test_nodes(test_index, low=len(labels))
    if x.shape[0] != len(labels) or not test_x.shape[0] == len(test_labels) == len(nodes):
        files = ", ".join(f"'{path}'" for path in paths[:4])
        raise DamagedFileError(f"Expected as many rows of features as of classes in {files}, '{test_index}'.")
    num_nodes = int(nodes.max()) + 1
    place = np.zeros(num_nodes - len(labels), dtype=np.int64)
    place[nodes - len(labels)] = np.arange(1, len(nodes) + 1)
    # Row 0 stands for the nodes that are skipped.
    test_x = sp.vstack([sp.csr_matrix((1, x.shape[1]), dtype=np.float32), test_x]).tocsr()
    return RawGraph(
        sp.vstack([x, test_x[place]]).tocsr(),
        _edges(graph, num_nodes),
        np.concatenate([labels, np.concatenate([[0], test_labels])[place]]),
    )


def read_public(paths: Sequence[Path], index: int) -> NodeSplit:
    """Read the public split: the first 20 nodes a class train, the next 500 validate, those of ``test.index`` test."""
    classes, test_index = paths[2], paths[5]
    num_train = PER_CLASS * unpickled_array(classes).shape[1]
    with reading(test_index):
        test = _test_nodes(test_index, low=num_train + NUM_VAL)
        return NodeSplit(str(index), np.arange(num_train), num_train + np.arange(NUM_VAL), test)  # type: ignore[arg-type]


def _test_nodes(path: Path, *, low: int) -> np.ndarray:
    """The nodes of ``test.index``, in its order."""
    lines = path.read_text(encoding="ascii").split()
    nodes = whole_numbers([int(line) for line in lines], low=low, high=10_000_000, what="test nodes")
    if len(np.unique(nodes)) != len(nodes):
        raise ValueError("a node occurs twice")
    return nodes


def _class_ids(path: Path) -> np.ndarray:
    """Which column is set, for each row."""
    one_hot = unpickled_array(path)
    with reading(path):
        if one_hot.ndim != 2 or not np.array_equal(one_hot, one_hot == 1) or (one_hot.sum(axis=1) > 1).any():
            raise ValueError(f"rows of 0 with at most one 1 should stand here, not {one_hot.dtype} {one_hot.shape}")
        class_ids: np.ndarray = one_hot.argmax(axis=1)
        return class_ids


def _edges(path: Path, num_nodes: int) -> np.ndarray:
    neighbours = unpickled_lists(path)
    with reading(path):
        source = np.repeat(list(neighbours), [len(nodes) for nodes in neighbours.values()])
        target = np.concatenate([np.asarray(nodes, dtype=np.int64) for nodes in neighbours.values()])
        return without_loops(each_once(np.stack([source, target]), num_nodes))


SPLITS = PublicSplits(1, read_public, has_more=True)

cora = NamedGraph("cora", read, splits=SPLITS)
citeseer = NamedGraph("citeseer", read, splits=SPLITS)
pubmed = NamedGraph("pubmed", read, splits=SPLITS)
