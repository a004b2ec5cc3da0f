"""ogbn-arxiv in the packed tables of the Open Graph Benchmark; directed, as it is distributed.

Source:
    Hu et al., Open Graph Benchmark: Datasets for Machine Learning on Graphs, 2020.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fgsam.data.named import NamedGraph
from fgsam.data.reading import RawGraph, parsed_rows, reading


def read(paths: Sequence[Path]) -> RawGraph:
    """Read the edges, the features and the labels, one line each, without header."""
    edges, features, labels = paths
    return RawGraph(
        _table(features, np.float32),
        _table(edges, np.int64).T,
        _table(labels, np.int64).reshape(-1),
    )


def _table(path: Path, dtype: Any) -> np.ndarray:
    with reading(path), gzip.open(path, "rt", encoding="ascii") as lines:
        return parsed_rows(lines, ",", dtype)


ogbn_arxiv = NamedGraph("ogbn_arxiv", read, directed=True)
