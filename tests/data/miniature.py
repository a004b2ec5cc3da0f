"""Small files in the format of each named graph, byte-shaped like the real ones, and what they hold."""

from __future__ import annotations

import copyreg
import gzip
import io
import json
import pickle
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import scipy.io
import scipy.sparse as sp

from fgsam.data.card import load_card

LEFT_OUT = 22


class Content(NamedTuple):
    """What a graph shall hold: dense features, directed pairs once each, labels."""

    x: np.ndarray
    edges: np.ndarray
    labels: np.ndarray


def content(
    num_nodes: int = 24, num_features: int = 7, num_classes: int = 4, *, left_out: int | None = None
) -> Content:
    """A random graph; the node ``left_out`` has no edge, no features and class 0."""
    rng = np.random.default_rng(0)
    x = (rng.random((num_nodes, num_features)) < 0.4).astype(np.float32)
    x[:, [0, -1]] = 1
    labels = np.arange(num_nodes) % num_classes
    edges = rng.integers(0, num_nodes, (2, 5 * num_nodes // 2))
    edges = np.unique(edges[:, edges[0] != edges[1]], axis=1)
    # Some files tell the number of nodes by their edges alone.
    edges = np.unique(np.concatenate([edges, [[0], [num_nodes - 1]]], axis=1), axis=1)
    if left_out is not None:
        x[left_out], labels[left_out] = 0, 0
        edges = edges[:, (edges != left_out).all(axis=0)]
    return Content(x, edges, labels)


def both(edges: np.ndarray) -> np.ndarray:
    """The edges and their reverse, once each."""
    return np.unique(np.concatenate([edges, edges[::-1]], axis=1), axis=1)


def attributed(paths: list[Path], graph: Content) -> None:
    """Two CSR matrices; features are counted and one node links to itself."""
    shape = (len(graph.x),) * 2
    source, target = np.concatenate([graph.edges, [[3], [3]]], axis=1)
    adjacency = sp.csr_matrix((np.ones(len(source), dtype=np.float32), (source, target)), shape=shape)
    arrays = {"labels": graph.labels, "class_names": np.array(["a", "b", "c", "d"])}
    for part, matrix in (("adj", adjacency), ("attr", sp.csr_matrix(graph.x * 3))):
        arrays |= {f"{part}_{key}": getattr(matrix, key) for key in ("data", "indices", "indptr")}
        arrays[f"{part}_shape"] = np.array(matrix.shape)
    # The files of graph2gauss carry dictionaries beside the arrays, which nobody needs.
    arrays["idx_to_node"] = np.array({0: "a"}, dtype=object)
    np.savez_compressed(paths[0], **arrays)


def heterophilous(paths: list[Path], graph: Content) -> None:
    """Dense arrays, each undirected pair once."""
    edges = np.unique(np.sort(graph.edges, axis=0), axis=1)
    masks = np.zeros((10, len(graph.x)), dtype=bool)
    np.savez_compressed(
        paths[0],
        node_features=graph.x,
        node_labels=graph.labels,
        edges=edges.T,
        train_masks=masks,
        val_masks=masks,
        test_masks=masks,
    )


def geom_dense(paths: list[Path], graph: Content) -> None:
    """Features in full; an edge stands there twice."""
    rows = [",".join(str(int(value)) for value in row) for row in graph.x]
    _geom(paths, graph, "node_id\tfeature\tlabel", rows, range(len(graph.x)))


def geom_indices(paths: list[Path], graph: Content) -> None:
    """Numbers of the features that are 1; nodes in no order."""
    rows = [",".join(str(i) for i in np.flatnonzero(row)) for row in graph.x]
    order = np.random.default_rng(1).permutation(len(graph.x))
    _geom(paths, graph, f"node_id\tfeature(feature_amount:{graph.x.shape[1] - 1})\tlabel", rows, order)


def _geom(paths, graph, header, rows, order):
    paths[0].write_text("\n".join([header, *(f"{i}\t{rows[i]}\t{graph.labels[i]}" for i in order)]) + "\n")
    edges = [*graph.edges.T, graph.edges[:, 0]]
    paths[1].write_text("\n".join(["node_id\tnode_id", *(f"{a}\t{b}" for a, b in edges)]) + "\n")


def planetoid(paths: list[Path], graph: Content) -> None:
    """Pickles of protocol 2 under the module names of old numpy and scipy; the node LEFT_OUT is missing."""
    num_seen, left_out = 16, LEFT_OUT
    test = np.array(
        [i for i in np.random.default_rng(2).permutation(np.arange(num_seen, len(graph.x))) if i != left_out]
    )
    one_hot = np.eye(graph.labels.max() + 1, dtype=np.int32)[graph.labels]
    neighbours = defaultdict(list)
    for source, target in both(graph.edges).T.tolist():
        neighbours[source].append(target)
    neighbours[0] += [0, neighbours[0][0]]  # a self-loop and a repetition
    neighbours[left_out] = []
    parts = [graph.x[:num_seen], graph.x[test], one_hot[:num_seen], one_hot[test], neighbours]
    parts[:2] = [sp.csr_matrix(part) for part in parts[:2]]
    for path, part in zip(paths, parts, strict=False):
        path.write_bytes(old_pickle(part))
    paths[5].write_text("\n".join(map(str, test)) + "\n")


def old_pickle(value: object) -> bytes:
    """Pickle like Python 2 with old numpy and scipy: other module names, bytes as text."""
    file = io.BytesIO()
    pickler = _OldPickler(file, protocol=2)
    pickler.dump(value)
    return (
        file.getvalue()
        .replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
        .replace(b"cscipy.sparse._csr\n", b"cscipy.sparse.csr\n")
    )


class _OldPickler(pickle._Pickler):
    """Writes bytes as a text string, as protocol 2 had them."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_bytes(self, value):
        self.write(b"T" + len(value).to_bytes(4, "little") + value)
        self.memoize(value)

    dispatch[bytes] = save_bytes

    def reducer_override(self, value):
        if not isinstance(value, sp.csr_matrix):
            return NotImplemented
        state = {"_shape": value.shape, "maxprint": 50, "data": value.data}
        state |= {"indices": value.indices, "indptr": value.indptr}
        return copyreg.__newobj__, (type(value),), state


def few_shot(paths: list[Path], graph: Content) -> None:
    """A network with both directions, and MATLAB tables of train and test nodes; node 5 is in neither."""
    _network(paths[0], graph)
    is_test = graph.labels >= 2
    known = np.arange(len(graph.x)) != 5
    _matlab(paths[1], graph, np.flatnonzero(~is_test & known))
    _matlab(paths[2], graph, np.flatnonzero(is_test & known))


def clothing20(paths: list[Path], graph: Content) -> None:
    """A network and the table of the test nodes."""
    _network(paths[0], graph)
    _matlab(paths[1], graph, np.flatnonzero(graph.labels >= 2))


def _network(path, graph):
    path.write_text("".join(f"{a}\t{b}\n" for a, b in both(graph.edges).T))


def _matlab(path, graph, nodes):
    nodes = np.random.default_rng(3).permutation(nodes)
    scipy.io.savemat(
        path,
        {
            "Index": nodes.reshape(1, -1),
            "Attributes": sp.csc_matrix(graph.x[nodes].astype(np.float64)),
            "Label": graph.labels[nodes].astype(np.float64).reshape(-1, 1),
        },
        do_compression=True,
    )


def corafull_derived(paths: list[Path], graph: Content) -> None:
    """Citations in one direction, small numbers of few bits."""
    arrays = {"knn_edges": graph.edges.T.astype(np.int32), "x_knn": graph.x.astype(np.float16)}
    np.savez_compressed(paths[0], edges=graph.edges.T.astype(np.int32), labels=graph.labels.astype(np.int16), **arrays)


def nell(paths: list[Path], graph: Content) -> None:
    """Features of some nodes only."""
    entities = np.flatnonzero(graph.x.any(axis=1)).astype(np.int32)
    matrix = sp.csr_matrix(graph.x[entities])
    np.savez_compressed(
        paths[0],
        edges=graph.edges.T.astype(np.int32),
        entity_nodes=entities,
        labels=graph.labels.astype(np.int16),
        attr_shape=np.array(matrix.shape),
        **{f"attr_{key}": getattr(matrix, key) for key in ("data", "indices", "indptr")},
    )


def email(paths: list[Path], graph: Content) -> None:
    """Text; the lines are not in the order of the ids."""
    order = np.random.default_rng(4).permutation(len(graph.x))
    rows = ["\t".join(map(str, [i, graph.labels[i], *graph.x[i].tolist()])) for i in order]
    paths[0].write_text("\n".join([f"{len(graph.x)}\t{graph.x.shape[1]}", *rows]) + "\n")
    paths[1].write_text("".join(f"{a}\t{b}\n" for a, b in both(graph.edges).T))


def ogb(paths: list[Path], graph: Content) -> None:
    """Packed tables without header: edges, features, labels."""
    tables = (graph.edges.T.tolist(), graph.x.tolist(), graph.labels.reshape(-1, 1).tolist())
    for path, table in zip(paths, tables, strict=True):
        path.write_bytes(gzip.compress("".join(",".join(map(str, row)) + "\n" for row in table).encode(), mtime=0))


def reddit(paths: list[Path], graph: Content) -> None:
    """Dense arrays, and a scipy matrix of coordinates with both directions."""
    ids = np.arange(len(graph.x))
    np.savez(paths[0], feature=graph.x.astype(np.float64), label=graph.labels, node_types=ids % 3 + 1, node_ids=ids)
    source, target = both(graph.edges).astype(np.int32)
    sp.save_npz(paths[1], sp.coo_matrix((np.ones(len(source)), (source, target)), shape=(len(graph.x),) * 2))


def wikics(paths: list[Path], graph: Content) -> None:
    """One object with lists of links."""
    links = [graph.edges[1, graph.edges[0] == i].tolist() for i in range(len(graph.x))]
    nodes = {"features": graph.x.tolist(), "labels": graph.labels.tolist(), "links": links}
    masks = {key: [[]] for key in ("train_masks", "val_masks", "stopping_masks", "test_mask")}
    paths[0].write_text(json.dumps(nodes | masks))


FORMATS: dict[str, Callable[[list[Path], Content], None]] = {
    "corafull": attributed,
    "roman_empire": heterophilous,
    "texas": geom_dense,
    "cornell": geom_dense,
    "actor": geom_indices,
    "pubmed": planetoid,
    "fsnc_dblp": few_shot,
    "amazon_clothing": few_shot,
    "amazon_electronics": few_shot,
    "clothing20": clothing20,
    "corafull_derived": corafull_derived,
    "nell": nell,
    "email": email,
    "ogbn_arxiv": ogb,
    "reddit": reddit,
    "wikics": wikics,
}
"""For each format the graphs that are tested with it: those without data, and one for each other reader."""


def write(name: str, root: Path, graph: Content) -> list[Path]:
    """Write the files of a graph, at the places that its card names, and return them."""
    paths = [root / file for file in load_card(name).files]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    FORMATS[name](paths, graph)
    return paths
