"""CoraFull's citations and classes, with features derived from nearest neighbours of its lost word features.

A result on it is no result on CoraFull: the input features differ.

Source:
    Bojchevski and Günnemann, Deep Gaussian Embedding of Graphs, 2018.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fgsam.data.named import NamedGraph
from fgsam.data.reading import RawGraph, read_npz


def read(paths: Sequence[Path]) -> RawGraph:
    """Read the citations, in one direction, the labels and the 128 derived features."""
    (path,) = paths
    arrays = read_npz(path, ("edges", "labels", "x_knn"))
    return RawGraph(arrays["x_knn"].astype(np.float32), arrays["edges"].T, arrays["labels"])


corafull_derived = NamedGraph("corafull_derived", read)
