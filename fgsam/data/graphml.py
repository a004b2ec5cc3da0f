"""Reads and writes a graph as GraphML, through networkx."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fgsam.data.columns import Table
from fgsam.data.parts import Parts
from fgsam.data.tables import as_rows, parts_of
from fgsam.files import write_atomically

_KEPT = ("directed", "digest")


def read(path: Path) -> Parts:
    """Read a graph: the node attribute ``label`` is the class, all others are features, in the order of their names.

    An edge attribute ``weight`` is the weight. Whether the edges have a direction is what the file says.

    Raises:
        ValueError: If the file is damaged, or a node or an edge lacks an attribute or has a faulty one.
    """
    import networkx

    try:
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # networkx warns where it guesses
            graph = networkx.read_graphml(file)
    # A damaged file fails in one of these ways, depending on the byte that was hit.
    except (
        *(SyntaxError, ValueError, TypeError, LookupError, AttributeError, UserWarning),
        networkx.NetworkXException,
    ) as error:
        raise ValueError(
            f"Expected '{path}' to be readable as GraphML (got {type(error).__name__}: {error}). Save it again."
        ) from error
    nodes = [{"id": str(name)} | _only(attributes, "id") for name, attributes in graph.nodes(data=True)]
    pairs = [(str(u), str(v), attributes) for u, v, attributes in graph.edges(data=True)]
    if not graph.is_directed():  # networkx lists each edge once
        pairs += [(v, u, attributes) for u, v, attributes in pairs if u != v]
    edges = [{"source": u, "target": v} | _weight(attributes) for u, v, attributes in pairs]
    said = {"directed": str(graph.is_directed()), **{key: str(graph.graph[key]) for key in _KEPT if key in graph.graph}}
    return parts_of(
        _table(path, ["id", "label"], nodes, "node number", graph.graph.get("node_default", {}), said),
        _table(path, ["source", "target"], edges, "edge number", _weight(graph.graph.get("edge_default", {})), {}),
    )


def write(parts: Parts, path: Path) -> None:
    """Write a graph; a feature that is zero is left to the default of its attribute, but for the first node."""
    import networkx

    node_header, node_rows, edge_header, edge_rows = as_rows(parts)
    graph = networkx.MultiDiGraph(directed=bool(parts.directed), digest=str(parts.digest))
    graph.graph["node_default"] = dict.fromkeys(node_header[2:], 0.0)
    for name, label, *values in node_rows:
        attributes = {} if label == "" else {"label": int(label)}
        row = zip(node_header[2:], values, strict=True)
        features = {column: float(value) for column, value in row if value != "0" or name == "0"}
        graph.add_node(name, **attributes, **features)
    for source, target, *weight in edge_rows:
        graph.add_edge(source, target, **dict(zip(edge_header[2:], map(float, weight), strict=True)))
    buffer = io.BytesIO()
    networkx.write_graphml(graph, buffer)
    write_atomically(path, buffer.getvalue())


def _only(attributes: Mapping[str, Any], reserved: str) -> dict[str, Any]:
    return {key: value for key, value in attributes.items() if key != reserved}


def _weight(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {"weight": attributes["weight"]} if "weight" in attributes else {}


def _table(
    path: Path,
    wanted: Sequence[str],
    records: Sequence[Mapping[str, Any]],
    unit: str,
    default: Mapping[str, Any],
    remarks: Mapping[str, str],
) -> Table:
    others = {*default, *(key for record in records for key in record)}.difference(wanted)
    header = [*wanted, *sorted(others, key=_in_order)]
    return Table(path, tuple(header), enumerate(_rows(header, records, default), start=1), unit, remarks)


def _in_order(name: str) -> list[str | int]:
    """Attributes of GraphML have no order: by name, with x2 before x10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _rows(
    header: Sequence[str], records: Iterable[Mapping[str, Any]], default: Mapping[str, Any]
) -> Iterator[Sequence[str]]:
    place = {name: column for column, name in enumerate(header)}
    defaults = [str(default.get(name, "")) for name in header]
    for record in records:
        row = defaults.copy()
        for name, value in record.items():
            row[place[name]] = str(value)
        yield row
