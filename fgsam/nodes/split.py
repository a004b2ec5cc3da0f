"""Nodes of one graph divided into those that train, that choose and that test."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

SplitKind = Literal["public", "drawn", "drawn_20"]

PARTS = ("train", "val", "test")
SHARES = (0.6, 0.2)
"""Training and validation nodes among those of a class; the others test."""
PER_CLASS, NUM_VAL, NUM_TEST = 20, 500, 1000
"""Sizes as in Yang et al., Revisiting Semi-supervised Learning with Graph Embeddings, 2016."""


@dataclass(frozen=True, eq=False)
class NodeSplit:
    """Three disjoint sets of node ids; nodes without a label are in none of them.

    Attributes:
        name: Its number, or what it is called.
        train: Nodes whose labels are learned from, int64, ascending, shape ``[num_train]``.
        val: Nodes that choose weights and settings, likewise.
        test: Nodes that the result is about, likewise.
        kind: ``"public"`` as it came with the graph, ``"drawn"`` per class, 60 / 20 / 20 %, or ``"drawn_20"``, 20 nodes
            a class to train, 500 to validate and 1000 to test.

    Raises:
        ValueError: If a node is in two sets or twice in one, or an id is negative.

    Example:
        >>> NodeSplit("mine", [2, 0], [1], [4, 3]).test
        tensor([3, 4])
    """

    name: str
    train: Tensor
    val: Tensor
    test: Tensor
    kind: SplitKind = "public"

    def __post_init__(self) -> None:
        for part in PARTS:
            object.__setattr__(self, part, torch.as_tensor(np.sort(np.asarray(getattr(self, part), dtype=np.int64))))
        values, counts = np.unique(np.concatenate([self.train, self.val, self.test]), return_counts=True)
        if (counts > 1).any():
            raise ValueError(
                f"Expected every node once in split '{self.name}' (got node {int(values[counts > 1][0])} more than "
                "once). Leave each of them in one of train, val and test."
            )
        if len(values) and values[0] < 0:
            raise ValueError(f"Expected node ids to be at least 0 in split '{self.name}' (got {int(values[0])})")

    @cached_property
    def digest(self) -> str:
        """The sha256 of the three sets; the name does not enter."""
        sha = hashlib.sha256()
        for part in PARTS:
            nodes = getattr(self, part).numpy().astype("<i8")
            sha.update(f"{part}|{len(nodes)}|".encode() + nodes.tobytes())
        return sha.hexdigest()

    @property
    def sizes(self) -> dict[str, int]:
        """Number of nodes of each part."""
        return {part: len(getattr(self, part)) for part in PARTS}

    @classmethod
    def from_masks(cls, name: str, masks: Sequence[Any]) -> NodeSplit:
        """Make a public split of three masks, each of shape ``[num_nodes]``: training, validation and test.

        Raises:
            ValueError: If a mask has another shape.
        """
        arrays = [np.asarray(mask) for mask in masks]
        shapes = [array.shape for array in arrays]
        if len(set(shapes)) > 1 or len(shapes[0]) != 1:
            raise ValueError(
                f"Expected masks of one shape [num_nodes] for split '{name}' (got {', '.join(map(str, shapes))}). "
                "Take one column of masks that hold several splits: mask[:, 0]."
            )
        return cls._of_arrays(name, [np.flatnonzero(array) for array in arrays], "public")

    @classmethod
    def draw(cls, kind: SplitKind, labels: Tensor, rng: np.random.Generator, name: str = "drawn") -> NodeSplit:
        """Divide the labelled nodes at random.

        Args:
            kind: ``"drawn"`` divides each class, 60 / 20 / 20 %, rounded to whole nodes; ``"drawn_20"`` takes 20 nodes
                of each class, then 500 and 1000 of all others.
            labels: Class of each node, shape ``[num_nodes]``; -1 where it is not known.
            rng: Where the choice comes from.
            name: What the split is called.

        Raises:
            ValueError: If ``"drawn_20"`` asks for more nodes than there are.
        """
        classes = labels.cpu().numpy()
        # Sorting random() keeps the draw the same in every version of numpy; shuffle() promises less.
        order = np.argsort(rng.random(len(classes)), kind="stable")
        members = [order[classes[order] == label] for label in np.unique(classes[classes >= 0])]
        if kind == "drawn":
            parts = [np.split(nodes, np.round(np.cumsum(SHARES) * len(nodes)).astype(int)) for nodes in members]
            return cls._of_arrays(name, [np.concatenate(part) for part in zip(*parts, strict=True)], kind)
        train = np.concatenate([nodes[:PER_CLASS] for nodes in members])
        others = order[(classes[order] >= 0) & ~np.isin(order, train)]
        sizes = [len(nodes) for nodes in members]
        if min(sizes) < PER_CLASS or len(others) < NUM_VAL + NUM_TEST:
            raise ValueError(
                f"Expected {PER_CLASS} labelled nodes in every class and {NUM_VAL} + {NUM_TEST} others (got classes of "
                f"{min(sizes)} to {max(sizes)} nodes, {len(others)} others). Set dataset.split_kind=drawn, which "
                "divides each class by shares."
            )
        val, test = others[:NUM_VAL], others[NUM_VAL : NUM_VAL + NUM_TEST]
        return cls._of_arrays(name, [train, val, test], kind)

    def among(self, nodes: Tensor) -> NodeSplit:
        """The split without what is not among some nodes.

        Args:
            nodes: A mask, shape ``[num_nodes]``.
        """
        parts = {part: getattr(self, part) for part in PARTS}
        return NodeSplit(self.name, **{part: ids[nodes[ids]] for part, ids in parts.items()}, kind=self.kind)

    @classmethod
    def _of_arrays(cls, name: str, parts: Sequence[np.ndarray], kind: SplitKind) -> NodeSplit:
        train, val, test = map(torch.from_numpy, parts)
        return cls(name, train, val, test, kind)
