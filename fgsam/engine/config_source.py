"""Where config values come from: YAML files, ``section.key=value`` overrides and calls, merged into one table."""

from __future__ import annotations

import datetime
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fgsam.checks import suggest

SOURCES = ("default", "file", "argument", "command line")
"""Kinds of sources; a later one wins."""


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


@dataclass
class Settings:
    """Values by section and key as they were written, each with its kind of source and its place.

    ``task``, the one key outside the sections, has its source and its place under that name.
    """

    task: Any = None
    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def put(self, section: str, key: str, value: Any, *, source: str, place: str) -> None:
        """Set one value; a later one replaces an earlier one."""
        dotted = f"{section}.{key}"
        self.sources[dotted] = source
        self.places[dotted] = place
        try:
            self.values.setdefault(section, {})[key] = json.loads(json.dumps(value, default=_plain))
        except (TypeError, ValueError):  # the latter for a value that contains itself
            text = f"Expected '{dotted}' to be a number, a text, a truth value or a list (got {shown(value)})."
            self.faults.append(Fault(dotted, text, place))

    def put_task(self, value: Any, *, source: str, place: str) -> None:
        """Set the task; a later one replaces an earlier one."""
        self.task, self.sources["task"], self.places["task"] = value, source, place

    def drop(self, dotted: str) -> None:
        """Forget the value of a dotted key."""
        section, _, key = dotted.partition(".")
        del self.values[section][key], self.sources[dotted], self.places[dotted]

    def is_older(self, dotted: str, other: str) -> bool:
        """Whether a value comes from an earlier kind of source than another one, so that the other may replace it."""
        return other in self.sources and SOURCES.index(self.sources[dotted]) < SOURCES.index(self.sources[other])

    def get(self, dotted: str, default: Any = None) -> Any:
        """The value of a dotted key."""
        section, _, key = dotted.partition(".")
        return self.values.get(section, {}).get(key, default)

    def fault(self, dotted: str, text: str) -> None:
        """Note a fault of a dotted key, with the place where it was written."""
        self.faults.append(Fault(dotted, text, self.places.get(dotted, "")))

    def add_file(self, path: Path, sections: Iterable[str]) -> None:
        """Add the values of a YAML file."""
        try:
            node, document = _parse(path.read_text(encoding="utf-8"))
        except OSError as error:
            self.faults.append(Fault("", f"Expected a readable config file (got '{path}': {error.strerror})."))
        except UnicodeDecodeError as error:
            self.faults.append(Fault("", f"Expected a config file in UTF-8 (got '{path}': {error.reason})."))
        except yaml.YAMLError as error:
            self.faults.append(Fault("", f"Expected valid YAML (got {_problem(error)}).", _place(path, error)))
        else:
            lines = dict(_lines(node))
            self._add_repeats(node, path)
            self._add(
                document, sections, "file", lambda key: f"{path}, line {lines[key]}" if key in lines else str(path)
            )

    def add_overrides(self, overrides: Iterable[str], sections: Mapping[str, Any]) -> None:
        """Add ``section.key=value`` texts; values are read as YAML."""
        for text in overrides:
            name, equals, written = text.partition("=")
            section, dot, key = name.strip().partition(".")
            if not (equals and (section == "task" if not dot else section and key)):
                hint = _hint(name.strip(), written, sections)
                problem = f"Expected an override 'section.key=value' (got '{text}').{hint}"
                self.faults.append(Fault(name, problem, "command line"))
                continue
            try:
                value = _parse(written)[1]
            except yaml.YAMLError as error:
                problem = f"Expected '{name}' to have a YAML value (got '{written}': {_problem(error)})."
                self.faults.append(Fault(name, problem, "command line"))
                continue
            content = {section: {key: value}} if dot else {section: value}
            self._add(content, sections, "command line", lambda key: "command line")

    def add_values(self, values: Mapping[str, Any], sections: Iterable[str]) -> None:
        """Add values given by a call, ``{section: {key: value}}``, and perhaps ``{"task": value}``."""
        self._add(values, sections, "argument", lambda key: "")

    def _add(self, document: Any, sections: Iterable[str], source: str, place: Callable[[str], str]) -> None:
        if document is None:
            return
        if not isinstance(document, Mapping):
            text = f"Expected sections with keys (got {shown(document)}). Sections: {', '.join(sections)}."
            self.faults.append(Fault("", text, place("")))
            return
        for section, content in document.items():
            if section == "task":
                self.put_task(content, source=source, place=place("task"))
            elif section not in sections:
                hint = suggest(str(section), sections)
                text = f"Expected a known section (got '{section}'). {hint}"
                self.faults.append(Fault(str(section), text, place(str(section))))
            elif content is not None and not isinstance(content, Mapping):
                text = f"Expected section '{section}' to have keys (got {section}={shown(content)})."
                self.faults.append(Fault(section, text, place(section)))
            else:
                for key, value in (content or {}).items():
                    self.put(section, str(key), value, source=source, place=place(f"{section}.{key}"))

    def _add_repeats(self, node: yaml.Node | None, path: Path) -> None:
        seen: set[str] = set()
        for key, line in _lines(node):
            if key in seen:
                text = f"Expected each key once (got '{key}' again). Remove one of the two."
                self.faults.append(Fault(key, text, f"{path}, line {line}"))
            seen.add(key)


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


def _lines(node: yaml.Node | None) -> Iterator[tuple[str, int]]:
    if not isinstance(node, yaml.MappingNode):
        return
    for name, content in node.value:
        yield str(name.value), name.start_mark.line + 1
        if isinstance(content, yaml.MappingNode):
            for key, _ in content.value:
                yield f"{name.value}.{key.value}", key.start_mark.line + 1


def _hint(key: str, written: str, sections: Mapping[str, Any]) -> str:
    homes = [section for section, model in sections.items() if key in model.model_fields]
    return f" Did you mean {' or '.join(f'{section}.{key}={written}' for section in homes)}?" if homes else ""


def _problem(error: yaml.YAMLError) -> str:
    return str(getattr(error, "problem", None) or getattr(error, "reason", None) or error)


def _place(path: Path, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"{path}, line {mark.line + 1}" if mark else str(path)


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):  # scalars of numpy and torch
        return value.item()
    if isinstance(value, os.PathLike | datetime.date):
        return str(value)
    raise TypeError
