"""Email: members of a research institution, joined when they wrote to each other; 28 departments.

Sources:
    Leskovec et al., Graph Evolution: Densification and Shrinking Diameters, 2007.
    Liu et al., Relative and Absolute Location Embedding for Few-Shot Node Classification on Graphs, 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fgsam.data.named import NamedGraph
from fgsam.data.reading import RawGraph, parsed_rows, reading, whole_numbers


def read(paths: Sequence[Path]) -> RawGraph:
    """Read a file of nodes, whose header has their number and that of the features, and one of edges."""
    node_file, edge_file = paths
    with reading(node_file):
        header, *lines = node_file.read_text(encoding="ascii").splitlines()
        num_nodes, num_features = (int(number) for number in header.split())
        table = parsed_rows(lines, "\t", np.float64)
        if table.shape != (num_nodes, 2 + num_features):
            raise ValueError(f"a table of {table.shape} in place of {num_nodes} nodes with {num_features} features")
        nodes = whole_numbers(table[:, 0], low=0, high=num_nodes - 1, what="node ids")
        if len(np.unique(nodes)) != num_nodes:
            raise ValueError("a node id occurs twice")
        # The lines do not come in the order of the ids.
        table = table[np.argsort(nodes)]
        labels = whole_numbers(table[:, 1], low=0, what="labels")
    with reading(edge_file):
        edges = parsed_rows(edge_file.read_text(encoding="ascii").splitlines(), "\t", np.int64)
        return RawGraph(table[:, 2:].astype(np.float32), edges.T, labels)


email = NamedGraph("email", read)
