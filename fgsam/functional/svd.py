"""Leading singular vectors of a matrix that is known only by its products."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Products(Protocol):
    """What is asked of a matrix: its shape and type, products with thin dense matrices, and the same of its transpose.

    :class:`fgsam.graph.sparse.SparseMatrix` is one; a chain of them is another, which need not be multiplied out.
    """

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of columns."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of the entries."""

    @property
    def transpose(self) -> Products:
        """The transposed matrix."""

    def product(self, dense: Tensor) -> Tensor:
        """Multiply with a dense matrix, shape ``[num_columns, width]``."""


def truncated_svd(
    matrix: Products,
    rank: int,
    *,
    generator: torch.Generator,
    oversampling: int = 16,
    num_iterations: int = 2,
) -> tuple[Tensor, Tensor, Tensor]:
    """Approximate the leading singular triplets from products with thin matrices.

    A random thin matrix is pushed through ``(M M')^q M``; its range holds the leading left singular vectors up to an
    error that shrinks with ``(s_{rank + oversampling} / s_rank)^(2q + 1)``, and a small dense SVD finishes the work.

    Args:
        matrix: Anything with ``shape``, ``dtype``, ``transpose`` and ``product``; see :class:`Products`.
        rank: Number of triplets, from 1 to the smaller side of the matrix.
        generator: Draws the random thin matrix.
        oversampling: Extra columns of the thin matrix, at least 0.
        num_iterations: Number ``q`` of power iterations, at least 0.

    Returns:
        Left vectors, shape ``[num_rows, rank]``; singular values, falling, shape ``[rank]``; right vectors, shape
        ``[num_columns, rank]``.

    Raises:
        ValueError: If ``rank`` does not fit the matrix.

    Source:
        Halko, Martinsson and Tropp, Finding Structure with Randomness, 2011, Algorithms 4.4 and 5.1.
    """
    if not 1 <= rank <= min(matrix.shape):
        raise ValueError(f"Expected 'rank' to be in 1..{min(matrix.shape)} (got rank={rank}, shape={matrix.shape})")
    width = min(rank + oversampling, *matrix.shape)
    start = torch.randn(matrix.shape[1], width, generator=generator, dtype=matrix.dtype, device=generator.device)
    basis = _orthonormal(matrix.product(start))
    for _ in range(num_iterations):
        # Without orthonormal columns between the products every column would turn into the first singular vector.
        basis = _orthonormal(matrix.transpose.product(basis))
        basis = _orthonormal(matrix.product(basis))
    right, values, left = torch.linalg.svd(matrix.transpose.product(basis), full_matrices=False)
    return basis @ left[:rank].mT, values[:rank], right[:, :rank]


def _orthonormal(columns: Tensor) -> Tensor:
    basis: Tensor = torch.linalg.qr(columns).Q
    return basis
