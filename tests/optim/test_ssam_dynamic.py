from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from fgsam.optim.sam import SAM
from fgsam.optim.ssam_dynamic import SSAMDynamic
from tests.twins.masks import QueryNet, masked_ascent, run_queries, ssam_dynamic_directions
from tests.twins.optimizers import plain_directions, relative_error, run_twin, sgd_update

NUM_PARAMS = 4 * 3 + 3 * 3 + 3
SGD = {"base": torch.optim.SGD, "lr": 0.3}


class Watched(SSAMDynamic):
    """Keeps the mask of every step."""

    def direction(self, gnn, peer):
        found = super().direction(gnn, peer)
        self.seen = [*getattr(self, "seen", []), [mask.numpy() for mask in self.kept("mask")]]
        return found


def counts(optimizer):
    return [sum(int(mask.sum()) for mask in masks) for masks in optimizer.seen]


def changed(optimizer):
    return [sum(int((a & ~b).sum()) for a, b in zip(*pair, strict=True)) for pair in pairwise(optimizer.seen)]


@pytest.mark.parametrize("mask_every", [1, 3])
@pytest.mark.parametrize("by", [(a, b) for a in ("weight", "gradient") for b in ("weight", "gradient")])
def test_ten_steps_equal_the_equations(by, mask_every):
    net = QueryNet(seed=4)
    options = {**SGD, "rho": 0.3, "sparsity": 0.6, "drop_rate": 0.7, "drop_by": by[0], "grow_by": by[1]}
    found, _, optimizer = run_queries(net, Watched, 10, mask_every=mask_every, num_steps=8, **options)
    directions = ssam_dynamic_directions(net, 0.3, optimizer.seen[0], 0.7, by, mask_every, 8)
    expected = run_twin(net, directions, sgd_update(0.3), 10)
    assert max(relative_error(f, e) for f, e in zip(found, expected, strict=True)) < 1e-12
    assert sum(changed(optimizer)) > 0


def test_with_a_full_mask_it_is_sam_bit_for_bit():
    found, _, _ = run_queries(QueryNet(), SSAMDynamic, 6, rho=0.3, sparsity=0.0, mask_every=1)
    expected, _, _ = run_queries(QueryNet(), SAM, 6, rho=0.3)
    assert all(np.array_equal(f, e) for f, e in zip(found[-1], expected[-1], strict=True))


def test_with_an_empty_mask_it_is_the_base():
    net = QueryNet()
    found, visited, _ = run_queries(net, SSAMDynamic, 6, rho=0.3, sparsity=1.0, mask_every=1, **SGD)
    assert all(np.array_equal(a, b) for first, second in visited for a, b in zip(first, second, strict=True))
    assert relative_error(found[-1], run_twin(net, plain_directions(net), sgd_update(0.3), 6)[-1]) < 1e-14


@pytest.mark.parametrize("by", ["weight", "gradient", "random"])
@pytest.mark.parametrize("drop_rate", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.2, 0.5, 0.9, 1.0])
def test_count_of_the_mask_is_exact_after_every_update(sparsity, drop_rate, by):
    options = {"sparsity": sparsity, "drop_rate": drop_rate, "drop_by": by, "grow_by": by, "num_steps": 4}
    _, _, optimizer = run_queries(QueryNet(), Watched, 5, mask_every=1, **options)
    assert set(counts(optimizer)) == {int(NUM_PARAMS * (1 - sparsity) + 1e-9)}


def test_count_is_not_subject_to_rounding():
    # In floating point 10 * (1 - 0.9) is below one.
    w = torch.ones(10, requires_grad=True)
    optimizer = SSAMDynamic([w], sparsity=0.9)
    optimizer.step(lambda: (w**2).sum())
    assert int(optimizer.own["mask.0"].sum()) == 1


def test_ascent_is_masked_and_has_the_norm_of_the_whole_gradient():
    net = QueryNet()
    _, visited, optimizer = run_queries(net, Watched, 1, rho=0.3)
    start, moved = visited[0]
    assert relative_error(moved, masked_ascent(net, start, 0.3, optimizer.seen[0])) < 1e-15


