"""Write the class splits that come with the named graphs: ``python datasets/make_splits.py [CORAFULL_JSON]``.

The drawn splits depend on nothing but the name of the graph and their number, so writing them again changes nothing.
The published split of CoraFull is kept as it stands, unless the file it comes from is given.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from fgsam.episodes.split import ClassSplit
from fgsam.episodes.streams import generator
from fgsam.files import write_atomically

FOLDER = Path(__file__).resolve().parent
VERSION = 1
NUM_SPLITS = 20
COUNTS = {
    "synthetic": (40, 15, 15),
    "coauthor_cs": (5, 5, 5),
    "corafull_derived": (40, 15, 15),
    "clothing20": (10, 5, 5),
}


def drawn_splits(dataset: str) -> dict[str, Any]:
    """Draw the numbered splits of a graph."""
    counts = COUNTS[dataset]
    splits = (
        ClassSplit.draw(range(sum(counts)), counts, generator("class split", dataset, VERSION, i), str(i))
        for i in range(NUM_SPLITS)
    )
    return {split.name: split.entry() for split in splits}


def published_corafull(path: Path) -> dict[str, Any]:
    """Read the list that the released FGSAM and TENT code carries (and FGSAM never reads)."""
    lists = json.loads(path.read_text())
    split = ClassSplit("published", tuple(lists["train"]), tuple(lists["val"]), tuple(lists["test"]))
    return {"published": split.entry() | {"source": "github.com/draym28/FGSAM_NeurIPS24, CoraFull class lists"}}


def main(arguments: list[str]) -> None:
    """Write ``splits.json`` of every graph."""
    for dataset, counts in COUNTS.items():
        path = FOLDER / dataset / "splits.json"
        published = json.loads(path.read_text())["published"] if path.is_file() else {}
        if dataset == "corafull_derived" and arguments:
            published = published_corafull(Path(arguments[0]))
        content = {
            "version": VERSION,
            "dataset": dataset,
            "num_classes": sum(counts),
            "counts": dict(zip(("meta_train", "meta_val", "meta_test"), counts, strict=True)),
            "drawn": drawn_splits(dataset),
            "published": published,
        }
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, _text(content).encode())


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
