"""A graph in the npz form that ``dataset.path`` reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fgsam.graph.graph import Graph
from fgsam.graph.sparse import SparseMatrix


def save_graph(graph: Graph, path: Path) -> None:
    """Write an unweighted graph with sparse features."""
    assert isinstance(graph.x, SparseMatrix)
    x = graph.x.scipy()
    np.savez(
        path,
        edge_index=graph.edge_index.numpy(),
        labels=graph.labels.numpy(),
        x_data=x.data,
        x_indices=x.indices,
        x_indptr=x.indptr,
        x_shape=np.array(x.shape),
    )
