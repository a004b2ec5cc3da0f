"""Amazon-Clothing, the 20 classes that are published: products, joined when they are viewed or bought together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import scipy.sparse as sp

from fgsam.data.card import load_card
from fgsam.data.locate import locate
from fgsam.graph.graph import Graph

NAME = "clothing20"
FILES = ("few_shot_data/Amazon_clothing_network", "few_shot_data/Amazon_clothing_test.mat")


def load(root: Path | None = None, *, symmetrise: bool | None = None, whole: bool = False) -> Graph:
    """Load the graph: 9,360 products of 20 classes with the words of their descriptions, counted.

    Args:
        root: Folder of raw files; by default the one that the environment variable ``FGSAM_DATA`` names.
        symmetrise: Without effect: the graph has both directions of every edge.
        whole: Keep all 24,919 products; those of the other 57 classes have label -1 and no features.

    Raises:
        FileNotFoundError: If a raw file is missing.
        ValueError: If their content is not the known one.

    Source:
        Ding et al., Graph Prototypical Networks for Few-shot Learning on Attributed Networks, 2020.
    """
    network, test = locate(NAME, FILES, root)
    try:
        edges = np.loadtxt(network, dtype=np.int64, delimiter="\t", ndmin=2).T
        content: dict[str, Any] = scipy.io.loadmat(test)
        nodes = content["Index"].reshape(-1).astype(np.int64)
        features = sp.csr_matrix(content["Attributes"], dtype=np.float32)
        class_ids = content["Label"].reshape(-1).astype(np.int64)
    # scipy reports a damaged MATLAB file in many ways; none of them names the file.
    except Exception as error:
        raise ValueError(
            f"Expected '{network}' and '{test}' to be readable ({type(error).__name__}: {error}). Fetch them again."
        ) from error
    num_nodes = int(edges.max()) + 1
    labels = np.full(num_nodes, -1, dtype=np.int64)
    # The class ids lie between 2 and 65; here they are counted from 0, in the same order.
    labels[nodes] = np.unique(class_ids, return_inverse=True)[1]
    place = sp.csr_matrix(
        (np.ones(len(nodes), dtype=np.float32), (nodes, np.arange(len(nodes)))), shape=(num_nodes, len(nodes))
    )
    x = (place @ features).tocsr()
    if not whole:
        x, edges, labels = _induced(x, edges, labels)
    graph = Graph.from_arrays(x, edges, labels, directed=symmetrise is False, name=NAME)
    return load_card(NAME).check(graph, "whole" if whole else "default")


def _induced(x: sp.csr_matrix, edges: np.ndarray, labels: np.ndarray) -> tuple[sp.csr_matrix, np.ndarray, np.ndarray]:
    """Keep the labelled nodes, in ascending order, and the edges between them."""
    kept = labels >= 0
    new_id = np.cumsum(kept) - 1
    return x[kept], new_id[edges[:, kept[edges].all(axis=0)]], labels[kept]
