from __future__ import annotations

import numpy as np
import pytest
import torch

from fgsam.episodes.streams import generator
from fgsam.nodes.split import NodeSplit

LABELS = torch.tensor([0] * 10 + [1] * 5 + [2] * 1 + [-1] * 4)


def drawn(kind="drawn", labels=LABELS, seed=0):
    return NodeSplit.draw(kind, labels, generator("test", seed))


def test_each_class_is_divided_by_shares():
    split = drawn()
    counts = [LABELS[getattr(split, part)].bincount(minlength=3).tolist() for part in ("train", "val", "test")]
    assert counts == [[6, 3, 1], [2, 1, 0], [2, 1, 0]]


def test_every_labelled_node_is_in_one_part_and_no_other_node_is_in_any():
    split = drawn()
    together = torch.cat([split.train, split.val, split.test]).sort().values
    assert together.tolist() == torch.where(LABELS >= 0)[0].tolist()


def test_the_same_stream_gives_the_same_split_and_another_one_another():
    assert drawn().digest == drawn().digest
    assert drawn().digest != drawn(seed=1).digest


def test_twenty_nodes_a_class_train():
    labels = torch.arange(3).repeat(600)
    split = drawn("drawn_20", labels)
    assert labels[split.train].bincount().tolist() == [20, 20, 20]
    assert split.sizes == {"train": 60, "val": 500, "test": 1000}
    assert len(torch.cat([split.train, split.val, split.test]).unique()) == 1560


def test_too_small_a_graph_for_twenty_a_class_is_refused():
    with pytest.raises(ValueError, match=r"20 labelled nodes.*split_kind=drawn"):
        drawn("drawn_20")


def test_masks_become_ascending_ids():
    masks = np.eye(3, 4, dtype=bool)
    split = NodeSplit.from_masks("5", masks)
    assert (split.train.tolist(), split.val.tolist(), split.test.tolist()) == ([0], [1], [2])
    assert (split.name, split.kind) == ("5", "public")


@pytest.mark.parametrize(
    ("parts", "match"), [(([0, 1], [1], [2]), "node 1 more than once"), (([-1], [1], [2]), "at least 0")]
)
def test_bad_parts_are_refused(parts, match):
    with pytest.raises(ValueError, match=match):
        NodeSplit("bad", *parts)


def test_a_node_in_another_part_changes_the_digest_and_a_name_does_not():
    split = NodeSplit("a", [0, 1], [2], [3])
    assert split.digest == NodeSplit("b", [1, 0], [2], [3]).digest
    assert split.digest != NodeSplit("a", [0], [1, 2], [3]).digest


def test_a_part_of_the_nodes_can_be_left_out():
    split = NodeSplit("a", [0, 1], [2], [3]).among(torch.tensor([True, False, True, False]))
    assert split.sizes == {"train": 1, "val": 1, "test": 0}


@pytest.mark.parametrize("shapes", [[(4, 10)] * 3, [(4,), (4,), (5,)]])
def test_masks_of_another_shape_are_refused(shapes: list[tuple[int, ...]]):
    with pytest.raises(ValueError, match=r"masks of one shape \[num_nodes\] .* mask\[:, 0\]"):
        NodeSplit.from_masks("mine", [np.zeros(shape, dtype=bool) for shape in shapes])
