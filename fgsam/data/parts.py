"""A graph between a file and memory: plain arrays, and what the file says about them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fgsam.graph.graph import Graph
from fgsam.graph.sparse import SparseMatrix

MANY_CLASSES = 10_000
"""Class numbers may have gaps, but above this one they have to be fewer than the nodes: a slip would cost memory."""


@dataclass(frozen=True)
class Parts:
    """What a file holds.

    Attributes:
        edge_index: Source and target of each edge, shape ``[2, num_edges]``.
        labels: Class of each node, shape ``[num_nodes]``; -1 where it is not known.
        x: Features, an array or scipy compressed rows, shape ``[num_nodes, num_features]``; None without.
        edge_weight: Weight of each edge, shape ``[num_edges]``; None for an unweighted graph.
        directed: Keep the edges as given (True), or add missing reverse edges (False); None where the file is silent.
        digest: ``Graph.digest`` of the graph when it was written; None where the file is silent.
        class_names: What the file calls each class, by number; empty where it numbers them itself.
        feature_names: What the file calls each feature; empty where it does not.
    """

    edge_index: Any
    labels: Any
    x: Any = None
    edge_weight: Any = None
    directed: bool | None = None
    digest: str | None = None
    class_names: tuple[str, ...] = ()
    feature_names: tuple[str, ...] = ()

    @classmethod
    def of(cls, graph: Graph) -> Parts:
        """The parts of a graph, edges in the order in which they were given."""
        edge_index, weight = graph.edge_index.numpy(), graph.edge_weight
        order = slice(None) if graph.edge_order is None else np.argsort(graph.edge_order)
        x = graph.x.scipy() if isinstance(graph.x, SparseMatrix) else graph.x.cpu().numpy()
        has_parallel = len(np.unique(edge_index[0] * max(graph.num_nodes, 1) + edge_index[1])) < graph.num_edges
        return cls(
            edge_index[:, order],
            graph.labels.cpu().numpy(),
            x if graph.num_features else None,
            None if weight is None else weight.cpu().numpy()[order],
            directed=graph.is_directed or has_parallel,
            digest=graph.digest,
        )

    def build(self, path: Path, directed: bool | None = None) -> Graph:
        """Return the graph, without any feature column where the file has none.

        Args:
            path: The file, for messages.
            directed: Keep the edges as given, or add the missing reverse ones; by default what the file says.

        Raises:
            ValueError: If the parts do not fit, differ from the digest, or a reverse edge is missing and nothing says
                what to do.
        """
        keep = self.directed if directed is None else directed
        graph = self._graph(path, keep)
        if self.digest is not None:
            stored = graph if keep == self.directed else self._graph(path, self.directed)
            if stored.digest != self.digest:
                raise ValueError(
                    f"Expected '{path}' to have the digest {self.digest} (got {stored.digest}). It was damaged or "
                    "changed since it was written: write it again, or remove 'digest' from it to take it as it is."
                )
        if keep is None and graph.is_directed:
            raise ValueError(
                f"Expected both directions of every edge in '{path}', or a word on what to do (got edges without "
                "their reverse). Add the reverse edges with symmetrise (a run: dataset.symmetrise=true; "
                "fgsam data convert: --symmetrise), or keep the graph directed (dataset.symmetrise=false; --directed)."
            )
        return graph

    def _graph(self, path: Path, directed: bool | None) -> Graph:
        try:
            graph = Graph.from_arrays(
                self.x, self.edge_index, self.labels, edge_weight=self.edge_weight, directed=directed is not False
            )
        except (ValueError, TypeError) as error:
            raise ValueError(f"Expected '{path}' to hold a whole graph: {error}") from error
        if graph.num_classes > max(graph.num_nodes, MANY_CLASSES):
            raise ValueError(
                f"Expected class numbers below {max(graph.num_nodes, MANY_CLASSES):,} in '{path}' "
                f"(got {graph.num_classes - 1}). Number the classes 0, 1, 2, ... first."
            )
        return graph
