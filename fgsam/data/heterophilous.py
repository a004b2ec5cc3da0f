"""Graphs whose neighbours differ, as dense npz files: the new ones, and Chameleon and Squirrel without duplicates.

Source:
    Platonov et al., A Critical Look at the Evaluation of GNNs under Heterophily, 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fgsam.data.named import NamedGraph
from fgsam.data.reading import RawGraph, read_npz


def read(paths: Sequence[Path]) -> RawGraph:
    """Read the features, the labels and the edges, each undirected pair once."""
    (path,) = paths
    arrays = read_npz(path, ("node_features", "node_labels", "edges"))
    return RawGraph(arrays["node_features"], arrays["edges"].T, arrays["node_labels"])


minesweeper = NamedGraph("minesweeper", read)
tolokers = NamedGraph("tolokers", read)
roman_empire = NamedGraph("roman_empire", read)
chameleon_filtered = NamedGraph("chameleon_filtered", read)
squirrel_filtered = NamedGraph("squirrel_filtered", read)
