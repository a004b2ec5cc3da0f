from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch

from fgsam.functional.svd import truncated_svd
from fgsam.graph.sparse import SparseMatrix


def falling_matrix(rows: int = 60, columns: int = 40, rate: float = 0.7) -> torch.Tensor:
    rng = np.random.default_rng(0)
    left = np.linalg.qr(rng.standard_normal((rows, columns)))[0]
    right = np.linalg.qr(rng.standard_normal((columns, columns)))[0]
    return torch.from_numpy(left * rate ** np.arange(columns) @ right.T)


def sparse(matrix: torch.Tensor) -> SparseMatrix:
    return SparseMatrix.from_scipy(scipy.sparse.csr_array(matrix.numpy()))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("shape", [(60, 40), (40, 60)])
def test_leading_triplets_equal_those_of_numpy(shape):
    matrix = falling_matrix() if shape == (60, 40) else falling_matrix().T.contiguous()
    left, values, right = truncated_svd(sparse(matrix), 5, generator=generator())
    exact_left, exact_values, exact_right = np.linalg.svd(matrix.numpy(), full_matrices=False)
    np.testing.assert_allclose(values.numpy(), exact_values[:5], rtol=1e-10)
    best = exact_left[:, :5] * exact_values[:5] @ exact_right[:5]
    np.testing.assert_allclose((left * values @ right.T).numpy(), best, atol=1e-6)


def test_vectors_are_orthonormal():
    left, _, right = truncated_svd(sparse(falling_matrix()), 7, generator=generator())
    for vectors in (left, right):
        torch.testing.assert_close(vectors.T @ vectors, torch.eye(7, dtype=torch.float64))


def test_full_rank_rebuilds_the_matrix():
    matrix = torch.from_numpy(np.random.default_rng(1).standard_normal((9, 6)))
    left, values, right = truncated_svd(sparse(matrix), 6, generator=generator(), num_iterations=0)
    torch.testing.assert_close(left * values @ right.T, matrix)


def test_error_is_near_the_best_one_on_a_slow_spectrum():
    matrix = torch.from_numpy(np.random.default_rng(2).standard_normal((300, 200)))
    left, values, right = truncated_svd(sparse(matrix), 20, generator=generator(), num_iterations=1)
    best = np.linalg.norm(np.linalg.svd(matrix.numpy(), compute_uv=False)[20:])
    assert (matrix - left * values @ right.T).norm() < 1.03 * best  # white noise is the worst case


def test_same_generator_gives_the_same_bits():
    runs = [truncated_svd(sparse(falling_matrix()), 3, generator=generator()) for _ in range(2)]
    for first, second in zip(*runs, strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize("rank", [0, 41])
def test_a_rank_that_does_not_fit_is_refused(rank):
    with pytest.raises(ValueError, match=rf"'rank' to be in 1\.\.40 \(got rank={rank}"):
        truncated_svd(sparse(falling_matrix()), rank, generator=generator())
