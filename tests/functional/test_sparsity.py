from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fgsam.functional.sparsity import SCHEDULES, largest, mask_, masked, num_kept, risen, share_of_zeros


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), max_size=6), min_size=1, max_size=4), st.data())
def test_exactly_as_many_are_marked_as_asked_and_the_first_of_equal_ones(values, data):
    scores = [torch.tensor(value, dtype=torch.float32) for value in values]
    flat = np.concatenate([np.array(value, dtype=float) for value in values])
    count = data.draw(st.integers(0, len(flat)))
    expected = np.zeros(len(flat), dtype=bool)
    expected[np.argsort(-flat, kind="stable")[:count]] = True
    marked = largest(scores, count)
    assert [m.shape for m in marked] == [s.shape for s in scores]
    assert np.array_equal(np.concatenate([m.numpy() for m in marked]), expected)


@pytest.mark.parametrize(
    "dtypes", [(torch.bfloat16,) * 2, (torch.float16, torch.float64), (torch.float64, torch.float32)]
)
def test_every_precision_is_selected_from(dtypes):
    scores = [torch.tensor([3.0, 1.0]).to(dtypes[0]), torch.tensor([[2.0], [4.0]]).to(dtypes[1])]
    first, second = largest(scores, 2)
    assert first.tolist() == [True, False]
    assert second.tolist() == [[False], [True]]


def test_nothing_to_select_from():
    assert largest([], 0) == []
    assert math.isnan(share_of_zeros([]))


@pytest.mark.parametrize(
    ("num_weights", "sparsity", "kept"), [(1000, 0.95, 50), (37, 0.8, 7), (3, 0.0, 3), (3, 0.99, 0)]
)
def test_survivors_are_counted_by_rounding(num_weights, sparsity, kept):
    assert num_kept(num_weights, sparsity) == kept == round((1 - sparsity) * num_weights)


def test_masking_leaves_positive_zeros():
    tensor, mask = torch.tensor([-1.0, float("inf"), 2.0]), torch.tensor([False, False, True])
    (copied,) = masked([tensor], [mask])
    assert copied.tolist() == [0.0, 0.0, 2.0]
    assert not copied.signbit().any()
    assert tensor[0] == -1
    mask_([tensor], [mask])
    assert torch.equal(tensor, copied)
    assert share_of_zeros([tensor, torch.ones(1)]) == 0.5


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_rise_to_one_and_stay(schedule):
    shares = [risen(schedule, t, 10) for t in range(15)]
    assert shares[10:] == [1.0] * 5
    assert shares == sorted(shares)
    assert (shares[0] == 0) == (schedule != "constant")


def test_schedules_have_their_shapes():
    assert risen("linear", 3, 10) == pytest.approx(0.3)
    assert risen("cosine", 3, 10) == pytest.approx(0.5 - 0.5 * math.cos(0.3 * math.pi))
    assert risen("cubic", 3, 10) == pytest.approx(1 - 0.7**3)
