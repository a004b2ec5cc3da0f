"""The one place that owns tolerances, and settings that make costly rules quick."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

SHORTER: dict[str, dict[str, Any]] = {"sa_gd": {"num_ascents": 2}}
"""Options with which a rule of many passes is tested."""


def assert_close(
    actual: Tensor | Iterable[Tensor], expected: Tensor | Iterable[Tensor], *, rtol: float = 1e-12
) -> None:
    """Compare tensors, or lists of them taken as one vector: the norm of the error against the norm of the expected.

    One entry near zero then does not ask for more digits than the whole has. ``rtol=0`` asks for equal bits.
    """
    actual, expected = _parts(actual), _parts(expected)
    assert [part.shape for part in actual] == [part.shape for part in expected]
    error = _norm([a.double() - e.double() for a, e in zip(actual, expected, strict=True)])
    size = _norm([e.double() for e in expected])
    assert error <= rtol * size, f"relative error {error / max(size, 1e-300):.3g} is above {rtol:.3g}"


def _parts(values: Tensor | Iterable[Tensor]) -> list[Tensor]:
    return [values.detach()] if isinstance(values, Tensor) else [value.detach() for value in values]


def _norm(parts: list[Tensor]) -> float:
    return float(torch.stack([part.norm() for part in parts]).norm())
