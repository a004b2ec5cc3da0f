"""The options of a registry entry, read from its constructor.

An entry's keyword arguments, their annotations, their defaults and the ``Args`` section of its docstring are the only
description of its options. A config model is made from them, so that a new entry needs no config class of its own.
"""

from __future__ import annotations

import inspect
import re
import sys
import typing
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

REQUIRED: Any = inspect.Parameter.empty
"""Stands for the default of an option that has none."""


@dataclass(frozen=True)
class Option:
    """One keyword argument of an entry, with its annotation, its default (or ``REQUIRED``) and its description."""

    name: str
    annotation: Any
    default: Any
    text: str


@dataclass(frozen=True)
class Options:
    """All options of an entry; an open entry takes further keyword arguments that its signature does not name."""

    entries: dict[str, Option]
    is_open: bool


def read_options(entry: Callable[..., Any], num_given: int) -> Options:
    """Read the options of a class or function from its signature.

    Args:
        entry: A class, or a function such as a graph loader.
        num_given: Number of leading positional arguments that the caller supplies itself, at least 0.

    Example:
        >>> def load(root=None, *, num_nodes: int = 100): ...
        >>> read_options(load, num_given=1).entries["num_nodes"].default
        100
    """
    parameters = list(inspect.signature(entry).parameters.values())
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    by_keyword = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    call = _constructor(entry)
    texts = {**argument_texts(call.__doc__), **argument_texts(entry.__doc__)}
    hints = _hints(call)
    found = {
        p.name: Option(p.name, hints.get(p.name, Any), p.default, texts.get(p.name, ""))
        for p in positional[num_given:] + by_keyword
    }
    return Options(found, is_open=any(p.kind is p.VAR_KEYWORD for p in parameters))


def argument_texts(docstring: str | None) -> dict[str, str]:
    r"""Map the arguments named in a Google docstring to their descriptions.

    Example:
        >>> argument_texts("Add.\n\nArgs:\n    a: The first\n        number.\n    b: The second.\n")
        {'a': 'The first number.', 'b': 'The second.'}
    """
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", inspect.cleandoc(docstring or "") + "\n", re.MULTILINE)
    if section is None:
        return {}
    texts: dict[str, str] = {}
    name = ""
    for line in section.group(1).splitlines():
        start = re.match(r" {4}\**(\w+)(?: \([^)]*\))?: *(.*)", line)
        if start:
            name = start.group(1)
            texts[name] = start.group(2)
        elif name and line.strip():
            texts[name] += f" {line.strip()}"
    return texts


def _constructor(entry: Callable[..., Any]) -> Callable[..., Any]:
    if not inspect.isclass(entry):
        return entry
    found: Callable[..., Any] = next(vars(owner)["__init__"] for owner in entry.__mro__ if "__init__" in vars(owner))
    return found


def _hints(call: Callable[..., Any]) -> dict[str, Any]:
    scope = vars(sys.modules[call.__module__]) if call.__module__ in sys.modules else {}
    hints: dict[str, Any] = {}
    for name, annotation in getattr(call, "__annotations__", {}).items():
        try:
            # One at a time: a name imported for type checkers only must not hide the other annotations.
            hint = typing.get_type_hints(_carrier(name, annotation), scope, include_extras=True)[name]
        except (NameError, TypeError, AttributeError):
            hint = Any
        hints[name] = _concrete(hint)
    return hints


def _concrete(hint: Any) -> Any:
    # A value that is validated has to stay as it is read: an iterator would be used up by the first look at it.
    if typing.get_origin(hint) in (Iterable, Collection, Sequence):
        return tuple[(*typing.get_args(hint), ...)]  # type: ignore[misc]
    return hint


def _carrier(name: str, annotation: Any) -> Any:
    return type("Carrier", (), {"__annotations__": {name: annotation}})
