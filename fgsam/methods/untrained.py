"""A floor that says what an architecture gives before it has learned anything."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from fgsam.checks import check_positive
from fgsam.episodes.streams import generator
from fgsam.functional.distances import squared_euclidean
from fgsam.functional.prototypes import class_prototypes
from fgsam.graph.graph import Graph
from fgsam.methods.floors import Floor, Setting, checked_edges, checked_values
from fgsam.nn.encoders import field_of
from fgsam.nn.gcn import GCN
from fgsam.typing import EdgeKind


class Untrained(Floor):
    """Nearest class mean of the embeddings of a GCN with random weights, the same ones for every graph and seed.

    Args:
        layers: Numbers of layers to choose from, at least 1.
        edges: Normalisations to choose from, ``"row"`` and ``"sym"``.
        hidden: Width of the inner layers.
        dim: Length of an embedding.
        num_trials: Settings that are tried, drawn from the candidates; all of them when not given.
    """

    def __init__(
        self,
        *,
        layers: Sequence[int] = (1, 2, 3, 4),
        edges: Sequence[EdgeKind] = ("row", "sym"),
        hidden: int = 128,
        dim: int = 128,
        num_trials: int | None = None,
    ) -> None:
        super().__init__(num_trials=num_trials)
        check_positive(hidden=hidden, dim=dim)
        self.layers, self.edges = checked_values(layers=layers), checked_edges(edges)
        self.hidden, self.dim = hidden, dim

    def candidates(self) -> list[Setting]:
        """Every combination of depth and normalisation."""
        return [{"num_layers": depth, "edges": kind} for depth, kind in product(self.layers, self.edges)]

    def _prepare(self, graph: Graph, setting: Setting) -> Tensor:
        depth, edges = setting["num_layers"], setting["edges"]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(generator("untrained", depth).integers(2**62)))
            encoder = GCN(graph.num_features, hidden=self.hidden, dim=self.dim, num_layers=depth, normalise=edges)
        encoder = encoder.to(device=graph.device, dtype=graph.dtype).eval()
        with torch.no_grad():
            rows: Tensor = encoder(field_of(encoder, graph, torch.arange(graph.num_nodes)))
        return rows.cpu()

    def _logits(
        self, setting: Setting, support: Tensor, support_labels: Tensor, query: Tensor, n_way: int, is_query: Tensor
    ) -> Tensor:
        prototypes = class_prototypes(self._known[support], support_labels, n_way)
        return -squared_euclidean(self._known[query], prototypes)
