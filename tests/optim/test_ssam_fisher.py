from __future__ import annotations

import copy
import itertools
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from fgsam.optim.sam import SAM
from fgsam.optim.ssam_fisher import SSAMFisher
from tests.twins.masks import (
    QueryNet,
    fisher,
    grouped,
    joined,
    masked_ascent,
    run_queries,
    ssam_fisher_directions,
    structured,
    unstructured,
)
from tests.twins.optimizers import adam_update, length, plain_directions, plus, relative_error, run_twin, sgd_update

NUM_PARAMS = 4 * 3 + 3 * 3 + 3
SGD = {"base": torch.optim.SGD, "lr": 0.3}

PATTERNS = {
    "unstructured": (partial(unstructured, num_live=7), {"sparsity": 0.7}),
    "structured": (partial(structured, num_live=7), {"sparsity": 0.7}),
    "2:3": (partial(grouped, num_kept=2, size=3, input_dim=1), {}),
    "1:2": (partial(grouped, num_kept=1, size=2, input_dim=0), {"input_dim": 0}),
}


@pytest.mark.parametrize("mask_every", [1, 3])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_ten_steps_equal_the_equations(pattern, mask_every):
    net = QueryNet(seed=1)
    mark, options = PATTERNS[pattern]
    expected = run_twin(net, ssam_fisher_directions(net, 0.3, mark, mask_every), sgd_update(0.3), 10)
    options = {**options, **SGD, "rho": 0.3, "pattern": pattern, "mask_every": mask_every}
    found, _, _ = run_queries(net, SSAMFisher, 10, **options)
    assert max(relative_error(f, e) for f, e in zip(found, expected, strict=True)) < 1e-12


def test_ten_steps_equal_the_equations_under_adam():
    net = QueryNet(seed=1)
    directions = ssam_fisher_directions(net, 0.3, partial(unstructured, num_live=12), 2)
    expected = run_twin(net, directions, adam_update(0.05, 5e-4), 10)
    found, _, _ = run_queries(net, SSAMFisher, 10, rho=0.3, mask_every=2, lr=0.05, weight_decay=5e-4)
    assert max(relative_error(f, e) for f, e in zip(found, expected, strict=True)) < 1e-12


@pytest.mark.parametrize("pattern", ["unstructured", "structured", "3:3"])
def test_with_a_full_mask_it_is_sam_bit_for_bit(pattern):
    options = {"pattern": pattern} if pattern == "3:3" else {"pattern": pattern, "sparsity": 0.0}
    found, _, _ = run_queries(QueryNet(), SSAMFisher, 6, rho=0.3, mask_every=2, **options)
    expected, _, _ = run_queries(QueryNet(), SAM, 6, rho=0.3)
    assert all(np.array_equal(f, e) for f, e in zip(found[-1], expected[-1], strict=True))


@pytest.mark.parametrize("pattern", ["unstructured", "structured"])
def test_with_an_empty_mask_it_is_the_base(pattern):
    net = QueryNet()
    found, visited, _ = run_queries(net, SSAMFisher, 6, rho=0.3, sparsity=1.0, pattern=pattern, **SGD)
    assert all(np.array_equal(a, b) for first, second in visited for a, b in zip(first, second, strict=True))
    expected = run_twin(net, plain_directions(net), sgd_update(0.3), 6)
    assert relative_error(found[-1], expected[-1]) < 1e-14


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.25, 0.5, 0.9, 1.0])
def test_count_of_the_mask_is_exact(sparsity):
    _, _, optimizer = run_queries(QueryNet(), SSAMFisher, 2, sparsity=sparsity)
    assert sum(int(mask.sum()) for mask in optimizer.kept("mask")) == int(NUM_PARAMS * (1 - sparsity) + 1e-9)


def test_count_is_not_subject_to_rounding():
    # In floating point 10 * (1 - 0.9) is below one.
    w = torch.arange(10.0, requires_grad=True)
    optimizer = SSAMFisher([w], sparsity=0.9)
    optimizer.step(lambda: w**2)
    assert optimizer.own["mask.0"].tolist() == [False] * 9 + [True]


def test_ascent_is_that_of_sam_where_the_mask_is_true_and_zero_elsewhere():
    net = QueryNet()
    _, visited, optimizer = run_queries(net, SSAMFisher, 1, rho=0.3, sparsity=0.5)
    start, moved = visited[0]
    masks = [mask.numpy() for mask in optimizer.kept("mask")]
    whole = plus((0.3 / length(net.gradient(start)), net.gradient(start)))
    move = plus((1.0, moved), (-1.0, start))
    for one, other, mask in zip(move, whole, masks, strict=True):
        np.testing.assert_allclose(one[mask], other[mask], rtol=0, atol=1e-15)
        assert (one[~mask] == 0).all()
    assert 0 < length(move) < 0.3
    assert relative_error(moved, masked_ascent(net, start, 0.3, masks)) < 1e-15


def test_mask_of_a_diagonal_quadratic_is_that_of_the_fisher_by_hand():
    # The losses a_ij w_j^2 / 2 have the gradients a_ij w_j; their squares add up over the queries.
    curvatures = torch.tensor([[3.0, 1.0, 0.0, 2.0], [0.0, 1.0, 2.5, 2.0]], dtype=torch.float64)
    w = torch.tensor([1.0, 2.0, 1.0, -1.0], dtype=torch.float64, requires_grad=True)
    optimizer = SSAMFisher([w], torch.optim.SGD, lr=0.1)
    optimizer.step(lambda: (curvatures * w**2 / 2).sum(1))
    # By hand: 9, 8, 6.25, 8.
    assert optimizer.own["mask.0"].tolist() == [True, True, False, False]


