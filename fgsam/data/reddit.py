"""Reddit: posts, joined when the same person commented on both; 41 communities.

Source:
    Hamilton et al., Inductive Representation Learning on Large Graphs, 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fgsam.data.named import NamedGraph
from fgsam.data.reading import RawGraph, each_once, read_npz, reading


def read(paths: Sequence[Path]) -> RawGraph:
    """Read a file of features and labels, and one with the adjacency as a scipy matrix of coordinates."""
    node_file, edge_file = paths
    nodes = read_npz(node_file, ("feature", "label"))
    adjacency = read_npz(edge_file, ("format", "row", "col", "shape"))
    with reading(edge_file):
        if adjacency["format"].item() not in ("coo", b"coo"):
            raise ValueError(f"a matrix of format {adjacency['format'].item()!r} in place of coo")
        edges = each_once(np.stack([adjacency["row"], adjacency["col"]]), len(nodes["label"]))
        return RawGraph(nodes["feature"].astype(np.float32), edges, nodes["label"])


reddit = NamedGraph("reddit", read)
