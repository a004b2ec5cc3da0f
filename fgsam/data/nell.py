"""NELL: entities of a knowledge base, joined through relations, as far as their classes are known.

Sources:
    Carlson et al., Toward an Architecture for Never-Ending Language Learning, 2010.
    Yang et al., Revisiting Semi-supervised Learning with Graph Embeddings, 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fgsam.data.named import NamedGraph
from fgsam.data.reading import RawGraph, csr_matrix, read_npz, reading, rows_at, whole_numbers

_MATRIX = ("attr_data", "attr_indices", "attr_indptr", "attr_shape")


def read(paths: Sequence[Path]) -> RawGraph:
    """Read the edges, each undirected pair once, the labels, and the features of the entities; relations have none."""
    (path,) = paths
    arrays = read_npz(path, (*_MATRIX, "edges", "entity_nodes", "labels"))
    with reading(path):
        num_nodes = len(arrays["labels"])
        entities = whole_numbers(arrays["entity_nodes"], low=0, high=num_nodes - 1, what="'entity_nodes'")
        x = rows_at(csr_matrix(*(arrays[key] for key in _MATRIX)), entities, num_nodes)
        return RawGraph(x, arrays["edges"].T, arrays["labels"])


nell = NamedGraph("nell", read)
