"""One table in a file of its own, CSV or Parquet: a header and rows of text."""

from __future__ import annotations

import csv
import importlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fgsam.files import write_atomically


@dataclass(frozen=True)
class Table:
    """A table as it is read.

    Attributes:
        path: The file.
        header: Names of the columns.
        rows: Number of each row, as an editor shows it, and its values as text; empty where there is none. Read once.
        unit: What the number counts: ``"line"`` of the file, ``"row"`` below the header, ``"node"`` or ``"edge"``.
        remarks: Texts that a file keeps beside its table.
    """

    path: Path
    header: tuple[str, ...]
    rows: Iterable[tuple[int, Sequence[str]]]
    unit: str
    remarks: Mapping[str, str] = field(default_factory=dict)


def read_table(path: Path) -> Table:
    """Open a table; its rows are read when they are asked for.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, empty, or Parquet and pyarrow is not installed; for CSV perhaps later.
    """
    return _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)


def write_table(
    path: Path, header: Sequence[str], rows: Iterable[Sequence[str]], remarks: Mapping[str, str] | None = None
) -> None:
    """Write a table whose values are texts; only Parquet keeps the remarks."""
    write_atomically(path, (_parquet if path.suffix == ".parquet" else _csv)(header, rows, remarks or {}))


def _read_csv(path: Path) -> Table:
    rows = _csv_rows(path)
    _, header = next(rows, (1, ()))
    return Table(path, tuple(header), rows, "line")


def _csv_rows(path: Path) -> Iterator[tuple[int, Sequence[str]]]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, strict=True)
        try:
            for cells in reader:
                if cells:
                    yield reader.line_num, [cell.strip() for cell in cells]
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(
                f"Expected '{path}' to be readable as CSV in UTF-8 (got {error}, after line {reader.line_num}). "
                "Save it again as CSV, values separated by commas."
            ) from error


def _csv(header: Sequence[str], rows: Iterable[Sequence[str]], remarks: Mapping[str, str]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode()


def _arrow() -> Any:
    try:
        importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise ValueError(
            "Expected pyarrow to be installed, which Parquet needs (got none). "
            "Install it with 'pip install pyarrow', or save the tables as CSV."
        ) from error
    return importlib.import_module("pyarrow")


def _read_parquet(path: Path) -> Table:
    arrow = _arrow()
    try:
        with open(path, "rb") as file:
            table = arrow.parquet.read_table(file, page_checksum_verification=True)
            columns = [["" if value is None else str(value) for value in column.to_pylist()] for column in table]
            remarks = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    except FileNotFoundError:
        raise
    # A damaged file fails in one of these ways, depending on the byte that was hit.
    except (arrow.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
        raise ValueError(
            f"Expected '{path}' to be readable as Parquet (got {type(error).__name__}: {error}). Save it again."
        ) from error
    return Table(path, tuple(table.column_names), enumerate(zip(*columns, strict=True), start=1), "row", remarks)


def _parquet(header: Sequence[str], rows: Iterable[Sequence[str]], remarks: Mapping[str, str]) -> bytes:
    arrow = _arrow()
    columns = list(zip(*rows, strict=True)) or [()] * len(header)
    table = arrow.table([arrow.array(column, arrow.string()) for column in columns], names=list(header))
    buffer = io.BytesIO()
    arrow.parquet.write_table(table.replace_schema_metadata(dict(remarks)), buffer, write_page_checksum=True)
    return buffer.getvalue()
