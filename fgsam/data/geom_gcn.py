"""Web pages and actors as two text files each; directed, with self-loops, as they are distributed.

Source:
    Pei et al., Geom-GCN: Geometric Graph Convolutional Networks, 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from fgsam.data.named import NamedGraph
from fgsam.data.node_splits import PublicSplits
from fgsam.data.reading import RawGraph, each_once, parsed_rows, read_npz, reading, whole_numbers
from fgsam.nodes.split import NodeSplit

MASKS = ("train_mask", "val_mask", "test_mask")


def read_dense(paths: Sequence[Path]) -> RawGraph:
    """Read a file of nodes whose features are written in full, and one of edges."""
    return _read(paths, _dense)


def read_cornell(paths: Sequence[Path], *, as_distributed: bool = False) -> RawGraph:
    """Read Cornell like the other graphs, from corrected files.

    Args:
        paths: The nodes and the edges.
        as_distributed: Read the usual files instead, which carry features and labels of Texas by mistake.
    """
    del as_distributed  # the card names other files for it
    return read_dense(paths)


def read_indices(paths: Sequence[Path]) -> RawGraph:
    """Read a file of nodes that lists which features are 1, and one of edges."""
    return _read(paths, _from_indices)


def masks(stem: str) -> PublicSplits:
    """The ten divisions of Geom-GCN, each an npz file of masks beside the file of nodes."""

    def read(paths: Sequence[Path], index: int) -> NodeSplit:
        path = paths[0].parent / f"{stem}_split_0.6_0.2_{index}.npz"
        if not path.is_file():
            raise FileNotFoundError(
                f"Expected public split {index} in '{path}' (no such file). Put it there from the folder 'splits' of "
                "github.com/graphdml-uiuc-jlu/geom-gcn, or set dataset.split_kind=drawn."
            )
        arrays = read_npz(path, MASKS)
        return NodeSplit.from_masks(str(index), [arrays[mask] for mask in MASKS])

    return PublicSplits(10, read)


def _read(paths: Sequence[Path], features: Callable[[list[str]], Any]) -> RawGraph:
    """Each file has a header line; a node is id, features and label, an edge two ids, with tabs between them."""
    node_file, edge_file = paths
    with reading(node_file):
        lines = node_file.read_text(encoding="ascii").splitlines()[1:]
        ids, texts, class_ids = zip(*(line.split("\t") for line in lines), strict=True)
        nodes = whole_numbers([int(node) for node in ids], low=0, high=len(ids) - 1, what="node ids")
        if len(np.unique(nodes)) != len(nodes):
            raise ValueError("a node id occurs twice")
        order = np.argsort(nodes)
        labels = whole_numbers([int(class_id) for class_id in class_ids], low=0, what="labels")[order]
        x = features(list(texts))[order]
    with reading(edge_file):
        edges = parsed_rows(edge_file.read_text(encoding="ascii").splitlines()[1:], "\t", np.int64)
        return RawGraph(x, each_once(edges.T, len(nodes)), labels)


def _dense(texts: list[str]) -> np.ndarray:
    return parsed_rows(texts, ",", np.float32)


def _from_indices(texts: list[str]) -> sp.csr_matrix:
    rows = [sorted({int(index) for index in text.split(",")}) for text in texts]
    columns = whole_numbers(np.concatenate(rows), low=0, high=100_000, what="feature numbers")
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    shape = (len(rows), int(columns.max()) + 1)
    return sp.csr_matrix((np.ones(len(columns), dtype=np.float32), columns, indptr), shape=shape)


chameleon = NamedGraph("chameleon", read_dense, directed=True, splits=masks("chameleon"))
squirrel = NamedGraph("squirrel", read_dense, directed=True, splits=masks("squirrel"))
cornell = NamedGraph("cornell", read_cornell, directed=True, splits=masks("cornell"))
texas = NamedGraph("texas", read_dense, directed=True, splits=masks("texas"))
wisconsin = NamedGraph("wisconsin", read_dense, directed=True, splits=masks("wisconsin"))
actor = NamedGraph("actor", read_indices, directed=True, splits=masks("film"))
