"""A graph as two tables: the nodes with their classes and features, and the edges."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import scipy.sparse

from fgsam.checks import suggest
from fgsam.data.columns import Table, read_table, write_table
from fgsam.data.faults import Faults
from fgsam.data.parts import Parts

EDGES, NODES = "edges", "nodes"
_NODE_COLUMNS = ("id", "label")
_EDGE_COLUMNS = ("source", "target")
_WHOLE = re.compile(r"[+-]?\d+(\.0*)?")
_LARGEST = float(np.finfo(np.float32).max)
_NUM_COMPARED = 10_000
"""Among how many ids the nearest one to a wrong id is looked for."""


def edges_in(folder: Path) -> Path:
    """The table of edges that a folder holds.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If there are two.
    """
    found = [path for suffix in (".csv", ".parquet") if (path := folder / f"{EDGES}{suffix}").is_file()]
    if not found:
        raise FileNotFoundError(
            f"Expected edges.csv or edges.parquet in the folder '{folder}' (got neither). "
            "Name the table of edges, and that of the nodes with nodes (fgsam data convert: --nodes)."
        )
    if len(found) > 1:
        raise ValueError(f"Expected one table of edges in '{folder}' (got edges.csv and edges.parquet). Name one.")
    return found[0]


def nodes_beside(edges: Path) -> Path:
    """Where the nodes stand that belong to a table of edges, unless their table has a name of its own."""
    return edges.with_name(f"{NODES}{edges.suffix}")


def read(edges: Path, nodes: Path) -> Parts:
    """Read a graph from two files.

    Args:
        edges: The table with the columns ``source``, ``target`` and, if wanted, ``weight``.
        nodes: The table with the columns ``id``, ``label`` and one for each feature.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged or a row is faulty; the message lists the first ten faults.
    """
    if not nodes.is_file():
        raise FileNotFoundError(
            f"Expected the table of nodes in '{nodes}' (got no such file). It has the columns id, label and one for "
            "each feature. Name it with nodes (fgsam data convert: --nodes)."
        )
    return parts_of(read_table(nodes), read_table(edges))


def parts_of(nodes: Table, edges: Table) -> Parts:
    """Make a graph of two tables; nodes are numbered in the order of their rows.

    Labels that are whole numbers below the number of nodes stay as they are; others are numbered in sorted order. An
    empty label, and -1, mean that the class is not known. Features are kept in float32.

    Raises:
        ValueError: If a column is missing, or a row is faulty; the message lists the first ten faults of a table.
    """
    faults = Faults(nodes.path)
    id_place, label_place = _places(nodes, _NODE_COLUMNS, faults)
    features = [place for place in range(len(nodes.header)) if place not in (id_place, label_place)]
    number: dict[str, int] = {}
    first_at: list[int] = []
    labels: list[str] = []
    x: list[np.ndarray] = []
    for row, cells in _whole_rows(nodes, faults):
        name = cells[id_place]
        if not name or name in number:
            other = f"'{name}', which {nodes.unit} {first_at[number[name]]} has" if name else "nothing"
            text = f"an id of its own (got {other})"
            faults.add(row, _place(nodes, row, id_place), f"expected {text}")
        number.setdefault(name, len(number))
        first_at.append(row)
        labels.append(cells[label_place])
        x.append(_numbers(nodes, row, cells, features, faults))
    if not first_at:
        faults.add(0, "the table", "expected one row for each node (got none)")
    classes, class_names = _numbered(nodes, label_place, labels, first_at, faults)
    faults.check()
    edge_index, weight = _edges(edges, number, nodes.path)
    remarks = nodes.remarks
    return Parts(
        edge_index,
        classes,
        np.stack(x) if features else None,
        weight,
        directed={"True": True, "False": False}.get(remarks.get("directed", "")),
        digest=remarks.get("digest"),
        class_names=class_names,
        feature_names=tuple(nodes.header[place] for place in features),
    )


def write(parts: Parts, edges: Path) -> None:
    """Write a graph as two tables, that of the nodes beside that of the edges; numbers keep every bit of float32."""
    node_header, node_rows, edge_header, edge_rows = as_rows(parts)
    remarks = {"directed": str(parts.directed), "digest": str(parts.digest)}
    write_table(nodes_beside(edges), node_header, node_rows, remarks)
    write_table(edges, edge_header, edge_rows)


def as_rows(
    parts: Parts,
) -> tuple[list[str], Iterator[list[str]], list[str], Iterator[list[str]]]:
    """Header and rows of the nodes, header and rows of the edges."""
    width = 0 if parts.x is None else parts.x.shape[1]
    weight = parts.edge_weight
    return (
        [*_NODE_COLUMNS, *(f"x{column}" for column in range(width))],
        _node_rows(parts),
        [*_EDGE_COLUMNS, *([] if weight is None else ["weight"])],
        (
            [str(source), str(target), *([] if weight is None else [_text(weight[edge])])]
            for edge, (source, target) in enumerate(parts.edge_index.T.tolist())
        ),
    )


def _node_rows(parts: Parts) -> Iterator[list[str]]:
    num_nodes = len(parts.labels)
    x = scipy.sparse.csr_array((num_nodes, 0) if parts.x is None else parts.x)
    zeros = ["0"] * x.shape[1]
    for node, label in enumerate(parts.labels.tolist()):
        row, set_here = zeros.copy(), slice(x.indptr[node], x.indptr[node + 1])
        for column, value in zip(x.indices[set_here].tolist(), x.data[set_here], strict=True):
            row[column] = _text(value)
        yield [str(node), "" if label < 0 else str(label), *row]


def _text(value: np.floating) -> str:
    return f"{np.float32(value):.9g}"  # the digits that tell any two numbers of float32 apart


def _places(table: Table, wanted: tuple[str, ...], faults: Faults) -> list[int]:
    """Where the wanted columns stand; all later rows would be faulty without them, so the faults are raised here."""
    header = table.header
    separator = next((mark for mark in (";", "\t", "|") if len(header) == 1 and mark in header[0]), None)
    if separator:
        faults.add(0, _header(table), f"expected values separated by commas (got {separator!r})")
        faults.check()
    for name in wanted:
        if name not in header:
            others = [column for column in header if column not in wanted]
            hint = f"Is it one of {', '.join(map(repr, others[:10]))}? Then rename that." if others else ""
            faults.add(0, _header(table), f"expected a column '{name}' (got {_listed(header)}). {hint}")
    for name in sorted({name for name in header if header.count(name) > 1}):
        faults.add(0, _header(table), f"expected one column '{name}' (got {header.count(name)})")
    faults.check()
    return [header.index(name) for name in wanted]


def _listed(header: Sequence[str]) -> str:
    return ", ".join(header[:10]) + (", ..." if len(header) > 10 else "") if header else "no header"


def _whole_rows(table: Table, faults: Faults) -> Iterator[tuple[int, Sequence[str]]]:
    for row, cells in table.rows:
        if len(cells) == len(table.header):
            yield row, cells
        else:
            faults.add(
                row, f"{table.unit} {row}", f"expected {len(table.header)} values as in the header (got {len(cells)})"
            )


def _header(table: Table) -> str:
    return "line 1, the header" if table.unit == "line" else "the columns"


def _place(table: Table, row: int, column: int) -> str:
    return f"{table.unit} {row}, column '{table.header[column]}'"


def _is_number(text: str) -> bool:
    try:
        return abs(float(text)) <= _LARGEST and "_" not in text
    except ValueError:
        return False


def _numbers(table: Table, row: int, cells: Sequence[str], places: list[int], faults: Faults) -> np.ndarray:
    texts = [cells[place] for place in places]
    with contextlib.suppress(ValueError):  # a whole row at once, unless something is wrong with it
        values = np.array(list(map(float, texts)))
        if (np.abs(values) <= _LARGEST).all() and "_" not in "".join(texts):
            return values.astype(np.float32)
    for place, text in zip(places, texts, strict=True):
        if not _is_number(text):
            got = f"'{text}'" if text else "nothing"
            faults.add(row, _place(table, row, place), f"expected a finite number (got {got})")
    return np.zeros(len(places), dtype=np.float32)


def _numbered(
    table: Table, column: int, labels: list[str], rows: list[int], faults: Faults
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Number the classes, and return what each was called if the numbers are new."""
    is_whole = [_WHOLE.fullmatch(label) is not None for label in labels]
    named = [label for label in labels if label]
    num_whole = sum(is_whole)
    if num_whole not in (0, len(named)):  # one kind is a slip: name the rarer
        expects_number = 2 * num_whole >= len(named)
        for row, label, whole in zip(rows, labels, is_whole, strict=True):
            if label and whole != expects_number:
                kind = "a whole number" if expects_number else "a name"
                faults.add(row, _place(table, row, column), f"expected {kind} as in the other rows (got '{label}')")
        return np.zeros(len(labels), dtype=np.int64), ()
    if num_whole == 0:
        for row, label in zip(rows, labels, strict=True):
            if label.lower() in ("nan", "none", "null"):
                faults.add(
                    row, _place(table, row, column), f"expected a class, or nothing where unknown (got '{label}')"
                )
        names = sorted(set(named))
        place = {name: index for index, name in enumerate(names)}
        return np.array([place.get(label, -1) for label in labels], dtype=np.int64), tuple(names)
    numbers = [int(label.partition(".")[0]) if label else -1 for label in labels]
    for row, value in zip(rows, numbers, strict=True):
        if value < -1:
            faults.add(row, _place(table, row, column), f"expected a number from 0 on, -1 or nothing (got '{value}')")
    if max(numbers) < len(numbers):
        return np.array(numbers, dtype=np.int64), ()
    kept = sorted(set(numbers) - {-1})
    classes = {value: index for index, value in enumerate(kept)} | {-1: -1}
    return np.array([classes[value] for value in numbers], dtype=np.int64), tuple(map(str, kept))


