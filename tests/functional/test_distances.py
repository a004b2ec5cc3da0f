from __future__ import annotations

import torch

from fgsam.functional.distances import directions, euclidean, squared_euclidean


def rows(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_distances_equal_a_loop():
    x, y = rows(4, 3), rows(2, 3, seed=1)
    slow = torch.stack([torch.stack([(a - b).norm() for b in y]) for a in x])
    torch.testing.assert_close(euclidean(x, y), slow)
    torch.testing.assert_close(squared_euclidean(x, y), slow**2)


def test_leading_dimensions_broadcast():
    x, y = rows(5, 4, 3), rows(2, 3, seed=1)
    torch.testing.assert_close(euclidean(x, y), torch.stack([euclidean(part, y) for part in x]))


def test_close_rows_do_not_cancel():
    x = torch.tensor([[1000.0, 0.0]])
    assert squared_euclidean(x, x + torch.tensor([[0.0, 1e-3]])).item() == torch.tensor(1e-3).square().item()


def test_equal_rows_have_distance_zero_and_gradient_zero():
    x = rows(3, 2).requires_grad_()
    distances = euclidean(x, x[:1].detach())
    assert distances[0, 0] == 0
    (first,) = torch.autograd.grad(distances.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), x)
    assert (first[0] == 0).all()
    assert first.isfinite().all()
    assert second.isfinite().all()


def test_gradients_are_right_where_rows_differ():
    x, y = rows(3, 2).requires_grad_(), rows(2, 2, seed=1).requires_grad_()
    assert torch.autograd.gradgradcheck(euclidean, (x, y))
    assert torch.autograd.gradgradcheck(squared_euclidean, (x, y))


def test_directions_are_rows_over_their_length():
    x = rows(2, 3, 4)
    torch.testing.assert_close(directions(x), torch.nn.functional.normalize(x, dim=-1))
    assert torch.autograd.gradgradcheck(directions, (x.requires_grad_(),))


def test_a_row_of_zeros_has_no_direction_and_gradient_zero():
    x = torch.tensor([[0.0, 0.0], [1.0, 2.0]], requires_grad=True)
    found = directions(x)
    assert found[0].tolist() == [0.0, 0.0]
    (first,) = torch.autograd.grad(found[:, 0].sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), x)
    assert first[0].tolist() == [0.0, 0.0]
    assert first.isfinite().all()
    assert second.isfinite().all()


def test_what_is_not_a_number_is_no_distance_of_zero():
    x = torch.tensor([[torch.nan, 0.0], [1.0, 0.0]])
    assert euclidean(x, x[1:]).isnan().flatten().tolist() == [True, False]
