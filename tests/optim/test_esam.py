from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fgsam.optim.esam import ESAM
from fgsam.optim.sam import SAM
from tests.twins.masks import QueryNet, esam_directions, run_queries
from tests.twins.optimizers import adam_update, relative_error, run_twin, sgd_update

SGD = {"base": torch.optim.SGD, "lr": 0.3}


def drawn_masks(visited):
    """Where the weights of each step's second pass differ from those of its first."""
    return [[a != b for a, b in zip(first, second, strict=True)] for first, second in visited]


@pytest.mark.parametrize("gamma", [0.1, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("beta", [0.3, 0.6, 1.0])
def test_ten_steps_equal_the_equations(beta, gamma):
    net = QueryNet(seed=5)
    found, visited, _ = run_queries(net, ESAM, 10, rho=0.3, beta=beta, gamma=gamma, **SGD)
    directions = esam_directions(net, 0.3, beta, gamma, drawn_masks(visited))
    expected = run_twin(net, directions, sgd_update(0.3), 10)
    assert max(relative_error(f, e) for f, e in zip(found, expected, strict=True)) < 1e-12


def test_ten_steps_equal_the_equations_under_adam():
    net = QueryNet(seed=5)
    found, visited, _ = run_queries(net, ESAM, 10, rho=0.3, lr=0.05, weight_decay=5e-4)
    directions = esam_directions(net, 0.3, 0.5, 0.5, drawn_masks(visited))
    expected = run_twin(net, directions, adam_update(0.05, 5e-4), 10)
    assert max(relative_error(f, e) for f, e in zip(found, expected, strict=True)) < 1e-12


def test_whole_shares_are_sam_bit_for_bit():
    found, _, _ = run_queries(QueryNet(), ESAM, 6, rho=0.3, beta=1.0, gamma=1.0)
    expected, _, _ = run_queries(QueryNet(), SAM, 6, rho=0.3)
    assert all(np.array_equal(f, e) for f, e in zip(found[-1], expected[-1], strict=True))


def test_expected_displacement_is_that_of_sam():
    g = [torch.ones(300, dtype=torch.float64), 2 * torch.ones(100, 2, dtype=torch.float64)]
    optimizer = ESAM([one.clone().requires_grad_() for one in g], beta=0.4)
    generator = torch.Generator().manual_seed(0)
    optimizer.generator = lambda *keys: generator
    draws = [torch.cat([one.flatten() for one in optimizer._drawn(g)]) for _ in range(500)]
    whole = torch.cat([one.flatten() for one in g])
    rates = torch.stack(draws).mean(0) / whole
    # The masks of different entries are independent, each with mean beta.
    assert (rates - 0.4).abs().max() < 5 * math.sqrt(0.4 * 0.6 / 500)
    assert abs(rates.mean() - 0.4) < 5 * math.sqrt(0.4 * 0.6 / 500 / len(whole))


def test_weights_are_drawn_one_by_one_and_anew():
    _, visited, _ = run_queries(QueryNet(), ESAM, 3, beta=0.5)
    masks = drawn_masks(visited)
    assert all(0 < mask[0].sum() < mask[0].size for mask in masks)
    assert not np.array_equal(masks[0][0], masks[1][0])


@pytest.mark.parametrize("num_queries", [1, 3, 10, 30])
@pytest.mark.parametrize("gamma", [0.01, 0.1, 0.5, 0.7])
def test_as_many_queries_are_used_as_stated(gamma, num_queries):
    # Each query has a weight of its own; a decay makes each loss rise by a different amount.
    w = torch.linspace(1, 2, num_queries, dtype=torch.float64, requires_grad=True)
    optimizer = ESAM([w], torch.optim.SGD, lr=0.0, beta=1.0, gamma=gamma)
    optimizer.step(lambda: w**2)
    used = torch.nonzero(w.grad).flatten().tolist()
    num_used = math.ceil(round(gamma * num_queries, 9))
    assert used == list(range(num_queries - num_used, num_queries))


def test_equal_rises_choose_the_first_queries():
    # The released code then chooses none, and divides zero by zero.
    w = torch.ones(4, requires_grad=True)
    optimizer = ESAM([w], torch.optim.SGD, lr=0.0, beta=1.0, gamma=0.5)
    optimizer.step(lambda: 2 * w)
    assert w.grad.tolist() == [1.0, 1.0, 0.0, 0.0]


def test_frozen_parameters_stay_frozen():
    net = QueryNet()
    params = net.tensors()
    params[0].requires_grad_(False)
    before = params[0].clone()
    optimizer = ESAM(params, torch.optim.SGD, lr=0.1)
    for _ in range(3):
        optimizer.step(net.closures(params, "none")[0])
    assert not params[0].requires_grad
    assert torch.equal(params[0], before)


def test_draws_of_a_parameter_do_not_depend_on_gradients_of_others():
    seen = []
    for has_gradient in (True, False):
        a, b = torch.ones(20, requires_grad=True), torch.ones(20, requires_grad=True)
        optimizer = ESAM([a, b], torch.optim.SGD, lr=0.0, rho=1.0)
        torch.manual_seed(0)
        optimizer.step(lambda a=a, b=b, has=has_gradient: (seen.append(b.detach() != 1), b + a if has else b)[1])
    assert torch.equal(seen[1], seen[3])


def test_returned_loss_is_that_of_all_queries():
    net = QueryNet()
    params = net.tensors()
    loss = ESAM(params).step(net.closures(params, "none")[0])
    assert loss.item() == pytest.approx(net.losses(net.start).mean(), rel=1e-14)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0.0}, r"Expected 'beta' to be above 0 and at most 1 \(got beta=0.0\)"),
        ({"beta": 1.1}, "Expected 'beta'"),
        ({"gamma": 0.0}, r"Expected 'gamma' to be above 0 and at most 1 \(got gamma=0.0\)"),
        ({"gamma": float("nan")}, "Expected 'gamma'"),
        ({"rho": -1.0}, "Expected 'rho' to be at least 0"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ESAM([torch.ones(1, requires_grad=True)], **options)
