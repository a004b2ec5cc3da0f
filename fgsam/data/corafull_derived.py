"""CoraFull's citations and classes, with features derived from nearest neighbours of its lost word features."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fgsam.data.card import load_card
from fgsam.data.locate import locate
from fgsam.files import read_arrays
from fgsam.graph.graph import Graph

NAME = "corafull_derived"
FILES = ("corafull_graph/corafull_graph.npz",)


def load(root: Path | None = None, *, symmetrise: bool | None = None) -> Graph:
    """Load the graph: 19,793 papers, 128 derived features, 70 classes.

    A result on it is no result on CoraFull: the input features differ.

    Args:
        root: Folder of raw files; by default the one that the environment variable ``FGSAM_DATA`` names.
        symmetrise: Add the reverse of each citation, as everybody does (the default), or keep 65,311 directed ones.

    Raises:
        FileNotFoundError: If the raw file is missing.
        ValueError: If its content is not the known one.

    Source:
        Bojchevski and Günnemann, Deep Gaussian Embedding of Graphs, 2018.
    """
    (path,) = locate(NAME, FILES, root)
    arrays = read_arrays(path, keys=("edges", "labels", "x_knn"), way_out="Fetch the file again.")
    directed = symmetrise is False
    x = arrays["x_knn"].astype(np.float32)
    graph = Graph.from_arrays(x, arrays["edges"].T, arrays["labels"], directed=directed, name=NAME)
    return load_card(NAME).check(graph, "directed" if directed else "default")
