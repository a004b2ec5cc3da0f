"""The graphs of GPN: a text file of edges, and MATLAB files of nodes for the classes to train and to test.

Sources:
    Ding et al., Graph Prototypical Networks for Few-shot Learning on Attributed Networks, 2020.
    McAuley et al., Inferring Networks of Substitutable and Complementary Products, 2015.
    Tang et al., ArnetMiner: Extraction and Mining of Academic Social Networks, 2008.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.io
import scipy.sparse as sp

from fgsam.data.named import NamedGraph
from fgsam.data.reading import DamagedFileError, RawGraph, parsed_rows, reading, rows_at, whole_numbers


def read(paths: Sequence[Path]) -> RawGraph:
    """Read the edges and the nodes of every MATLAB file; a node in none of them has label -1 and no features."""
    network, *tables = paths
    edges, num_nodes = _edges(network)
    parts = [_nodes(table, num_nodes) for table in tables]
    nodes, class_ids = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    widths = {part[2].shape[1] for part in parts}
    if len(widths) > 1 or len(np.unique(nodes)) != len(nodes):
        files = " and ".join(f"'{table}'" for table in tables)
        raise DamagedFileError(f"Expected {files} to hold different nodes with the same features (got {widths}).")
    labels = np.full(num_nodes, -1, dtype=np.int64)
    labels[nodes] = class_ids
    return RawGraph(rows_at(sp.vstack([part[2] for part in parts]), nodes, num_nodes), edges, labels)


def read_clothing20(paths: Sequence[Path], *, whole: bool = False) -> RawGraph:
    """Read the 20 published classes, numbered from 0 in the order of their ids.

    Args:
        paths: The edges, and the nodes of the test classes.
        whole: Keep all 24,919 products; those of the other 57 classes have label -1 and no features.
    """
    raw = read(paths)
    kept = raw.labels >= 0
    labels = np.where(kept, np.searchsorted(np.unique(raw.labels[kept]), raw.labels), -1)
    if whole:
        return RawGraph(raw.x, raw.edge_index, labels)
    new_id = np.cumsum(kept) - 1
    return RawGraph(raw.x[kept], new_id[raw.edge_index[:, kept[raw.edge_index].all(axis=0)]], labels[kept])


def _edges(path: Path) -> tuple[np.ndarray, int]:
    with reading(path):
        edges = parsed_rows(path.read_text(encoding="ascii").splitlines(), "\t", np.int64).T
        edges = whole_numbers(edges, low=0, high=10_000_000, what="node numbers")
        if len(edges) != 2:
            raise ValueError(f"{len(edges)} columns")
        return edges, int(edges.max()) + 1


def _nodes(path: Path, num_nodes: int) -> tuple[np.ndarray, np.ndarray, sp.csr_matrix]:
    """Node numbers, class ids and features; MATLAB has every vector as a matrix, and class ids as floats."""
    with reading(path):
        content = scipy.io.loadmat(path, variable_names=("Index", "Label", "Attributes"))
        nodes = whole_numbers(content["Index"], low=0, high=num_nodes - 1, what="'Index'").reshape(-1)
        class_ids = whole_numbers(content["Label"], low=0, high=10_000, what="'Label'").reshape(-1)
        features = sp.csr_matrix(content["Attributes"], dtype=np.float32)
        if not len(nodes) == len(class_ids) == features.shape[0]:
            raise ValueError(
                f"{len(nodes)} nodes with {len(class_ids)} labels and {features.shape[0]} rows of features"
            )
        return nodes, class_ids, features


clothing20 = NamedGraph("clothing20", read_clothing20)
amazon_clothing = NamedGraph("amazon_clothing", read)
amazon_electronics = NamedGraph("amazon_electronics", read)
fsnc_dblp = NamedGraph("fsnc_dblp", read)
