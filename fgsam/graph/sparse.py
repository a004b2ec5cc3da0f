"""A sparse matrix whose product with a dense one is cheap to differentiate, as often as one likes."""

from __future__ import annotations

import warnings
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse
import torch
from scipy.sparse._sparsetools import csc_matvecs, csr_row_index
from torch import Tensor
from torch.autograd import forward_ad

with warnings.catch_warnings():
    # torch announces once in a process that its CSR tensors are young; users of a sparse product need not hear it.
    warnings.simplefilter("ignore")
    torch.sparse_csr_tensor(torch.tensor([0, 0]), torch.tensor([], dtype=torch.int64), torch.tensor([]), (1, 1))

_HAS_MKL: bool = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]


Arrays: TypeAlias = tuple[np.ndarray, ...]


class SparseMatrix:
    """A constant matrix in compressed rows, with products from both sides.

    The backward pass of ``A @ B`` needs ``A.T @ G``. torch's own CSR product builds ``A.T`` for it in every backward
    pass, which costs more than the product. Here the rows are added where they belong (on the CPU), or ``transpose``
    is used where it was built before: worth it from about three backward passes on. The two round differently. Entries
    are constants: gradients flow to the dense factor only.

    Args:
        rowptr: Start of each row in ``col`` and ``values``, int32, shape ``[num_rows + 1]``.
        col: Column of each entry, int32, shape ``[num_entries]``.
        values: Entries, floating point, shape ``[num_entries]``.
        shape: Number of rows and of columns.

    Example:
        >>> matrix = SparseMatrix.from_scipy(scipy.sparse.csr_array(np.array([[0.0, 2.0], [1.0, 0.0]])))
        >>> matrix.product(torch.tensor([[1.0], [10.0]], dtype=torch.float64))
        tensor([[20.],
                [ 1.]], dtype=torch.float64)
    """

    def __init__(
        self, rowptr: Tensor, col: Tensor, values: Tensor, shape: tuple[int, int], *, arrays: Arrays | None = None
    ) -> None:
        self.rowptr = rowptr
        self.col = col
        self.values = values
        self.shape = shape
        # Views for scipy are taken now: within torch.func a tensor does not show its memory.
        self._arrays = tuple(part.cpu().numpy() for part in (rowptr, col, values)) if arrays is None else arrays
        self._csr: Tensor | None = None
        self._scipy: scipy.sparse.csr_array | None = None
        self._transpose: SparseMatrix | None = None

    @classmethod
    def from_scipy(cls, matrix: Any) -> SparseMatrix:
        """Take over a scipy sparse matrix; its indices are sorted and narrowed to 32 bits."""
        csr = scipy.sparse.csr_array(matrix)
        csr.sort_indices()
        return cls._from_arrays(csr.indptr, csr.indices, csr.data, (int(csr.shape[0]), int(csr.shape[1])))

    @classmethod
    def _from_arrays(
        cls, indptr: np.ndarray, indices: np.ndarray, data: np.ndarray, shape: tuple[int, int]
    ) -> SparseMatrix:
        arrays = (indptr.astype(np.int32, copy=False), indices.astype(np.int32, copy=False), data)
        rowptr, col, values = map(torch.from_numpy, arrays)
        return cls(rowptr, col, values, shape, arrays=arrays)

    @property
    def num_entries(self) -> int:
        """Number of stored entries."""
        return self.values.numel()

    @property
    def dtype(self) -> torch.dtype:
        """Type of the entries."""
        return self.values.dtype

    @property
    def device(self) -> torch.device:
        """Device of the entries."""
        return self.values.device

    @property
    def transpose(self) -> SparseMatrix:
        """The transposed matrix, built once; its transpose is this matrix."""
        if self._transpose is None:
            turned = self.scipy().tocsc()
            self._transpose = SparseMatrix._from_arrays(
                turned.indptr, turned.indices, turned.data, (self.shape[1], self.shape[0])
            ).to(device=self.device)
            self._transpose._transpose = self
        return self._transpose

    def scipy(self) -> scipy.sparse.csr_array:
        """The same matrix for scipy, sharing memory where it lies on the CPU.

        Parallel entries stay apart. Copy it before an operation that scipy begins by merging them in place, such as
        a sum or a comparison.
        """
        if self._scipy is None:
            rowptr, col, values = self._arrays
            self._scipy = scipy.sparse.csr_array((values, col, rowptr), shape=self.shape)
        return self._scipy

    def dense(self) -> Tensor:
        """The matrix with all its zeros, shape ``shape``; entries at the same place are added."""
        rows = torch.repeat_interleave(torch.arange(self.shape[0], device=self.device), self.rowptr.diff())
        return self.values.new_zeros(self.shape).index_put((rows, self.col.long()), self.values, accumulate=True)

    def rows(self, index: np.ndarray) -> SparseMatrix:
        """The rows named by ``index``, in its order, shape ``[len(index), num_columns]``."""
        rowptr, col, values = self._arrays
        chosen = index.astype(np.int32, copy=False)
        ends = np.concatenate([[0], np.cumsum(rowptr[chosen + 1] - rowptr[chosen])]).astype(np.int32)
        taken_col, taken = np.empty(ends[-1], dtype=np.int32), np.empty(ends[-1], dtype=values.dtype)
        csr_row_index(len(chosen), chosen, rowptr, col, values, taken_col, taken)
        return SparseMatrix._from_arrays(ends, taken_col, taken, (len(index), self.shape[1]))

    def head(self, num_rows: int, num_columns: int | None = None) -> SparseMatrix:
        """The first rows, sharing memory.

        Args:
            num_rows: How many rows to keep.
            num_columns: New number of columns; every entry of the kept rows must lie to the left of it.
        """
        shape = (num_rows, self.shape[1] if num_columns is None else num_columns)
        if shape == self.shape:
            return self
        rowptr, col, values = self._arrays
        end = int(rowptr[num_rows])
        arrays = (rowptr[: num_rows + 1], col[:end], values[:end])
        return SparseMatrix(self.rowptr[: num_rows + 1], self.col[:end], self.values[:end], shape, arrays=arrays)

    def padded(self, num_rows: int) -> SparseMatrix:
        """The matrix with empty rows below, ``num_rows`` in all."""
        rowptr, col, values = self._arrays
        longer = np.concatenate([rowptr, np.full(num_rows - self.shape[0], rowptr[-1], dtype=rowptr.dtype)])
        arrays = (longer, col, values)
        start = torch.from_numpy(longer).to(self.device)
        return SparseMatrix(start, self.col, self.values, (num_rows, self.shape[1]), arrays=arrays)

    def product(self, dense: Tensor) -> Tensor:
        """Multiply with a dense matrix.

        Differentiable any number of times in reverse and forward mode, and usable under ``torch.func`` (``grad``,
        ``jvp``, ``vmap``, ``hessian``).

        Args:
            dense: Right factor, shape ``[num_columns, width]``, of this matrix's dtype and device. Where autocast is
                on, it is brought to that dtype.

        Returns:
            The product, shape ``[num_rows, width]``.

        Raises:
            ValueError: If the shapes do not fit.
            TypeError: If the types differ.
        """
        if dense.dim() != 2 or dense.size(0) != self.shape[1]:
            raise ValueError(f"Expected 'dense' of shape [{self.shape[1]}, width] (got {list(dense.shape)})")
        if torch.is_autocast_enabled(self.device.type):
            dense = dense.to(self.dtype)
        if dense.dtype != self.dtype:
            raise TypeError(f"Expected 'dense' of the matrix's type {self.dtype} (got {dense.dtype}). Convert either.")
        return _product(self, dense, is_transposed=False)

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> SparseMatrix:
        """The same matrix with other entries' type or on another device; itself where nothing changes."""
        values = self.values.to(dtype=dtype, device=device)
        if values is self.values:
            return self
        return SparseMatrix(self.rowptr.to(values.device), self.col.to(values.device), values, self.shape)

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies and pickles hold the entries only: torch cannot copy CSR tensors, and the rest is rebuilt when needed.
        return SparseMatrix, (self.rowptr, self.col, self.values, self.shape)

    def __repr__(self) -> str:
        return f"SparseMatrix({self.shape[0]} x {self.shape[1]}, {self.num_entries} entries, {self.dtype})"

    def _multiply(self, dense: Tensor) -> Tensor:
        if self.device.type == "cpu" and self.dtype == torch.float32:
            # A sum of weighted rows is what an embedding bag is, and torch's kernel for it is the fastest at hand.
            # Called without its Python wrapper and on a factor that needs no gradient, it does nothing else.
            return torch.embedding_bag(dense.detach(), self.col, self.rowptr, False, 0, False, self.values, True)[0]
        if self.device.type == "cpu" and not _HAS_MKL:
            return torch.from_numpy(self.scipy() @ dense.numpy())
        return self._multiply_csr(dense)

    def _multiply_csr(self, dense: Tensor) -> Tensor:
        if self._csr is None:
            self._csr = torch.sparse_csr_tensor(self.rowptr, self.col, self.values, self.shape, check_invariants=False)
        return self._csr @ dense

    def _multiply_transposed(self, dense: Tensor) -> Tensor:
        if self._transpose is not None or self.device.type != "cpu":
            return self.transpose._multiply(dense)
        try:
            flat = _flat(dense)
        except RuntimeError:  # batched by torch.autograd.grad(is_grads_batched=True), whose tensors show no memory
            return self.transpose._multiply_csr(dense)
        num_rows, num_columns = self.shape
        product = dense.new_zeros(num_columns, dense.size(1))
        # The arrays of compressed rows are those of the transpose in compressed columns.
        csc_matvecs(num_columns, num_rows, dense.size(1), *self._arrays, flat, _flat(product))
        return product


