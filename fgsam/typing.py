"""Shared aliases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    Closure = Callable[[], Tensor | Iterator[Tensor]]
    NodeIds = Tensor | np.ndarray | Sequence[int]

EdgeKind = Literal["raw", "row", "sym"]
"""Edges as given, or full-graph weights with self-loops: row-normalised or symmetric."""

Boundary = Literal["narrow", "closed"]
"""In-edges of inner nodes only, or one hop more with all induced edges."""
