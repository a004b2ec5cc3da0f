"""Where config values come from: YAML files, ``section.key=value`` overrides and calls, merged into one table."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fgsam.checks import suggest
from fgsam.engine.document import Document, parse_value
from fgsam.engine.faults import ConfigError, Fault, shown

SOURCES = ("default", "file", "argument", "command line")
"""Kinds of sources; a later one wins."""


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
            document = Document.read(path)
        except ConfigError as error:
            self.faults += error.faults
            return
        self.faults += document.repeats()
        self._add(document.content, sections, "file", lambda key: document.place(*key.split(".")) if key else str(path))

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
                value = parse_value(written)
            except ValueError as error:
                problem = f"Expected '{name}' to have a YAML value (got '{written}': {error})."
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


def _hint(key: str, written: str, sections: Mapping[str, Any]) -> str:
    homes = [section for section, model in sections.items() if key in model.model_fields]
    return f" Did you mean {' or '.join(f'{section}.{key}={written}' for section in homes)}?" if homes else ""


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):  # scalars of numpy and torch
        return value.item()
    if isinstance(value, os.PathLike | datetime.date):
        return str(value)
    raise TypeError
