"""Coauthor CS: computer scientists, joined when they wrote a paper together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.sparse as sp

from fgsam.data.card import load_card
from fgsam.data.locate import locate
from fgsam.files import read_arrays
from fgsam.graph.graph import Graph

NAME = "coauthor_cs"
FILES = ("coauthor/CS/raw/ms_academic_cs.npz",)
_KEYS = tuple(f"{part}_{key}" for part in ("adj", "attr") for key in ("data", "indices", "indptr", "shape"))


def load(root: Path | None = None, *, symmetrise: bool | None = None) -> Graph:
    """Load the graph: 18,333 authors, their keywords as 0/1, 15 fields of research as classes.

    Args:
        root: Folder of raw files; by default the one that the environment variable ``FGSAM_DATA`` names.
        symmetrise: Without effect: the graph has both directions of every edge.

    Raises:
        FileNotFoundError: If the raw file is missing.
        ValueError: If its content is not the known one.

    Source:
        Shchur et al., Pitfalls of Graph Neural Network Evaluation, 2018.
    """
    (path,) = locate(NAME, FILES, root)
    arrays = read_arrays(path, keys=(*_KEYS, "labels"), way_out="Fetch the file again.")
    x = _matrix(arrays, "attr")
    # Some copies hold counts. Everybody who uses this graph turns them into 0/1 on reading.
    x.data = (x.data > 0).astype(np.float32)
    edges = _matrix(arrays, "adj").tocoo()
    keep = edges.row != edges.col
    edge_index = np.stack([edges.row[keep], edges.col[keep]])
    graph = Graph.from_arrays(x, edge_index, arrays["labels"], directed=symmetrise is False, name=NAME)
    return load_card(NAME).check(graph)


def _matrix(arrays: dict[str, np.ndarray], part: str) -> sp.csr_matrix:
    data, indices, indptr, shape = (arrays[f"{part}_{key}"] for key in ("data", "indices", "indptr", "shape"))
    return sp.csr_matrix((data, indices, indptr), shape=tuple(shape))
