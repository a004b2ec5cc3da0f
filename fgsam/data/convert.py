"""Turns a graph in any of the known formats into another one, above all into our own npz."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fgsam.data import graphml, own, saved, tables
from fgsam.data.parts import Parts
from fgsam.graph.graph import Graph

FORMATS = {
    ".npz": "our own npz",
    ".pt": "PyTorch Geometric's Data, saved with torch.save",
    ".csv": "a table of edges, with nodes.csv beside it",
    ".parquet": "a table of edges, with nodes.parquet beside it",
    ".graphml": "GraphML",
}
"""What each suffix stands for."""

_TABLES = (".csv", ".parquet")
_WRITERS: dict[str, Callable[[Parts, Path], None]] = {
    ".npz": own.write,
    ".pt": saved.write,
    ".csv": tables.write,
    ".parquet": tables.write,
    ".graphml": graphml.write,
}


@dataclass(frozen=True)
class Report:
    """What was converted.

    Attributes:
        target: The file that was written.
        num_nodes: Nodes.
        num_edges: Directed pairs; an undirected edge counts twice.
        num_features: Feature columns, 0 without.
        num_classes: Distinct classes.
        is_directed: Whether some edge lacks its reverse.
        digest: ``Graph.digest`` of the graph.
        notes: What a user may want to know, a sentence each.
    """

    target: Path
    num_nodes: int
    num_edges: int
    num_features: int
    num_classes: int
    is_directed: bool
    digest: str
    notes: tuple[str, ...]


def convert(
    source: str | Path,
    target: str | Path,
    *,
    nodes: str | Path | None = None,
    directed: bool | None = None,
    node_type: str | None = None,
    edge_type: str | None = None,
    overwrite: bool = False,
) -> Report:
    """Write a graph in another format; the suffixes say in which, see ``FORMATS``.

    What was written is read again and compared before this returns.

    Args:
        source: The file, or a folder that holds edges.csv and nodes.csv (or .parquet).
        target: The file to write; for tables that of the edges, with nodes.csv (or .parquet) beside it.
        nodes: The table of nodes of ``source``, where it has another name.
        directed: Keep the edges as given (True), or add the missing reverse edges and drop duplicates (False); by
            default what the file says. One of the two must speak if a reverse edge is missing.
        node_type: Nodes to take from a heterogeneous PyTorch Geometric graph, with the edges among them.
        edge_type: The middle name of the edges to take, where the nodes have several; by default all.
        overwrite: Replace the target if it exists.

    Returns:
        Counts and notes.

    Raises:
        FileNotFoundError: If a source file is missing.
        FileExistsError: If the target exists already.
        ValueError: If a suffix is unknown, the source is faulty, or an option does not fit its format.
    """
    source, target = Path(source), Path(target)
    write = _WRITERS[_suffix(target)]
    written = [target, tables.nodes_beside(target)] if target.suffix in _TABLES else [target]
    _check_free(written, overwrite)
    parts, graph = read(source, nodes=nodes, directed=directed, node_type=node_type, edge_type=edge_type)
    target.parent.mkdir(parents=True, exist_ok=True)
    exported = Parts.of(graph)
    write(exported, target)
    if not _holds(target, exported):
        for path in written:
            path.unlink()
        raise ValueError(
            f"Expected format '{target.suffix}' to hold the graph of '{source}' unchanged (got another one back). "
            "Some of its numbers are too small for float32: write .npz instead."
        )
    return Report(
        target,
        graph.num_nodes,
        graph.num_edges,
        graph.num_features,
        len(np.unique(graph.labels[graph.labels >= 0])),
        graph.is_directed,
        graph.digest,
        tuple(_notes(graph, parts)),
    )


def read(
    source: str | Path,
    *,
    nodes: str | Path | None = None,
    directed: bool | None = None,
    node_type: str | None = None,
    edge_type: str | None = None,
) -> tuple[Parts, Graph]:
    """Read a graph in any of the formats: what the file holds, and the graph made of it.

    The arguments and errors are those of :func:`convert`.
    """
    path = tables.edges_in(Path(source)) if Path(source).is_dir() else Path(source)
    suffix = _suffix(path)
    _check_fits("nodes", nodes, suffix, _TABLES)
    _check_fits("node_type", node_type, suffix, (".pt",))
    _check_fits("edge_type", edge_type, suffix, (".pt",))
    if not path.is_file():
        raise FileNotFoundError(f"Expected a graph in '{path}' (got no such file). Check its name.")
    if suffix in _TABLES:
        parts = tables.read(path, tables.nodes_beside(path) if nodes is None else Path(nodes))
    elif suffix == ".pt":
        parts = saved.read(path, node_type=node_type, edge_type=edge_type)
    else:
        parts = graphml.read(path) if suffix == ".graphml" else own.read(path)
    return parts, parts.build(path, directed)


def _holds(target: Path, exported: Parts) -> bool:
    try:
        _, graph = read(target, directed=exported.directed)
    except ValueError:
        return False
    return graph.digest == exported.digest


def _suffix(path: Path) -> str:
    if path.suffix not in FORMATS:
        known = ", ".join(f"{suffix} ({meaning})" for suffix, meaning in FORMATS.items())
        raise ValueError(f"Expected the name of '{path}' to end in a known format (got '{path.suffix}'): {known}.")
    return path.suffix


def _check_fits(option: str, value: object, suffix: str, formats: tuple[str, ...]) -> None:
    if value is not None and suffix not in formats:
        raise ValueError(
            f"Expected no '{option}' for a source in format '{suffix}' (got '{value}'). "
            f"It belongs to {' and '.join(formats)}."
        )


def _check_free(written: list[Path], overwrite: bool) -> None:
    taken = [path for path in written if path.exists()]
    if taken and not overwrite:
        raise FileExistsError(
            f"Expected a new file (got '{taken[0]}', which exists). Choose another name, or say overwrite "
            "(fgsam data convert: --overwrite)."
        )


def _notes(graph: Graph, parts: Parts) -> list[str]:
    source, target = graph.edge_index.numpy()
    labels = graph.labels.numpy()
    touched = np.unique(np.concatenate([source, target]))
    pairs, given = np.unique(source * graph.num_nodes + target), np.asarray(parts.edge_index)
    given_pairs = given[0] * graph.num_nodes + given[1] if given.size else np.zeros(0, np.int64)
    reversed_pairs = np.unique(target * graph.num_nodes + source)
    counts = {
        "{} of the nodes have no label: they are never drawn into an episode.": int((labels < 0).sum()),
        "{} nodes have no edge.": graph.num_nodes - len(touched),
        "{} edges lead from a node to itself.": int((source == target).sum()),
        "{} edges come more than once in the source.": len(given_pairs) - len(np.unique(given_pairs)),
        "{} reverse edges were added.": len(np.setdiff1d(pairs, given_pairs)),
        "{} edges have no reverse and stay as they are.": len(np.setdiff1d(pairs, reversed_pairs)),
    }
    notes = [text.format(f"{count:,}") for text, count in counts.items() if count]
    if not graph.num_features:
        notes.append("The nodes have no features: a run gives them their degree; dataset.features has other choices.")
    elif parts.feature_names:
        notes.append(f"Features: {_listed(parts.feature_names)}.")
    if parts.class_names:
        notes.append(f"Classes: {_listed([f'{i} = {name}' for i, name in enumerate(parts.class_names)])}.")
    return notes


def _listed(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
