from __future__ import annotations

import math

import pytest
import torch

from fgsam.functional.contrast import bootstrap_loss, info_nce
from tests.helpers import assert_close


def cosine(a, b):
    return float(a @ b / a.norm() / b.norm())


def slow_info_nce(first, second, temperature):
    """Node by node, term by term."""
    losses = []
    for i in range(len(first)):
        of_views = []
        for u, v in ((first, second), (second, first)):
            right = math.exp(cosine(u[i], v[i]) / temperature)
            others = [k for k in range(len(u)) if k != i]
            wrong = [math.exp(cosine(u[i], rows[k]) / temperature) for rows in (v, u) for k in others]
            of_views.append(-math.log(right / (right + sum(wrong))))
        losses.append(sum(of_views) / 2)
    return torch.tensor(losses, dtype=torch.float64)


def views(num_nodes=7, dim=5):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, num_nodes, dim, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_info_nce_equals_a_loop_over_nodes(temperature):
    first, second = views()
    assert_close(info_nce(first, second, temperature=temperature), slow_info_nce(first, second, temperature))


def test_info_nce_worked_by_hand():
    # u_0 and v_0 agree, v_1 is opposite to both, and u_1 stands across to all.
    first = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    second = torch.tensor([[3.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    e = math.e
    node_0 = (math.log((e + 1 / e + 1) / e) + math.log((e + 1 + 1 / e) / e)) / 2
    node_1 = (math.log(1 + 1 + 1) + math.log(1 + 1 / e + 1 / e)) / 2
    expected = torch.tensor([node_0, node_1], dtype=torch.float64)
    assert_close(info_nce(first, second, temperature=1.0), expected)


def test_views_may_change_places_and_lengths_do_not_count():
    first, second = views()
    loss = info_nce(first, second, temperature=0.5)
    assert_close(info_nce(second, first, temperature=0.5), loss)
    assert_close(info_nce(3 * first, 0.1 * second, temperature=0.5), loss)


def test_a_node_alone_has_nothing_to_be_told_from():
    first, second = views(num_nodes=1)
    assert info_nce(first, second, temperature=0.5).tolist() == [0.0]


def test_bootstrap_loss_equals_the_squared_distance_of_unit_vectors():
    predicted, target = views()
    unit = [rows / rows.norm(dim=-1, keepdim=True) for rows in (predicted, target)]
    assert_close(bootstrap_loss(predicted, target), (unit[0] - unit[1]).square().sum(-1))


def test_no_gradient_reaches_what_is_to_be_predicted():
    predicted, target = (rows.requires_grad_() for rows in views())
    bootstrap_loss(predicted, target).sum().backward()
    assert target.grad is None
    assert predicted.grad.abs().min() > 0


@pytest.mark.parametrize("loss", [lambda u, v: info_nce(u, v, temperature=0.5), bootstrap_loss])
def test_rows_of_zeros_give_finite_losses_and_gradients(loss):
    first, second = views()
    first[2] = 0.0
    first.requires_grad_()
    found = loss(first, second)
    found.sum().backward()
    assert found.isfinite().all()
    assert first.grad.isfinite().all()
