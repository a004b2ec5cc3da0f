"""Argument checks with one wording for each kind of fault."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def check_positive(**values: float) -> None:
    """Raise ``ValueError`` if a named value is not positive; NaN counts as not positive."""
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"Expected '{name}' to be positive (got {name}={value})")


def check_non_negative(**values: float) -> None:
    """Raise ``ValueError`` if a named value is negative or NaN."""
    for name, value in values.items():
        if not value >= 0:
            raise ValueError(f"Expected '{name}' to be at least 0 (got {name}={value})")


def check_fraction(**values: float) -> None:
    """Raise ``ValueError`` if a named value lies outside ``[0, 1]``."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"Expected '{name}' to be between 0 and 1 (got {name}={value})")


def check_share(**values: float) -> None:
    """Raise ``ValueError`` if a named value lies outside ``(0, 1]``."""
    for name, value in values.items():
        if not 0 < value <= 1:
            raise ValueError(f"Expected '{name}' to be above 0 and at most 1 (got {name}={value})")


def check_count(**values: int) -> None:
    """Raise ``ValueError`` if a named value is not a whole number of at least 1."""
    for name, value in values.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"Expected '{name}' to be a whole number, at least 1 (got {name}={value!r})")


def check_choice(choices: Iterable[str], **values: str) -> None:
    """Raise ``ValueError`` if a named value is not one of the choices."""
    known = list(choices)
    for name, value in values.items():
        if value not in known:
            raise ValueError(
                f"Expected '{name}' to be one of {', '.join(known)} (got '{value}'). {suggest(value, known)}"
            )


def suggest(name: str, choices: Iterable[str]) -> str:
    """Name the valid choices nearest to a wrong one, or all of them when none is near."""
    known = sorted(choices)
    near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    if near:
        return f"Did you mean {' or '.join(repr(choice) for choice in near)}?"
    return f"Choices: {', '.join(known)}."


def check_not_cached(module: nn.Module) -> None:
    """Raise ``ValueError`` if a layer, built with ``cached=True``, would use the edges of its first pass again."""
    cached = [(name, part) for name, part in module.named_modules() if getattr(part, "cached", False) is True]
    if cached:
        names = [f"'{name or 'module'}' ({type(part).__name__})" for name, part in cached]
        raise ValueError(
            f"Expected layers that look at the edges they are given (got cached=True in {', '.join(names)}). "
            "Build them with cached=False: each field has edges of its own, and so has the peer."
        )
