"""YAML as people write it, with the line of every key."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fgsam.engine.faults import ConfigError, Fault

Keys = tuple[str | int, ...]
"""Where a value stands: keys of mappings and places in lists, from the outermost on."""


@dataclass(frozen=True)
class Document:
    """The content of a YAML file.

    Attributes:
        path: The file.
        content: What it holds, as plain values.
        lines: The line of each key and list item, counted from 1, in their order; a repeated key comes again.
    """

    path: Path
    content: Any
    lines: tuple[tuple[Keys, int], ...]

    @classmethod
    def read(cls, path: Path) -> Document:
        """Read a file.

        Raises:
            ConfigError: If it cannot be read, or is no YAML.
        """
        try:
            node, content = _parse(path.read_text(encoding="utf-8"))
        except OSError as error:
            fault = Fault("", f"Expected a readable config file (got '{path}': {error.strerror}).")
        except UnicodeDecodeError as error:
            fault = Fault("", f"Expected a config file in UTF-8 (got '{path}': {error.reason}).")
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            place = f"{path}, line {mark.line + 1}" if mark else str(path)
            fault = Fault("", f"Expected valid YAML (got {_problem(error)}).", place)
        else:
            return cls(path, content, tuple(_lines(node)))
        raise ConfigError([fault])

    def place(self, *keys: str | int) -> str:
        """Return the file and the line of a value, or of the nearest one around it."""
        known = dict(self.lines)
        for length in range(len(keys), 0, -1):
            if keys[:length] in known:
                return f"{self.path}, line {known[keys[:length]]}"
        return str(self.path)

    def repeats(self) -> Iterator[Fault]:
        """Find keys that stand twice in one mapping, of which YAML would silently take the last."""
        seen: set[Keys] = set()
        for keys, line in self.lines:
            if keys in seen:
                dotted = ".".join(map(str, keys))
                text = f"Expected each key once (got '{dotted}' again). Remove one of the two."
                yield Fault(dotted, text, f"{self.path}, line {line}")
            seen.add(keys)


def parse_value(text: str) -> Any:
    """Read one value as YAML.

    Raises:
        ValueError: If it is no YAML; the text says why.

    Example:
        >>> parse_value("[1, 5e-4]")
        [1, 0.0005]
    """
    try:
        return _parse(text)[1]
    except yaml.YAMLError as error:
        raise ValueError(_problem(error)) from error


class _Loader(yaml.SafeLoader):
    """Reads ``5e-4`` as a number, which YAML 1.1 takes for a text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d[\d_]*)(?:\.[\d_]*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


def _parse(text: str) -> tuple[yaml.Node | None, Any]:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        return node, None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


def _lines(node: yaml.Node | None) -> Iterator[tuple[Keys, int]]:
    # An anchor may be used in many places, also within itself: its content is told once.
    told: set[int] = set()

    def walk(node: yaml.Node | None, around: Keys) -> Iterator[tuple[Keys, int]]:
        parts: list[tuple[str | int, yaml.Node, yaml.Node]] = []
        if isinstance(node, yaml.MappingNode):
            parts = [(str(name.value), name, content) for name, content in node.value]
        elif isinstance(node, yaml.SequenceNode):
            parts = [(place, content, content) for place, content in enumerate(node.value)]
        if id(node) in told:
            return
        told.add(id(node))
        for key, start, content in parts:
            yield (*around, key), start.start_mark.line + 1
            yield from walk(content, (*around, key))

    return walk(node, ())


def _problem(error: yaml.YAMLError) -> str:
    return str(getattr(error, "problem", None) or getattr(error, "reason", None) or error)
