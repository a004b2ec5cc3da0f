"""Public divisions of a graph's nodes, read from its raw files when they are asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fgsam.assets import asset_folder
from fgsam.nodes.split import NodeSplit


@dataclass(frozen=True)
class PublicSplits:
    """How to read the divisions of nodes that everybody uses with a graph.

    Attributes:
        count: How many there are.
        read: Takes the raw files of the graph and the number of a split, and returns the split.
        has_more: Whether splits drawn in the same way may follow the public ones: 20 nodes a class to train.
    """

    count: int
    read: Callable[[Sequence[Path], int], NodeSplit]
    has_more: bool = False


def checked(dataset: str, index: int, split: NodeSplit, paths: Sequence[Path]) -> NodeSplit:
    """Return a public split if it is the known one, or none is known.

    Args:
        dataset: Name of the graph.
        index: Number of the split.
        split: What was read.
        paths: The raw files, for the message.

    Raises:
        ValueError: If some node is in another part.
    """
    known = known_digests().get(dataset)
    if known is not None and split.digest != known[index]:
        raise ValueError(
            f"Expected public split {index} of '{dataset}' to have the digest {known[index]} (got {split.digest}). Its "
            f"file in '{paths[0].parent}' was altered or comes from another source: fetch it again, or set "
            "dataset.split_kind=drawn."
        )
    return split


def known_digests() -> dict[str, list[str]]:
    """The digest of each public split, by graph; written by ``datasets/make_node_splits.py``."""
    content: dict[str, Any] = json.loads((asset_folder("datasets") / "node_splits.json").read_text(encoding="utf-8"))
    return content
