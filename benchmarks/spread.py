"""Means over class splits, with the interval that belongs to them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats


def half_width(values: Sequence[float] | np.ndarray) -> float:
    """Half-width of the 95 % t interval of a mean."""
    return float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


def spread(values: Sequence[float] | np.ndarray, sign: str = "") -> str:
    """Mean and half-width of the t interval; the values themselves where there are fewer than two.

    Args:
        values: One for each split.
        sign: ``"+"`` to write the sign of a positive mean.
    """
    if len(values) < 2:
        return " ".join(f"{value:{sign}.1f}" for value in values)
    return f"{np.mean(values):{sign}.1f} ± {half_width(values):.1f}"
