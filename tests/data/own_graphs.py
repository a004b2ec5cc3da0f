"""Small graphs of every kind that an own file may hold, and damage to files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy.sparse

from fgsam.graph.graph import Graph

KINDS = {
    "plain": {},
    "directed": {"directed": True},
    "parallel edges": {"directed": True, "parallel": True},
    "both directions, parallel": {"directed": True, "parallel": True, "both": True},
    "weighted": {"weighted": True},
    "directed, weighted, parallel": {"directed": True, "weighted": True, "parallel": True},
    "sparse": {"features": "sparse"},
    "directed, sparse": {"features": "sparse", "directed": True},
    "no features": {"features": None},
    "float64": {"features": "float64"},
    "labels with gaps": {"gaps": True},
    "no edges": {"num_edges": 0},
}
"""Arguments of ``graph_of`` by what they make; all have unlabelled and isolated nodes and self-loops."""


def graph_of(
    *,
    directed: bool = False,
    weighted: bool = False,
    parallel: bool = False,
    both: bool = False,
    gaps: bool = False,
    features: str | None = "float32",
    num_edges: int = 50,
    num_nodes: int = 30,
) -> Graph:
    rng = np.random.default_rng(3)
    edges = rng.integers(0, num_nodes - 3, (2, num_edges))
    edges[:, :2] = edges[:1, :2]
    if parallel:
        edges = np.concatenate([edges, edges[:, :5]], axis=1)
    if both:
        edges = np.concatenate([edges, edges[::-1]], axis=1)
    labels = rng.integers(0, 4, num_nodes)
    labels[:4] = -1
    x = {
        "float32": rng.standard_normal((num_nodes, 3)).astype(np.float32),
        "float64": rng.standard_normal((num_nodes, 3)) * 1e-9,
        "sparse": scipy.sparse.random_array((num_nodes, 40), density=0.05, rng=rng, dtype=np.float32),
        None: None,
    }[features]
    weight = rng.standard_normal(edges.shape[1]) / 3 if weighted else None
    return Graph.from_arrays(
        x, edges, np.where(gaps & (labels > 0), labels + 7, labels), directed=directed, edge_weight=weight
    )


def damaged(path: Path) -> Iterator[str]:
    """Cut a file at 50 places, then turn one bit at 50 places; the file is whole again at the end."""
    whole = path.read_bytes()
    rng = np.random.default_rng(len(whole))
    for length in sorted(rng.choice(len(whole), size=50, replace=False).tolist()):
        path.write_bytes(whole[:length])
        yield f"cut after {length} of {len(whole)} bytes"
    for place in sorted(rng.choice(len(whole), size=50, replace=False).tolist()):
        content = bytearray(whole)
        content[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(content))
        yield f"byte {place} of {len(whole)} changed"
    path.write_bytes(whole)
