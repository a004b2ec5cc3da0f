"""Write the class splits that come with the named graphs: ``python datasets/make_splits.py [FOLDER]``.

Twenty different ones are drawn for each graph, or all there are where the classes do not allow twenty.

The drawn splits depend on nothing but the card of the graph (its counts of classes and, where classes are too small,
their sizes), its name and their number, so writing them again changes nothing. The published splits are kept as they
stand, unless the folder of the lists they come from is given.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
from pathlib import Path
from typing import Any

from fgsam.data.card import Card, load_card
from fgsam.episodes.split import ClassSplit
from fgsam.episodes.streams import generator
from fgsam.files import write_atomically
from fgsam.registry import DATASETS

FOLDER = Path(__file__).resolve().parent
VERSION = 1
NUM_SPLITS = 20
PARTS = ("meta_train", "meta_val", "meta_test")
PUBLISHED = {
    "corafull": "corafull.json",
    "corafull_derived": "corafull.json",
    "fsnc_dblp": "dblp.json",
    "amazon_electronics": "amazon_electronics.json",
    "ogbn_arxiv": "ogbn_arxiv.json",
    "email": "email.json",
}
TEST_CLASSES = {
    "amazon_clothing": (2, 9, 11, 14, 20, 22, 25, 28, 30, 31, 38, 41, 46, 48, 51, 54, 55, 61, 62, 65),
}
"""Published test classes of a graph whose other classes are divided at random: those of Amazon_clothing_test.mat."""
RELEASED = "github.com/draym28/FGSAM_NeurIPS24, {} class lists"
TITLES = {
    "corafull.json": "CoraFull",
    "dblp.json": "DBLP",
    "amazon_electronics.json": "Amazon-Electronics",
    "ogbn_arxiv.json": "ogbn-arxiv",
}


def drawn_splits(card: Card) -> dict[str, Any]:
    """Draw the numbered splits of a graph."""
    if card.split_counts is None:
        return {}
    counts = tuple(card.split_counts[part] for part in PARTS)
    fixed = TEST_CLASSES.get(card.name, ())
    sizes = card.class_counts or [card.min_class_size] * card.num_classes
    usable = [c for c, size in enumerate(sizes) if size >= card.min_class_size and c not in fixed]
    splits: dict[str, ClassSplit] = {}
    for i in itertools.count():
        if len(splits) == min(NUM_SPLITS, _num_divisions(len(usable), counts[:2] if fixed else counts)):
            break
        split = _drawn(usable, counts, fixed, generator("class split", card.name, VERSION, i))
        splits.setdefault(split.digest, split)
    return {str(i): split.entry() for i, split in enumerate(splits.values())}


def published_splits(path: Path) -> dict[str, Any]:
    """Read the class lists of a file: one split, or several numbered ones."""
    content = json.loads(path.read_text())
    if "splits" in content:
        source = "github.com/shuaiOKshuai/RALE, email class lists"
        return {f"published_{i}": _entry(f"published_{i}", lists, source) for i, lists in enumerate(content["splits"])}
    return {"published": _entry("published", content, RELEASED.format(TITLES[path.name]))}


def main(arguments: list[str]) -> None:
    """Write ``splits.json`` of every graph."""
    for dataset in DATASETS:
        path = FOLDER / dataset / "splits.json"
        card = load_card(dataset)
        published = json.loads(path.read_text())["published"] if path.is_file() else {}
        if arguments and dataset in PUBLISHED:
            published = published_splits(Path(arguments[0]) / PUBLISHED[dataset])
        content = {
            "version": VERSION,
            "dataset": dataset,
            "num_classes": card.num_classes,
            "counts": card.split_counts,
            "drawn": drawn_splits(card),
            "published": published,
        }
        if card.split_counts is None:
            content["reason"] = card.no_splits
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, _text(content).encode())


def _drawn(usable: list[int], counts: tuple[int, ...], fixed: tuple[int, ...], rng: Any) -> ClassSplit:
    if not fixed:
        return ClassSplit.draw(usable, counts, rng)
    others = ClassSplit.draw(usable, (*counts[:2], 0), rng)
    return ClassSplit("drawn", others.meta_train, others.meta_val, fixed)


def _num_divisions(num_classes: int, counts: tuple[int, ...]) -> int:
    """In how many ways so many classes can be divided."""
    ways = 1
    for count in counts:
        ways *= math.comb(num_classes, count)
        num_classes -= count
    return ways


def _entry(name: str, lists: dict[str, list[int]], source: str) -> dict[str, Any]:
    split = ClassSplit(name, *(tuple(lists[part]) for part in ("train", "val", "test")))
    return split.entry() | {"source": source}


def _text(content: dict[str, Any]) -> str:
    """Lay out the file with one line for each list of classes."""
    text = json.dumps(content, indent=1)
    lines: list[str] = []
    for line in text.splitlines():
        inside = lines and lines[-1].count("[") > lines[-1].count("]")
        if inside:
            lines[-1] += line.strip().replace(",", ", ") if line.strip() not in ("]", "],") else line.strip()
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(sys.argv[1:])