class _Product(torch.autograd.Function):
    """``matrix @ dense``, or ``matrix.T @ dense``: linear in ``dense``, so that each derivative is a product again."""

    @staticmethod
    def forward(ctx: Any, matrix: SparseMatrix, dense: Tensor, is_transposed: bool) -> Tensor:
        ctx.matrix, ctx.is_transposed = matrix, is_transposed
        return _multiplied(matrix, dense, is_transposed)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None]:
        return None, _product(ctx.matrix, grads[0], is_transposed=not ctx.is_transposed), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        return _product(ctx.matrix, tangents[1], is_transposed=ctx.is_transposed)


class _TransformedProduct(_Product):
    """The same in the form that ``torch.func`` asks for, whose every call costs as much as a small product."""

    @staticmethod
    def forward(matrix: SparseMatrix, dense: Tensor, is_transposed: bool) -> Tensor:  # type: ignore[override]
        return _multiplied(matrix, dense, is_transposed)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[SparseMatrix, Tensor, bool], output: Tensor) -> None:
        ctx.matrix, _, ctx.is_transposed = inputs

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], matrix: SparseMatrix, dense: Tensor, is_transposed: bool
    ) -> tuple[Tensor, int]:
        # The batch becomes further columns of one product: [columns, batch, width] -> [columns, batch * width].
        batched = dense.movedim(in_dims[1], 1)
        product = _product(matrix, batched.flatten(1), is_transposed=is_transposed)
        return product.reshape(product.size(0), *batched.shape[1:]), 1


def _product(matrix: SparseMatrix, dense: Tensor, *, is_transposed: bool) -> Tensor:
    is_transformed = torch._C._are_functorch_transforms_active()
    is_recorded = dense.requires_grad and torch.is_grad_enabled()
    if not (is_transformed or is_recorded or forward_ad._current_level >= 0):
        return _multiplied(matrix, dense, is_transposed)  # a first backward pass, or none: nothing to be derived from
    function = _TransformedProduct if is_transformed else _Product
    result: Tensor = function.apply(matrix, dense, is_transposed)  # type: ignore[no-untyped-call]
    return result


def _multiplied(matrix: SparseMatrix, dense: Tensor, is_transposed: bool) -> Tensor:
    return matrix._multiply_transposed(dense) if is_transposed else matrix._multiply(dense)


def _flat(dense: Tensor) -> np.ndarray:
    array: np.ndarray = dense.contiguous().numpy().reshape(-1)
    return array