def test_the_first_mask_is_there_in_the_first_step():
    net = QueryNet()
    _, visited, _ = run_queries(net, SSAMFisher, 1, rho=0.3)
    assert not np.array_equal(joined(visited[0][0]), joined(visited[0][1]))


def test_mask_stays_for_its_period():
    net, seen = QueryNet(seed=2), []

    class Watched(SSAMFisher):
        def direction(self, gnn, peer):
            found = super().direction(gnn, peer)
            seen.append(torch.cat([mask.flatten() for mask in self.kept("mask")]))
            return found

    run_queries(net, Watched, 7, mask_every=3, lr=0.3)
    changes = [not torch.equal(a, b) for a, b in itertools.pairwise(seen)]
    assert [i + 1 for i, is_new in enumerate(changes) if is_new] == [3, 6]


def test_a_step_after_a_skipped_first_one_makes_the_mask():
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    factors = iter([float("nan"), 1.0, 1.0, 1.0])
    optimizer = SSAMFisher([w], mask_every=5, nonfinite="skip")
    optimizer.step(lambda: w**2 * next(factors))
    assert "mask.0" not in optimizer.own
    optimizer.step(lambda: w**2 * next(factors))
    assert optimizer.own["mask.0"].tolist() == [False, True]


@pytest.mark.parametrize("num_samples", [1, 2])
def test_few_queries_are_drawn_anew_and_without_replacement(num_samples):
    net = QueryNet(seed=3)
    subsets = list(itertools.combinations(range(8), num_samples))
    masks = [joined(unstructured(fisher(net, net.start, subset), 12)).tolist() for subset in subsets]
    found = set()
    for seed in range(40):
        params = net.tensors()
        optimizer = SSAMFisher(params, num_samples=num_samples)
        torch.manual_seed(seed)
        optimizer.step(net.closures(params, "none")[0])
        found.add(masks.index(torch.cat([mask.flatten() for mask in optimizer.kept("mask")]).tolist()))
    assert len(found) >= 8


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first, self.statistics = nn.Linear(3, 4), nn.BatchNorm1d(4)
        self.second = nn.Linear(4, 2)
        self.double()
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=generator))
        self.x = torch.randn(6, 3, dtype=torch.float64, generator=generator)

    def losses(self):
        h = nn.functional.dropout(self.statistics(self.first(self.x)), 0.5)
        return nn.functional.cross_entropy(self.second(h), torch.tensor([0, 1] * 3), reduction="none")


def test_making_the_mask_has_no_side_effects():
    # Against SAM, whose only difference with a full mask is that it makes none.
    runs = {}
    for rule, options in ((SAM, {}), (SSAMFisher, {"sparsity": 0.0, "num_samples": 4, "mask_every": 1})):
        net = Net()
        optimizer = rule(net, torch.optim.SGD, lr=0.1, rho=0.2, **options)
        torch.manual_seed(0)
        for _ in range(4):
            optimizer.step(net.losses)
        grads = [p.grad for p in net.parameters()]
        runs[rule] = [*net.state_dict().values(), *grads, torch.get_rng_state()]
    assert all(torch.equal(a, b) for a, b in zip(*runs.values(), strict=True))


def test_frozen_parameters_have_no_part_in_the_mask():
    net = QueryNet()
    params = net.tensors()
    params[0].requires_grad_(False)
    optimizer = SSAMFisher(params, sparsity=0.5)
    optimizer.step(net.closures(params, "none")[0])
    masks = optimizer.kept("mask")
    assert masks[0] is None
    assert int(masks[1].sum() + masks[2].sum()) == 6


def test_a_group_added_within_a_period_stays_until_the_next_mask():
    a, b = (torch.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    optimizer = SSAMFisher([a], torch.optim.SGD, lr=0.0, rho=1.0, mask_every=2, sparsity=0.0)
    optimizer.step(lambda: a**2)
    optimizer.add_param_group({"params": [b]})
    seen = []
    for _ in range(2):
        optimizer.step(lambda: (seen.append(b.tolist()), a**2 + b**2)[1])
    assert seen[:3] == [[1.0, 2.0]] * 3
    assert seen[3] != [1.0, 2.0]


def test_masks_survive_a_round_trip_as_booleans():
    net = QueryNet()
    _, _, optimizer = run_queries(net, SSAMFisher, 2)
    state = copy.deepcopy(optimizer.state_dict())
    fresh = SSAMFisher(net.tensors())
    fresh.load_state_dict(state)
    for one, other in zip(fresh.kept("mask"), optimizer.kept("mask"), strict=True):
        assert one.dtype == torch.bool
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": 1.5}, r"Expected 'sparsity' to be between 0 and 1 \(got sparsity=1.5\)"),
        ({"sparsity": float("nan")}, "Expected 'sparsity'"),
        ({"num_samples": 0}, r"Expected 'num_samples' to be a whole number, at least 1 \(got num_samples=0\)"),
        ({"mask_every": 1.5}, r"Expected 'mask_every' to be a whole number, at least 1 \(got mask_every=1.5\)"),
        ({"pattern": "4:2"}, r"or two numbers as in '2:4', the first at least 1 and at most the second \(got '4:2'\)"),
        ({"pattern": "0:2"}, "Expected 'pattern'"),
        ({"pattern": "nm"}, "Expected 'pattern'"),
        ({"pattern": "2:4", "sparsity": 0.5}, r"Expected no 'sparsity' for a pattern of groups.*Leave it out"),
        ({"input_dim": 2}, r"Expected 'input_dim' to be 0 or 1 \(got input_dim=2\)"),
        ({"rho": -0.1}, "Expected 'rho' to be at least 0"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SSAMFisher([torch.ones(1, requires_grad=True)], **options)
