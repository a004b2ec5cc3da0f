"""The small picture in a row of a table: values of splits, their mean and its interval, on an axis of all rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fgsam.comparison.statistics import mean_over_splits

PLOT_WIDTH = 180


@dataclass(frozen=True)
class Plot:
    """Values of splits and the interval of their mean, as places on an axis that all rows share.

    Attributes:
        dots: One for each split.
        mean: Their mean.
        ends: Of its interval; None where there is none.
        zero: Where there is no difference; None on an axis of scores.
        band: Ends of the margin of equivalence; None on an axis of scores.
    """

    dots: tuple[float, ...]
    mean: float
    ends: tuple[float, float] | None
    zero: float | None = None
    band: tuple[float, float] | None = None


class Axis:
    """A scale that all rows of a column share."""

    def __init__(self, low: float, high: float, margin: float | None) -> None:
        self.low = low
        self.high = high
        self.margin = margin

    @classmethod
    def of(cls, values: Iterable[Mapping[Any, float]], margin: float | None) -> Axis:
        """Span percentages outwards to the next 5, or differences as far to one side of zero as to the other."""
        known = [value for one in values for value in one.values()] or [0.0]
        if margin is None:
            return cls(
                max(5 * math.floor(min(known) / 5 - 0.2), 0), min(5 * math.ceil(max(known) / 5 + 0.2), 100), None
            )
        far = math.ceil(1.05 * max(2 * margin, max(known), -min(known)))
        return cls(-far, far, margin)

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"

    def plot(self, values: Sequence[float]) -> Plot:
        """Draw the values of one row."""
        mean = mean_over_splits(values)
        ends = [self._place(end) for end in (mean.mean - mean.half_width, mean.mean + mean.half_width)]
        return Plot(
            dots=tuple(map(self._place, values)),
            mean=self._place(mean.mean),
            ends=(ends[0], ends[1]) if math.isfinite(mean.half_width) else None,
            zero=self._place(0.0) if self.margin is not None else None,
            band=(self._place(-self.margin), self._place(self.margin)) if self.margin is not None else None,
        )

    def _place(self, value: float) -> float:
        """Where a value lies; what is far out ends a little beyond the axis."""
        place = PLOT_WIDTH * (value - self.low) / (self.high - self.low)
        return round(min(max(place, -6.0), PLOT_WIDTH + 6.0), 1)
