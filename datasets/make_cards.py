"""Count the graphs and write the figures into their cards: ``python datasets/make_cards.py [NAME...]``.

Without names, all graphs whose raw files are in the data folder are done. What stands above the marker line in a card
is written by hand and stays; what stands below is written anew.
"""

from __future__ import annotations

import itertools
import sys
import textwrap
from pathlib import Path
from typing import Any

from fgsam.data.card import Card, load_card
from fgsam.data.figures import figures
from fgsam.data.load import load_graph
from fgsam.data.locate import find
from fgsam.data.named import NamedGraph
from fgsam.episodes.split import ClassSplit
from fgsam.files import file_digest
from fgsam.registry import DATASETS

FOLDER = Path(__file__).resolve().parent
MARKER = "# Counted from the raw files by make_cards.py.\n"
TABLE_MARKERS = ("<!-- written by make_cards.py -->\n\n", "\n<!-- until here -->\n")
COLUMNS = (
    "graph",
    "nodes",
    "edges",
    "features",
    "classes",
    "smallest / median / largest class",
    "isolated nodes",
    "same class",
    "classes to train / validate / test",
    "published splits",
)


def digests(name: str) -> dict[str, str]:
    """Digest of every combination of options whose content differs from the default."""
    load = DATASETS.load(name)
    if not isinstance(load, NamedGraph):
        return {"default": load_graph(name).digest}
    found = {"default": load.parsed().digest}
    for values in itertools.product((False, True), repeat=len(load.options)):
        options = {option: True for option, value in zip(load.options, values, strict=True) if value}
        for symmetrise in (None, load.directed):
            variant = load.variant(options, symmetrise)
            digest = load.parsed(None, options, symmetrise).digest
            if digest != found["default"]:
                found[variant] = digest
    return found


def written(name: str, card: Card) -> str:
    """The block of a card that is counted, as YAML."""
    raw = {file: file_digest(path) for file in _all_files(card) if (path := find(file)) is not None}
    graph = DATASETS.load(name).parsed() if card.files else load_graph(name)
    lines = [f"{key}:{_flow(value)}" for key, value in figures(graph).items()]
    lines += ["raw_files:" if raw else "raw_files: {}", *(f"  {file}: {digest}" for file, digest in raw.items())]
    lines += ["digests:", *(f"  {variant}: {digest}" for variant, digest in digests(name).items())]
    return "\n".join(lines) + "\n"


def table() -> str:
    """All graphs as a table in Markdown."""
    rows = [COLUMNS, ["---"] * len(COLUMNS), *(_row(load_card(name)) for name in DATASETS)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def main(names: list[str]) -> None:
    """Rewrite the counted part of the cards, and the table of all graphs."""
    for name in names or DATASETS:
        path, card = FOLDER / name / "card.yaml", load_card(name)
        head, marker, _ = path.read_text(encoding="utf-8").partition(MARKER)
        if marker and all(find(file) for file in _all_files(card)):
            path.write_text(head + marker + written(name, card), encoding="utf-8")
            print(name)
    start, end = TABLE_MARKERS
    page = FOLDER / "README.md"
    before, rest = page.read_text(encoding="utf-8").split(start)
    page.write_text(before + start + table() + end + rest.split(end)[1], encoding="utf-8")


def _all_files(card: Card) -> list[str]:
    return [*card.files, *itertools.chain.from_iterable(card.option_files.values())]


def _row(card: Card) -> list[str]:
    sizes, counts = card.class_sizes, card.split_counts
    published = [f"`{name}`" for name in ClassSplit.names(card.name) if not name.isdigit()]
    return [
        f"`{card.name}`" if card.digests else f"*`{card.name}`*",
        *(_figure(value) for value in (card.num_nodes, card.num_edges, card.num_features, card.num_classes)),
        " / ".join(_figure(value) for value in sizes.values()) if sizes else "",
        _figure(card.isolated_nodes),
        "" if card.edge_homophily is None else f"{card.edge_homophily:.2f}",
        " / ".join(str(count) for count in counts.values()) if counts else "none",
        published[0] if len(published) == 1 else " to ".join([*published[:1], *published[-1:]]),
    ]


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:,}"


def _flow(value: Any) -> str:
    """What follows the colon: a value on the same line, or a list on lines of 120 characters."""
    if isinstance(value, dict):
        return " {" + ", ".join(f"{key}: {part}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return (
            "\n" + textwrap.fill(", ".join(map(str, value)), 118, initial_indent="  [", subsequent_indent="   ") + "]"
        )
    return " null" if value is None else f" {value}"


if __name__ == "__main__":
    main(sys.argv[1:])
