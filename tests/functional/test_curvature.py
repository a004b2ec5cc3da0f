from __future__ import annotations

import itertools

import pytest
import torch

from fgsam.functional.curvature import as_real, averaged_in_blocks, gaussian, hessian_diagonal, rademacher


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_mean_over_all_sign_vectors_is_the_diagonal():
    root = torch.randn(4, 4, dtype=torch.float64, generator=generator())
    a = root + root.T
    estimates = []
    for signs in itertools.product([-1.0, 1.0], repeat=4):
        z = torch.tensor(signs, dtype=torch.float64)
        estimates.append(hessian_diagonal([z], [a @ z])[0])
    torch.testing.assert_close(torch.stack(estimates).mean(0), a.diagonal())


def test_diagonal_matrix_is_exact_for_every_sign_vector():
    a = torch.tensor([1.5, -2.0, 0.0], dtype=torch.float64)
    (z,) = rademacher([a], generator(5))
    assert torch.equal(hessian_diagonal([z, z], [a * z, None])[0], a)
    assert hessian_diagonal([z], [None]) == [None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64])
def test_draws_have_the_shapes_and_types_of_the_parameters(dtype):
    params = [torch.zeros(200, 5, dtype=dtype), torch.zeros((), dtype=dtype)]
    signs, normal = rademacher(params, generator()), gaussian(params, generator())
    for drawn in (signs, normal):
        assert [d.shape for d in drawn] == [p.shape for p in params]
        assert [d.dtype for d in drawn] == [p.dtype for p in params]
        assert abs(as_real(drawn[0]).double().mean()) < 0.1
        assert as_real(drawn[0]).double().var() == pytest.approx(1.0, abs=0.15)
    assert set(as_real(signs[0]).unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(signs[0], rademacher(params, generator())[0])


def test_kernels_and_rows_are_averaged():
    kernel = torch.arange(8.0).view(1, 2, 2, 2)
    assert averaged_in_blocks(kernel, rows=False).unique().tolist() == [1.5, 5.5]
    matrix = torch.tensor([[1.0, 3.0]])
    assert averaged_in_blocks(matrix, rows=False) is matrix
    assert averaged_in_blocks(matrix, rows=True).tolist() == [[2.0, 2.0]]
    assert averaged_in_blocks(matrix[0], rows=True).tolist() == [1.0, 3.0]
