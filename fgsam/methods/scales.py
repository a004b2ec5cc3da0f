"""Features of nodes at several scales, in directions that one graph gives to all graphs."""

from __future__ import annotations

import torch
from torch import Tensor

from fgsam.episodes.streams import generator
from fgsam.functional.distances import directions
from fgsam.functional.svd import truncated_svd
from fgsam.graph.field import Field
from fgsam.graph.graph import Graph
from fgsam.graph.sparse import SparseMatrix
from fgsam.methods.smoothing import PLAIN_BELOW, Chain, PageRank, remembered, sparse_unit_rows

HOPS = (0, 1, 2, 4, 8)
"""Numbers of smoothing steps, ascending."""

WALK = 9
"""Mean number of steps of the random walks behind the last scale."""

NUM_SCALES = len(HOPS) + 1

BASIS_HOPS = 2
"""Features smoothed so often give the directions that are kept."""


class Scales:
    """Features smoothed over 0, 1, 2, 4 and 8 hops and by personalised PageRank, all in the same directions.

    Rows of ``x`` are brought to unit length, projected on the leading right singular vectors of ``A^2 x`` (from more
    than 256 features on), and smoothed by ``A``, the symmetrically normalised adjacency with self-loops. At each scale
    rows are brought to length one, the mean row is subtracted, and the rest is brought to length one again.

    Directions and mean rows are those of one graph, so that a learner can be trained on it and tested on another.

    Args:
        graph: Gives directions and mean rows; labels are not read.
        dim: Number of directions to keep.
    """

    def __init__(self, graph: Graph, dim: int) -> None:
        self._key = (graph.digest, dim)
        self._axes = _leading_directions(graph, dim) if graph.num_features > PLAIN_BELOW else None
        self._centre = self._smoothed(graph).mean(0)
        self.dim = self._centre.size(-1)

    def rows(self, graph: Graph, field: Field, *, peer: bool) -> Tensor:
        """Look up the rows of the targets of a field.

        Args:
            graph: What the field was cut from.
            field: Its targets are asked for.
            peer: Give the row of no hops at every scale, computed from the features of the targets alone.

        Returns:
            Shape ``[num_targets, num_scales, dim]``, in the precision of the graph, on its device.
        """
        if peer:
            own = directions(_projected(field.x, self._axes)[: field.num_targets])
            return directions(own - self._centre[0].to(own)).unsqueeze(1).expand(-1, NUM_SCALES, -1)
        found = self._smoothed(graph)[field.node_ids[: field.num_targets].cpu()]
        return directions(found - self._centre.to(found)).to(graph.device)

    def _smoothed(self, graph: Graph) -> Tensor:
        """Rows of all nodes at all scales, before the mean is subtracted; kept for the last graphs."""
        key = ("scales at once", *self._key, graph.digest, graph.dtype)
        return remembered(key, lambda: directions(_at_all_scales(graph, self._axes)))


def _at_all_scales(graph: Graph, axes: Tensor | None) -> Tensor:
    weights = graph.weights("sym")
    x = graph.x if axes is None else sparse_unit_rows(graph.x)
    rows = _projected(x, axes).to(graph.dtype)
    if axes is None:
        rows = directions(rows)
    found = [rows]
    for hop in range(1, HOPS[-1] + 1):
        rows = weights.product(rows)
        if hop in HOPS:
            found.append(rows)
    return torch.stack([*found, PageRank(weights, WALK).product(found[0])], dim=1)


def _projected(x: Tensor | SparseMatrix, axes: Tensor | None) -> Tensor:
    """Features in the directions that are kept."""
    if axes is None:
        return x.dense() if isinstance(x, SparseMatrix) else x
    axes = axes.to(device=x.device, dtype=x.dtype)
    return x.product(axes) if isinstance(x, SparseMatrix) else x @ axes


def _leading_directions(graph: Graph, dim: int) -> Tensor:
    weights = graph.weights("sym").to(dtype=torch.float32)
    matrix = Chain((*(weights,) * BASIS_HOPS, sparse_unit_rows(graph.x)))
    seed = int(generator("svd", "sym", BASIS_HOPS).integers(2**62))
    rng = torch.Generator().manual_seed(seed)
    return truncated_svd(matrix, min(dim, *matrix.shape), generator=rng, num_iterations=1)[2]
