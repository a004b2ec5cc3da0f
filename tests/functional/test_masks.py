from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fgsam.functional import masks
from tests.twins import masks as twins

SHAPES = ((3, 4), (4,), (2, 3), (1,))


@pytest.fixture
def scores():
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(shape, dtype=torch.float64, generator=generator) for shape in SHAPES]


def as_arrays(tensors):
    return [tensor.numpy() for tensor in tensors]


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one.numpy(), other)


@pytest.mark.parametrize(
    ("total", "fraction", "count"),
    [(10, 0.9, 9), (30, 0.1, 3), (7, 0.5, 4), (5, 0.0, 0), (5, 1.0, 5), (10**7, 0.3, 3 * 10**6), (3, 1e-9, 1)],
)
def test_shares_are_exact_and_rounded_up(total, fraction, count):
    # In floating point, 10 * (1 - 0.9) is less than one, and 30 * 0.1 more than three.
    assert masks.share_of(total, fraction) == count


@pytest.mark.parametrize("count", [0, 1, 5, 22, 23])
def test_unstructured_masks_mark_the_largest_of_all(scores, count):
    found = masks.unstructured_mask(scores, count)
    assert_same(found, twins.unstructured(as_arrays(scores), count))
    assert sum(int(mask.sum()) for mask in found) == count


@pytest.mark.parametrize("count", range(24))
def test_structured_masks_mark_whole_tensors_until_there_are_enough(scores, count):
    found = masks.structured_mask(scores, count)
    assert_same(found, twins.structured(as_arrays(scores), count))
    assert all(len(mask.unique()) == 1 for mask in found)
    assert sum(int(mask.sum()) for mask in found) >= count


@pytest.mark.parametrize("input_dim", [0, 1])
@pytest.mark.parametrize(("num_kept", "size"), [(1, 2), (2, 4), (2, 3), (3, 3), (1, 8)])
@pytest.mark.parametrize("shape", [(3, 12), (5, 7), (1, 1), (4, 3)])
def test_group_masks_mark_the_largest_of_each_group(shape, num_kept, size, input_dim):
    score = torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = masks.group_mask(score, num_kept, size, input_dim)
    assert_same([found], twins.grouped([score.numpy()], num_kept, size, input_dim))
    assert found.is_contiguous()


def test_group_masks_of_a_convolution_follow_its_matrix_product():
    score = torch.rand(3, 2, 2, 3, generator=torch.Generator().manual_seed(2))
    found = masks.group_mask(score, 2, 4, input_dim=1)
    assert torch.equal(found.flatten(1), masks.group_mask(score.flatten(1), 2, 4, input_dim=1))
    turned = masks.group_mask(score.transpose(0, 1), 2, 4, input_dim=0)
    assert torch.equal(turned.transpose(0, 1), found)


def test_biases_are_marked_everywhere_in_group_masks():
    assert masks.group_mask(torch.rand(5), 1, 4, input_dim=1).all()
    assert masks.group_mask(torch.tensor(0.0), 1, 4, input_dim=1).all()


def test_equal_scores_are_marked_in_order():
    score = torch.zeros(2, 4)
    assert masks.unstructured_mask([score], 3)[0].flatten().tolist() == [True] * 3 + [False] * 5
    assert torch.equal(masks.group_mask(score, 2, 4, 1), torch.tensor([[True, True, False, False]] * 2))
    assert [bool(mask.all()) for mask in masks.structured_mask([score, score], 1)] == [True, False]


def test_parameters_without_a_score_have_no_mask(scores):
    with_gap = [scores[0], None, *scores[1:]]
    for mark in (masks.unstructured_mask, masks.structured_mask):
        found = mark(with_gap, 7)
        assert found[1] is None
        assert_same([found[0], *found[2:]], as_arrays(mark(scores, 7)))
    assert masks.unstructured_mask([None], 0) == [None]


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("num_live", [0, 1, 4, 10, 16, 19, 20])
def test_drop_and_grow_keeps_the_count(num_live, rate):
    generator = torch.Generator().manual_seed(3)
    mask = torch.randperm(20, generator=generator) < num_live
    drop, grow = torch.rand(2, 20, generator=generator)
    found = masks.drop_and_grow(mask, drop, grow, num_live, rate)
    assert int(found.sum()) == num_live
    num_changed = min(num_live - int(num_live * (1 - rate)), 20 - num_live)
    gone, come = mask & ~found, found & ~mask
    assert int(gone.sum()) == int(come.sum()) == num_changed
    if num_changed:
        assert drop[gone].max() <= drop[mask & found].min() if (mask & found).any() else True
        assert grow[come].min() >= grow[~mask & ~found].max() if (~mask & ~found).any() else True


def test_drop_and_grow_comes_to_a_new_count():
    mask = torch.tensor([True, True, False, False, False, False])
    scores = torch.arange(6.0)
    assert masks.drop_and_grow(mask, scores, scores, 4, 0.5).tolist() == [False, True, False, True, True, True]
    assert masks.drop_and_grow(mask, scores, scores, 1, 0.0).tolist() == [False, True, False, False, False, False]


def test_flat_and_shaped_are_inverse(scores):
    with_gap = [scores[0], None, *scores[1:]]
    back = masks.shaped(masks.flat(with_gap), with_gap)
    assert back[1] is None
    assert all(torch.equal(a, b) for a, b in zip(back, with_gap, strict=True) if a is not None)
    assert all(t.untyped_storage().nbytes() == t.nbytes for t in back if t is not None)


def test_masked_entries_are_zero_even_where_the_gradient_is_not_finite():
    g = [torch.tensor([1.0, math.inf]), torch.ones(1), None]
    found = masks.masked(g, [torch.tensor([True, False]), None, torch.tensor(True)])
    assert torch.equal(found[0], torch.tensor([1.0, 0.0]))
    assert found[1:] == [None, None]


@pytest.mark.parametrize(
    ("dtype", "wide"),
    [(torch.bfloat16, torch.float32), (torch.float64, torch.float64), (torch.complex64, torch.float32)],
)
def test_squares_are_real_and_of_single_precision_at_least(dtype, wide):
    g = torch.tensor([3.0, 1e-3], dtype=dtype)
    first, missing, unwanted = masks.squares([g, None, g], [g, g, None])
    assert first.dtype == missing.dtype == wide
    torch.testing.assert_close(first, g.abs().to(wide) ** 2)
    assert torch.equal(missing, torch.zeros(2, dtype=wide))
    assert unwanted is None
