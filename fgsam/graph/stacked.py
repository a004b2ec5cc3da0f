"""Several fields side by side, read by an encoder with a set of weights for each."""

from __future__ import annotations

from collections.abc import Sequence

import scipy.sparse
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fgsam.graph.field import Field
from fgsam.graph.sparse import SparseMatrix


def stackable(fields: Sequence[Field]) -> bool:
    """Whether fields have dense rows to be read first."""
    return not any(isinstance(field.first_rows, SparseMatrix) for field in fields)


class StackedFields:
    """Fields of one graph and one encoder as one: rows get a leading dimension, shorter fields are filled with zeros.

    It has what an encoder with ``stacks`` reads of a field. A weight may be shared, or have a leading dimension with
    one for each field. What comes of the filling is read by nobody.

    Args:
        fields: At least one, all of them with dense rows; see :func:`stackable`.
    """

    def __init__(self, fields: Sequence[Field]) -> None:
        self._fields = list(fields)
        self._blocks: dict[int, SparseMatrix] = {}
        rows = [field.first_rows for field in fields if isinstance(field.first_rows, Tensor)]
        assert len(rows) == len(self._fields), "sparse rows are not stacked"
        self._rows = pad_sequence(rows, batch_first=True)

    def first_product(self, weight: Tensor, *, propagate: bool = False) -> Tensor:
        """Multiply the rows with a weight; see :meth:`fgsam.graph.field.Field.first_product`.

        Args:
            weight: Shape ``[num_features, width]`` or ``[num_fields, num_features, width]``.
            propagate: Give the first layer ``A @ (x @ weight)``.

        Returns:
            Shape ``[num_fields, most_rows, width]``.
        """
        first = self._fields[0]
        product = self._rows @ weight
        return self.propagate(product, first.num_hops - 1) if propagate and not first._is_folded else product

    def propagate(self, h: Tensor, to_hop: int) -> Tensor:
        """Sum the rows of in-neighbours, weighted, shape ``[num_fields, most_rows, width]``."""
        if self._fields[0].is_peer:
            return h
        if to_hop not in self._blocks:
            self._blocks[to_hop] = self._diagonal([field.block(to_hop) for field in self._fields])
        block, count = self._blocks[to_hop], len(self._fields)
        product = block.product(h[:, : block.shape[1] // count].flatten(0, 1))
        return product.view(count, -1, product.size(1))

    def _diagonal(self, blocks: list[SparseMatrix]) -> SparseMatrix:
        """The blocks along a diagonal, each filled up to the largest, with its transpose."""
        shape = max(block.shape[0] for block in blocks), max(block.shape[1] for block in blocks)
        filled = [scipy.sparse.csr_array(block.scipy(), copy=True) for block in blocks]
        for block in filled:
            block.resize(shape)
        matrix = SparseMatrix.from_scipy(scipy.sparse.block_diag(filled, format="csr")).to(device=blocks[0].device)
        _ = matrix.transpose
        return matrix
