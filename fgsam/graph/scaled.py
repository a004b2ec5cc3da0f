"""Fields whose features are scaled, column by column."""

from __future__ import annotations

from torch import Tensor

from fgsam.graph.field import Field
from fgsam.graph.sparse import SparseMatrix


def scaled(field: Field, columns: Tensor) -> Field:
    """Look at a field as if every column of its features were multiplied by a number, which may be learned.

    Nothing is copied: a product with the features multiplies the rows of its weight instead. Only what reads feature
    rows themselves, such as a user's module, gets them written out, with all their zeros.

    Args:
        field: Any field.
        columns: One factor a column, shape ``[num_features]``; gradients reach it.

    Returns:
        A view that shares everything with the field.

    Raises:
        ValueError: If there is not one factor for each column.

    Example:
        >>> import torch
        >>> from fgsam.graph.graph import Graph
        >>> graph = Graph.from_arrays([[1.0, 2.0]], [[], []], [0], directed=False)
        >>> scaled(graph.field([0], 0), torch.tensor([10.0, 0.5])).x.tolist()
        [[10.0, 1.0]]
    """
    num_features = field._graph.num_features
    if columns.shape != (num_features,):
        raise ValueError(f"Expected 'columns' of shape [{num_features}] (got {list(columns.shape)})")
    return _Scaled(field, columns)


class _Scaled(Field):
    """A field seen through factors of its columns."""

    def __init__(self, field: Field, columns: Tensor) -> None:
        self.__dict__.update(field.__dict__)
        self._field = field
        self._columns = columns

    @property
    def x(self) -> Tensor:
        return self._field.dense_x() * self._columns

    @property
    def first_rows(self) -> Tensor | SparseMatrix:
        rows = self._field.first_rows
        return rows if isinstance(rows, SparseMatrix) else rows * self._columns

    def dense_x(self) -> Tensor:
        return self.x

    def first_product(self, weight: Tensor, *, propagate: bool = False) -> Tensor:
        return self._field.first_product(self._columns.unsqueeze(1) * weight, propagate=propagate)

    def reread(self) -> Field:
        self._field.reread()
        return self

    def head(self, num_targets: int) -> Field:
        return _Scaled(self._field.head(num_targets), self._columns)
