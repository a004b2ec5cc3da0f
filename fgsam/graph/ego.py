"""Neighbourhoods of single nodes, each by itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from fgsam.checks import check_non_negative
from fgsam.graph.arrays import preview
from fgsam.graph.sparse import SparseMatrix


@dataclass(frozen=True, eq=False)
class EgoSets:
    """Sets of rows of a field, and the edges within each of them.

    A member is a row in one set; a row may be a member of many sets.

    Attributes:
        rows: Row of each member in the field, int64, shape ``[num_members]``: set by set, ascending within a set.
        pointer: Start of each set in ``rows``, int64, shape ``[num_sets + 1]``.
        adjacency: In-edges of each member within its set, parallel ones added up, shape
            ``[num_members, num_members]``: one block a set.
    """

    rows: Tensor
    pointer: Tensor
    adjacency: SparseMatrix

    @property
    def num_members(self) -> int:
        """Number of members of all sets together."""
        return len(self.rows)

    @property
    def sizes(self) -> Tensor:
        """Number of members of each set, int64, shape ``[num_sets]``."""
        return self.pointer.diff()

    def to(self, device: torch.device | str) -> EgoSets:
        """Copy the sets to a device; itself where they are there."""
        if self.rows.device == torch.device(device):
            return self
        return EgoSets(self.rows.to(device), self.pointer.to(device), self.adjacency.to(device=device))


def ego_sets(seeds: np.ndarray, sets: np.ndarray, num_hops: int, weights: SparseMatrix, is_cut: np.ndarray) -> EgoSets:
    """Collect the nodes around some nodes.

    Args:
        seeds: Nodes to start from, shape ``[num_seeds]``.
        sets: Number of the set that each belongs to, from 0, shape ``[num_seeds]``.
        num_hops: A set holds what lies at most so many in-edges away from its seeds, at least 0.
        weights: In-edges of each node, shape ``[num_nodes, num_nodes]``.
        is_cut: Whether a node has in-edges that are not in ``weights``, shape ``[num_nodes]``.

    Raises:
        ValueError: If a set reaches a missing edge, a seed or a number is out of range, or ``num_hops`` is negative.
    """
    check_non_negative(num_hops=num_hops)
    num_nodes = len(is_cut)
    lowest, highest = min(seeds.min(initial=0), sets.min(initial=0)), seeds.max(initial=-1)
    if lowest < 0 or highest >= num_nodes or len(seeds) != len(sets):
        raise ValueError(
            f"Expected 'seeds' in 0..{num_nodes - 1} and for each of them the number of a set, from 0 "
            f"(got seeds {preview(seeds)}, sets {preview(sets)})"
        )
    found = _pattern(sets, seeds, (int(sets.max(initial=-1)) + 1, num_nodes))
    edges = weights.scipy()
    near = scipy.sparse.csr_array((np.ones_like(edges.data), edges.indices, edges.indptr), shape=edges.shape)
    for _ in range(num_hops):
        if is_cut[found.indices].any():
            raise ValueError(
                f"Expected a field that holds every node within {num_hops} hops of 'seeds' (got one that ends before). "
                "Build it with a larger num_hops, or with these nodes as targets."
            )
        found = found + found @ near
        found.data[:] = 1.0  # the number of walks would grow from hop to hop
    found.sort_indices()
    rows, pointer = (torch.from_numpy(part.astype(np.int64)) for part in (found.indices, found.indptr))
    return EgoSets(rows, pointer, SparseMatrix.from_scipy(_induced(found, weights)))


def _induced(sets: scipy.sparse.csr_array, weights: SparseMatrix) -> scipy.sparse.csr_array:
    """The edges of each set whose two ends belong to it, members numbered set by set."""
    num_sets, num_nodes = sets.shape
    owner = np.repeat(np.arange(num_sets, dtype=np.int64), np.diff(sets.indptr))
    keys = owner * num_nodes + sets.indices  # ascending, because the columns of each set are
    edges = weights.rows(sets.indices).scipy()
    target = np.repeat(np.arange(len(keys)), np.diff(edges.indptr))
    wanted = owner[target] * num_nodes + edges.indices
    source = np.searchsorted(keys, wanted)
    inside = source < len(keys)
    inside[inside] = keys[source[inside]] == wanted[inside]
    entries = (edges.data[inside], (target[inside], source[inside]))
    return scipy.sparse.csr_array(entries, shape=(len(keys), len(keys)))


def _pattern(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> scipy.sparse.csr_array:
    """A one at each place that is named, however often."""
    matrix = scipy.sparse.csr_array((np.ones(len(rows), dtype=np.float32), (rows, columns)), shape=shape)
    matrix.data[:] = 1.0
    return matrix
