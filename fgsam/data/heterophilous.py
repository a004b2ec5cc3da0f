"""Graphs whose neighbours differ, as dense npz files: the new ones, and Chameleon and Squirrel without duplicates.

Source:
    Platonov et al., A Critical Look at the Evaluation of GNNs under Heterophily, 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fgsam.data.named import NamedGraph
from fgsam.data.node_splits import PublicSplits
from fgsam.data.reading import RawGraph, read_npz, reading
from fgsam.nodes.split import NodeSplit


def read(paths: Sequence[Path]) -> RawGraph:
    """Read the features, the labels and the edges, each undirected pair once."""
    (path,) = paths
    arrays = read_npz(path, ("node_features", "node_labels", "edges"))
    return RawGraph(arrays["node_features"], arrays["edges"].T, arrays["node_labels"])


def read_masks(paths: Sequence[Path], index: int) -> NodeSplit:
    """Read one of the ten divisions, a row of each array of masks."""
    (path,) = paths
    names = ("train_masks", "val_masks", "test_masks")
    arrays = read_npz(path, names)
    with reading(path):
        return NodeSplit.from_masks(str(index), [arrays[name][index] for name in names])


SPLITS = PublicSplits(10, read_masks)

minesweeper = NamedGraph("minesweeper", read, splits=SPLITS)
tolokers = NamedGraph("tolokers", read, splits=SPLITS)
roman_empire = NamedGraph("roman_empire", read, splits=SPLITS)
chameleon_filtered = NamedGraph("chameleon_filtered", read, splits=SPLITS)
squirrel_filtered = NamedGraph("squirrel_filtered", read, splits=SPLITS)
