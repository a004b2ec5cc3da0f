"""Collects the faults of a file, so that one message names them all."""

from __future__ import annotations

from pathlib import Path

SHOWN = 10
"""How many faults a message lists."""

KEPT = 10_000
"""How many are kept, to find the first among them."""


class Faults:
    """The faults found in a file so far.

    Args:
        path: The file.

    Example:
        >>> faults = Faults(Path("nodes.csv"))
        >>> faults.add(3, "line 3, column 'id'", "expected an id of its own (got 'a', which line 2 has)")
        >>> faults.check()
        Traceback (most recent call last):
        ValueError: Expected 'nodes.csv' to hold a graph (got 1 fault):
          line 3, column 'id': expected an id of its own (got 'a', which line 2 has)
        Mend it and try again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._found: list[tuple[int, str]] = []
        self._count = 0

    def add(self, row: int, place: str, text: str) -> None:
        """Note a fault.

        Args:
            row: Where it comes among the others.
            place: Where it is, in words.
            text: What was expected and what is there.
        """
        self._count += 1
        if len(self._found) < KEPT:
            self._found.append((row, f"  {place}: {text}"))

    def check(self) -> None:
        """Raise ``ValueError`` with the first faults if there are any."""
        if not self._count:
            return
        shown = [text for _, text in sorted(self._found, key=lambda found: found[0])[:SHOWN]]
        more = [f"  and {self._count - SHOWN:,} more"] if self._count > SHOWN else []
        number = "1 fault" if self._count == 1 else f"{self._count:,} faults"
        lines = [f"Expected '{self.path}' to hold a graph (got {number}):", *shown, *more]
        raise ValueError("\n".join([*lines, "Mend it and try again."]))