def test_drop_rate_falls_by_a_cosine_to_zero():
    options = {"mask_every": 1, "num_steps": 4, "drop_rate": 1.0, "sparsity": 0.5, "drop_by": "random"}
    _, _, optimizer = run_queries(QueryNet(), Watched, 8, **options)
    kept = [int(12 * (1 - (1 + np.cos(np.pi * t / 4)) / 2)) for t in (1, 2, 3, 4)]
    assert changed(optimizer) == [12 - kept[0], 12 - kept[1], 12 - kept[2], 0, 0, 0, 0]


def test_mask_changes_at_its_updates_only():
    _, _, optimizer = run_queries(QueryNet(), Watched, 10, mask_every=4)
    assert [t + 1 for t, num in enumerate(changed(optimizer)) if num] == [4, 8]


def test_first_mask_is_drawn_evenly():
    total = torch.zeros(10)
    for seed in range(200):
        w = torch.ones(10, requires_grad=True)
        optimizer = SSAMDynamic([w], sparsity=0.7)
        torch.manual_seed(seed)
        optimizer.step(lambda w=w: (w**2).sum())
        total += optimizer.own["mask.0"]
    # Five standard deviations of a count of 200 draws with probability 0.3.
    assert (total - 60).abs().max() < 5 * (200 * 0.3 * 0.7) ** 0.5


def test_scores_are_taken_at_the_weights_themselves():
    # The ascent would turn the order of the absolute weights around.
    w = torch.tensor([1.0, 1.1, 0.5, 0.6], requires_grad=True)
    optimizer = SSAMDynamic([w], torch.optim.SGD, rho=10.0, lr=0.0, drop_by="weight", grow_by="weight", mask_every=1)
    slopes = torch.tensor([9.0, 0.0, 8.0, 0.0])
    optimizer.step(lambda: (slopes * w).sum())
    before = optimizer.own["mask.0"].clone()
    optimizer.step(lambda: (slopes * w).sum())
    after = optimizer.own["mask.0"]
    live = [i for i in range(4) if before[i]]
    dead = [i for i in range(4) if not before[i]]
    dropped = min(live, key=lambda i: w[i].item())
    grown = max(dead, key=lambda i: w[i].item())
    assert {i for i in range(4) if after[i]} == {*live, grown} - {dropped}


def test_frozen_and_added_parameters_change_the_count():
    a, b = torch.ones(4, requires_grad=True), torch.ones(6, requires_grad=True)
    optimizer = SSAMDynamic([a], sparsity=0.5, mask_every=1)
    optimizer.step(lambda: (a**2).sum())
    assert int(optimizer.own["mask.0"].sum()) == 2
    optimizer.add_param_group({"params": [b]})
    optimizer.step(lambda: (a**2).sum() + (b**2).sum())
    assert int(optimizer.own["mask.0"].sum() + optimizer.own["mask.1"].sum()) == 5
    b.requires_grad_(False)
    optimizer.step(lambda: (a**2).sum())
    assert int(optimizer.own["mask.0"].sum()) == 2
    assert "mask.1" not in optimizer.own


def test_a_step_after_a_skipped_first_one_makes_the_mask():
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    factors = iter([float("nan"), 1.0, 1.0, 1.0])
    optimizer = SSAMDynamic([w], mask_every=5, nonfinite="skip")
    optimizer.step(lambda: (w**2).sum() * next(factors))
    assert "mask.0" not in optimizer.own
    optimizer.step(lambda: (w**2).sum() * next(factors))
    assert int(optimizer.own["mask.0"].sum()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": -0.1}, r"Expected 'sparsity' to be between 0 and 1 \(got sparsity=-0.1\)"),
        ({"drop_rate": 2.0}, "Expected 'drop_rate' to be between 0 and 1"),
        ({"drop_by": "weights"}, r"Expected 'drop_by' to be one of weight, gradient, random .*Did you mean 'weight'"),
        ({"grow_by": "fisher"}, "Expected 'grow_by' to be one of"),
        ({"mask_every": 0}, "Expected 'mask_every' to be a whole number, at least 1"),
        ({"num_steps": 0}, "Expected 'num_steps' to be a whole number, at least 1"),
        ({"rho": -1.0}, "Expected 'rho' to be at least 0"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SSAMDynamic([torch.ones(1, requires_grad=True)], **options)
