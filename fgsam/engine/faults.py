"""What is wrong with a config or a grid, gathered so that all of it can be told at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a config: its dotted key, what was expected and got, and the place where it stands."""

    key: str
    text: str
    place: str = ""

    def __str__(self) -> str:
        return f"{self.text} [{self.place}]" if self.place else self.text


class ConfigError(ValueError):
    """Raised when a config has faults; the text lists all of them.

    Args:
        faults: The faults, at least one.
    """

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        lines = [str(fault) for fault in self.faults]
        if len(lines) > 1:
            lines = [f"Expected a valid config (got {len(lines)} faults).", *(f"- {line}" for line in lines)]
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[Any, ...]:
        # Made again from its faults, not from its text, where it comes back from another process.
        return type(self), (self.faults,)


def shown(value: Any) -> str:
    """Shorten a value for a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
