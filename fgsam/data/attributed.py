"""Graphs stored as two sparse matrices in one npz file: coauthors, products, and the citation graphs of CitationFull.

Sources:
    Shchur et al., Pitfalls of Graph Neural Network Evaluation, 2018.
    Bojchevski and Günnemann, Deep Gaussian Embedding of Graphs, 2018.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fgsam.data.named import NamedGraph
from fgsam.data.reading import RawGraph, csr_matrix, read_npz, reading, without_loops

_ARRAYS = ("data", "indices", "indptr", "shape")
_KEYS = tuple(f"{part}_{array}" for part in ("adj", "attr") for array in _ARRAYS)


def read(paths: Sequence[Path]) -> RawGraph:
    """Read the adjacency, without self-loops, the features, turned into 0 and 1, and the labels."""
    (path,) = paths
    arrays = read_npz(path, (*_KEYS, "labels"))
    with reading(path):
        adjacency, x = (csr_matrix(*(arrays[f"{part}_{array}"] for array in _ARRAYS)) for part in ("adj", "attr"))
        # Copies differ in whether words are counted. Everybody who uses these graphs turns them into 0 and 1.
        x.data = (x.data > 0).astype(np.float32)
        edges = adjacency.tocoo()
        return RawGraph(x, without_loops(np.stack([edges.row, edges.col])), arrays["labels"])


coauthor_cs = NamedGraph("coauthor_cs", read)
coauthor_physics = NamedGraph("coauthor_physics", read)
amazon_computers = NamedGraph("amazon_computers", read)
corafull = NamedGraph("corafull", read)
cora_ml = NamedGraph("cora_ml", read)
citation_citeseer = NamedGraph("citation_citeseer", read)
citation_dblp = NamedGraph("citation_dblp", read)