def _edges(table: Table, number: dict[str, int], nodes: Path) -> tuple[np.ndarray, np.ndarray | None]:
    faults = Faults(table.path)
    places = _places(table, _EDGE_COLUMNS, faults)
    for name in table.header:
        if name not in (*_EDGE_COLUMNS, "weight"):
            hint = suggest(name, (*_EDGE_COLUMNS, "weight"))
            faults.add(0, _header(table), f"expected source, target and perhaps weight (got '{name}'). {hint}")
    faults.check()
    weights = [table.header.index("weight")] if "weight" in table.header else []
    ends: list[tuple[int, int]] = []
    values: list[np.ndarray] = []
    for row, cells in _whole_rows(table, faults):
        source, target = (number.get(cells[place], -1) for place in places)
        for place, end in zip(places, (source, target), strict=True):
            if end < 0:
                name = cells[place]
                near = difflib.get_close_matches(name, number, n=1) if len(number) <= _NUM_COMPARED else []
                hint = f" Did you mean '{near[0]}'?" if near else ""
                faults.add(row, _place(table, row, place), f"expected an id of '{nodes}' (got '{name}').{hint}")
        ends.append((source, target))
        values.append(_numbers(table, row, cells, weights, faults))
    faults.check()
    edge_index = np.array(ends, dtype=np.int64).reshape(-1, 2).T
    return edge_index, np.concatenate(values or [np.zeros(0, np.float32)]) if weights else None
