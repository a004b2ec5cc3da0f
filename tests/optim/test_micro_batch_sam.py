from __future__ import annotations

import numpy as np
import pytest
import torch

from fgsam.optim.micro_batch_sam import MicroBatchSAM
from fgsam.optim.sam import SAM
from tests.twins.masks import QueryNet, micro_batch_directions, run_queries
from tests.twins.optimizers import adam_update, length, plain_directions, plus, relative_error, run_twin, sgd_update

SGD = {"base": torch.optim.SGD, "lr": 0.3}


@pytest.mark.parametrize("num_shards", [1, 2, 3, 5, 8])
def test_ten_steps_equal_the_equations(num_shards):
    net = QueryNet(seed=8)
    found, _, _ = run_queries(net, MicroBatchSAM, 10, rho=0.3, num_shards=num_shards, **SGD)
    expected = run_twin(net, micro_batch_directions(net, 0.3, num_shards), sgd_update(0.3), 10)
    assert max(relative_error(f, e) for f, e in zip(found, expected, strict=True)) < 1e-12


def test_ten_steps_equal_the_equations_under_adam():
    net = QueryNet(seed=8)
    found, _, _ = run_queries(net, MicroBatchSAM, 10, rho=0.3, lr=0.05, weight_decay=5e-4)
    expected = run_twin(net, micro_batch_directions(net, 0.3, 2), adam_update(0.05, 5e-4), 10)
    assert max(relative_error(f, e) for f, e in zip(found, expected, strict=True)) < 1e-12


def test_one_shard_is_sam_bit_for_bit():
    found, _, _ = run_queries(QueryNet(), MicroBatchSAM, 6, rho=0.3, num_shards=1)
    expected, _, _ = run_queries(QueryNet(), SAM, 6, rho=0.3)
    assert all(np.array_equal(f, e) for f, e in zip(found[-1], expected[-1], strict=True))


def test_shards_of_the_same_queries_are_sam():
    results = []
    for rule, options in ((SAM, {}), (MicroBatchSAM, {"num_shards": 4})):
        w = torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64, requires_grad=True)
        optimizer = rule([w], torch.optim.SGD, lr=0.1, rho=0.3, **options)
        for _ in range(5):
            optimizer.step(lambda w=w: torch.stack([(w**4).sum() + w.prod()] * 8))
        results.append(w.detach())
    torch.testing.assert_close(results[1], results[0], rtol=1e-14, atol=0)


@pytest.mark.parametrize("num_shards", [2, 3, 8])
def test_without_a_radius_it_is_the_base(num_shards):
    net = QueryNet()
    found, _, _ = run_queries(net, MicroBatchSAM, 6, rho=0.0, num_shards=num_shards, **SGD)
    assert relative_error(found[-1], run_twin(net, plain_directions(net), sgd_update(0.3), 6)[-1]) < 1e-14


@pytest.mark.parametrize("num_shards", [8, 9, 100])
def test_as_many_shards_as_queries_are_sam_query_by_query(num_shards):
    net = QueryNet()
    _, visited, optimizer = run_queries(net, MicroBatchSAM, 1, rho=0.3, num_shards=num_shards, **SGD)
    terms = []
    for query in range(8):
        g = net.one(net.start, query)
        moved = plus((1.0, net.start), (0.3 / length(g), g))
        assert relative_error(visited[0][1 + query], moved) < 1e-14
        terms.append((1 / 8, net.one(moved, query)))
    found = [p.grad.numpy() for p in optimizer.param_groups[0]["params"]]
    assert relative_error(found, plus(*terms)) < 1e-13


def test_order_of_the_shards_does_not_matter():
    coefficients = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], dtype=torch.float64)
    # Places 0, 1, 2 of the loss vector are of shards 0, 1, 2, and so are 3, 4, 5.
    results = []
    for order in (torch.arange(6), torch.tensor([2, 0, 1, 5, 3, 4]), torch.tensor([0, 1, 3, 2, 4, 5])):
        w = torch.tensor([1.0, -0.5], dtype=torch.float64, requires_grad=True)
        optimizer = MicroBatchSAM([w], torch.optim.SGD, lr=0.01, rho=0.3, num_shards=3)
        for _ in range(5):
            optimizer.step(lambda w=w, c=coefficients[order]: c * w[0] ** 2 + (7 - c) * w[1] ** 4)
        results.append(w.detach())
    torch.testing.assert_close(results[1], results[0], rtol=1e-14, atol=0)
    assert (results[2] - results[0]).abs().max() > 1e-6  # other queries together


def test_queries_sorted_by_class_are_spread_over_the_shards():
    w = torch.zeros(9, dtype=torch.float64, requires_grad=True)
    seen = []
    optimizer = MicroBatchSAM([w], torch.optim.SGD, lr=0.0, rho=1.0, num_shards=3)
    optimizer.step(lambda: (seen.append(w.detach() != 0), w)[1])
    shards = [torch.nonzero(moved).flatten().tolist() for moved in seen[1:]]
    assert shards == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]


@pytest.mark.parametrize(("num_shards", "num_queries", "passes"), [(1, 8, (2, 2)), (3, 8, (4, 6)), (9, 8, (9, 16))])
def test_passes_are_counted(num_shards, num_queries, passes):
    w = torch.ones(num_queries, requires_grad=True)
    optimizer = MicroBatchSAM([w], num_shards=num_shards)
    longest, shortest = optimizer.counts(num_queries)
    assert (longest.forwards, longest.backwards) == passes
    assert longest == shortest


@pytest.mark.parametrize("num_shards", [0, -1, 2.0])
def test_bad_numbers_of_shards_are_refused(num_shards):
    with pytest.raises(ValueError, match=r"Expected 'num_shards' to be a whole number, at least 1 \(got num_shards="):
        MicroBatchSAM([torch.ones(1, requires_grad=True)], num_shards=num_shards)
