"""Classes divided into those that train, that choose and that test."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fgsam.assets import asset_folder
from fgsam.checks import suggest

PARTS = ("meta_train", "meta_val", "meta_test")


@dataclass(frozen=True)
class ClassSplit:
    """Three disjoint sets of class ids of one graph, each in ascending order; a set may be empty.

    Attributes:
        name: ``"0"`` to ``"19"`` for the drawn splits that come with a graph, else what it is called.
        meta_train: Classes of the training episodes.
        meta_val: Classes that choose weights and settings; none where a graph has too few classes.
        meta_test: Classes that the result is about.

    Raises:
        ValueError: If a class is in two sets or twice in one, or an id is negative.

    Example:
        >>> ClassSplit("mine", (0, 1), (2, 3), (5, 4)).meta_test
        (4, 5)
    """

    name: str
    meta_train: tuple[int, ...]
    meta_val: tuple[int, ...]
    meta_test: tuple[int, ...]

    def __post_init__(self) -> None:
        for part in PARTS:
            object.__setattr__(self, part, tuple(sorted(int(c) for c in getattr(self, part))))
        ids = np.array([*self.meta_train, *self.meta_val, *self.meta_test], dtype=np.int64)
        values, counts = np.unique(ids, return_counts=True)
        if (counts > 1).any():
            twice = values[counts > 1].tolist()
            raise ValueError(
                f"Expected every class once in split '{self.name}' (got classes {twice} more than once). "
                "Leave each of them in one of meta_train, meta_val and meta_test."
            )
        if len(values) and values[0] < 0:
            raise ValueError(f"Expected class ids to be at least 0 in split '{self.name}' (got {int(values[0])})")

    @cached_property
    def digest(self) -> str:
        """The sha256 of the three sets; the name does not enter."""
        content = json.dumps([self.meta_train, self.meta_val, self.meta_test], separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()

    @classmethod
    def draw(
        cls, class_ids: Iterable[int], counts: Sequence[int], rng: np.random.Generator, name: str = "drawn"
    ) -> ClassSplit:
        """Divide classes at random.

        Args:
            class_ids: The classes to divide; their order does not matter.
            counts: Numbers of meta-train, meta-val and meta-test classes; ``default_counts`` proposes some.
            rng: Where the choice comes from.
            name: What the split is called.

        Raises:
            ValueError: If there are fewer classes than the counts ask for.
        """
        ids = np.unique(np.asarray(list(class_ids), dtype=np.int64))
        if len(counts) != len(PARTS) or min(counts) < 0 or sum(counts) > len(ids):
            raise ValueError(
                f"Expected 'counts' to be three numbers of classes, at most {len(ids)} together "
                f"(got {list(counts)}). Lower them or use a graph with more classes."
            )
        # Sorting random() keeps the draw the same in every version of numpy; shuffle() promises less.
        shuffled = ids[np.argsort(rng.random(len(ids)), kind="stable")].tolist()
        train, val, test = counts
        return cls(
            name,
            tuple(shuffled[:train]),
            tuple(shuffled[train : train + val]),
            tuple(shuffled[train + val : train + val + test]),
        )

    @staticmethod
    def default_counts(num_classes: int, n_way: int) -> tuple[int, int, int]:
        """Propose counts for a graph without a split of its own: about 60/20/20 percent, at least ``n_way`` each.

        Raises:
            ValueError: If three sets of ``n_way`` classes do not fit.

        Example:
            >>> ClassSplit.default_counts(30, n_way=5)
            (18, 6, 6)
        """
        if num_classes < 3 * n_way:
            raise ValueError(
                f"Expected at least three times 'n_way' classes to divide (got n_way={n_way}, classes={num_classes}). "
                f"Lower episode.n_way to {num_classes // 3} or use a graph with more classes."
            )
        held_out = max(n_way, round(0.2 * num_classes))
        return num_classes - 2 * held_out, held_out, held_out

    @classmethod
    def load(cls, dataset: str, index_or_name: int | str = 0) -> ClassSplit:
        """Read a split that comes with a named graph.

        Args:
            dataset: Name of the graph: ``"coauthor_cs"``.
            index_or_name: Number of a drawn split, or the name of a published one.

        Raises:
            ValueError: If the graph or the split is unknown, the graph has none, or the stored split was altered.

        Example:
            >>> split = ClassSplit.load("coauthor_cs", 0)
            >>> len(split.meta_train), len(split.meta_val), len(split.meta_test)
            (5, 5, 5)
        """
        entries = _entries(dataset)
        name = str(index_or_name)
        if name not in entries:
            if not entries:
                raise ValueError(_reason(dataset))
            drawn = sum(key.isdigit() for key in entries)
            named = "".join(f", '{key}'" for key in entries if not key.isdigit())
            raise ValueError(
                f"Expected 'split' to be one of the class splits of '{dataset}' (got {index_or_name!r}). "
                f"There are 0 to {drawn - 1}{named}."
            )
        entry = entries[name]
        split = cls(name, *(tuple(entry[part]) for part in PARTS))
        if split.digest != entry["sha256"]:
            raise ValueError(
                f"Expected split '{name}' of '{dataset}' to have the digest {entry['sha256']} (got {split.digest}). "
                "Its file was altered: install fgsam again."
            )
        return split

    def num_combinations(self, n_way: int) -> dict[str, int]:
        """Count the different choices of ``n_way`` classes, that is tasks, in each part; 0 where they do not suffice.

        Example:
            >>> ClassSplit("mine", (0, 1, 2), (), (3, 4)).num_combinations(n_way=2)
            {'meta_train': 3, 'meta_val': 0, 'meta_test': 1}
        """
        return {part: math.comb(len(getattr(self, part)), n_way) for part in PARTS}

    @staticmethod
    def names(dataset: str) -> list[str]:
        """List the splits that come with a named graph: the drawn ones by number, then the published ones."""
        return list(_entries(dataset))

    def entry(self) -> dict[str, Any]:
        """Give the split as it stands in a split file, with its digest."""
        return {part: list(getattr(self, part)) for part in PARTS} | {"sha256": self.digest}


def _entries(dataset: str) -> dict[str, dict[str, Any]]:
    content = _content(dataset)
    entries: dict[str, dict[str, Any]] = content["drawn"] | content["published"]
    return entries


def _reason(dataset: str) -> str:
    return (
        f"Expected a graph with class splits (got '{dataset}'). {_content(dataset)['reason']} "
        "Use its arrays as an own graph if you want to divide its classes yourself."
    )


def _content(dataset: str) -> dict[str, Any]:
    folder = asset_folder("datasets")
    path = folder / dataset / "splits.json"
    if not path.is_file():
        known = sorted(place.parent.name for place in folder.glob("*/splits.json"))
        raise ValueError(f"Expected a graph that comes with class splits (got '{dataset}'). {suggest(dataset, known)}")
    content: dict[str, Any] = json.loads(path.read_text())
    return content
