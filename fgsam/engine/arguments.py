"""From the arguments of a Python call to a config, and the objects that a config cannot hold."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fgsam.checks import suggest
from fgsam.engine.build import entry_label
from fgsam.engine.config import load_config
from fgsam.engine.config_entries import entry_option_names, entry_sections
from fgsam.engine.config_model import SECTIONS, TASKS, EntrySection, RunConfig
from fgsam.graph.graph import Graph

PRECEDENCE = ("episode", "train", "optimizer", "run", "dataset", "graph", "evaluate")
"""Which section a key means that several have: ``num_episodes`` are training episodes, ``root`` holds the runs."""

OTHER_ARGUMENTS = ("graph", "task", "config", "progress", "callbacks")
"""What a call takes besides entries and options, for the hint after a misspelt one."""


def config_of_call(
    graph: Any = None,
    *,
    task: str | None = None,
    encoder: Any = None,
    method: Any = None,
    optimizer: Any = None,
    config: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> tuple[RunConfig, dict[str, Any]]:
    """Sort the arguments of a call into a config and the objects that stand for its entries.

    Args:
        graph: A name, the path of an npz file, a mapping of options, or a ``Graph``.
        task: ``"few_shot"`` or ``"node_classification"``; the config's when not given.
        encoder: A name, a mapping with ``name`` and options, a class or function, or a module.
        method: A name, a mapping, or a class.
        optimizer: A name, a mapping, or a class.
        config: YAML file that the other arguments override.
        options: Sections with their keys, ``{"train": {"patience": 3}}``, or single keys, ``{"lr": 0.01}``.

    Returns:
        The config, and the objects by ``graph``, ``encoder``, ``method`` and ``optimizer``.

    Raises:
        ValueError: If something is unknown or out of range; the text lists all faults.
        TypeError: If the graph is of another kind.

    Example:
        >>> config, objects = config_of_call("synthetic", method="protonet", options={"n_way": 2})
        >>> config.method.name, config.episode.n_way, objects
        ('protonet', 2, {})
    """
    values: dict[str, Any] = {} if task is None else {"task": task}
    labels: dict[str, str] = {}
    objects: dict[str, Any] = {}
    if isinstance(graph, Graph):
        objects["graph"], labels["dataset"] = graph, graph.name
    elif isinstance(graph, Path) or (isinstance(graph, str) and graph.endswith(".npz")):
        values["dataset"] = {"path": str(graph)}
    elif graph is not None:
        if not isinstance(graph, str | Mapping):
            raise TypeError(
                f"Expected 'graph' to be a Graph, a name, the path of an npz file or a mapping of options (got "
                f"{type(graph).__name__}). Make one with Graph.from_pyg, Graph.from_networkx or Graph.from_arrays."
            )
        values["dataset"] = dict(graph) if isinstance(graph, Mapping) else {"name": graph}
    for section, entry in (("encoder", encoder), ("method", method), ("optimizer", optimizer)):
        name = _name_of(section, entry)
        if entry is None or isinstance(entry, Mapping):
            values[section] = dict(entry or {})
        elif name is not None:
            values[section] = {"name": name}
        else:
            objects[section], labels[section] = entry, entry_label(entry)
    _add_options(values, labels, options or {}, config)
    return load_config(config, values=values, objects=labels), objects


def sectioned(
    options: Mapping[str, Any], entries: Mapping[str, Any], *, task: str | None = None, config: str | Path | None = None
) -> dict[str, dict[str, Any]]:
    """Sort single keys into the sections that they belong to, as :func:`config_of_call` does.

    Args:
        options: Sections with their keys, and single keys.
        entries: Encoder, method and optimizer, whose own options are known too.
        task: The task; the config's when not given.
        config: YAML file of a config.

    Raises:
        ValueError: If a single key is unknown.

    Example:
        >>> sectioned({"n_way": 2, "rho": 0.1, "train": {"seed": 1}}, {"optimizer": "sam"})
        {'train': {'seed': 1}, 'episode': {'n_way': 2}, 'optimizer': {'rho': 0.1}}
    """
    found = {section: dict(part) for section, part in options.items() if section in SECTIONS}
    single = {key: value for key, value in options.items() if key not in found}
    if not single:
        return found
    labels: dict[str, str] = {}
    known: dict[str, Any] = {} if task is None else {"task": task}
    for section, entry in entries.items():
        name = entry.get("name") if isinstance(entry, Mapping) else _name_of(section, entry)
        if name is not None:
            known[section] = {"name": name}
        elif entry is not None and not isinstance(entry, Mapping):
            labels[section] = entry_label(entry)
    _add_options(known, labels, single, config)
    for section in SECTIONS:
        new = {key: value for key, value in known.get(section, {}).items() if key in single}
        if new:
            found[section] = {**found.get(section, {}), **new}
    return found


def _name_of(section: str, entry: Any) -> str | None:
    """The name under which a config can find a class or function again, if there is one."""
    if isinstance(entry, str):
        return entry
    if not hasattr(entry, "__qualname__"):
        return None
    label = entry_label(entry)
    tables = [entry_sections(models)[section].table for models in TASKS.values()]
    registered = next((name for table in tables for name, path in table.items() if path == label), None)
    if registered is not None:
        return registered
    module, _, attribute = label.partition(":")
    found = getattr(importlib.import_module(module), attribute, None)
    return label if found is entry and module != "__main__" else None


def _add_options(values: dict[str, Any], labels: Mapping[str, str], options: Mapping[str, Any], config: Any) -> None:
    """Add sections as they are, and single keys to the section that has them."""
    single = {}
    for key, value in options.items():
        if key in SECTIONS and isinstance(value, Mapping):
            values.setdefault(key, {}).update(value)
        elif key in SECTIONS:
            raise TypeError(f"Expected '{key}' to be a mapping of its keys (got {type(value).__name__})")
        else:
            single[key] = value
    known = _known_keys(values, labels, config) if single else []
    for key, value in single.items():
        section = next((section for section, keys in known if key in keys), None)
        if section is None:
            choices = {name for _, keys in known for name in keys} | {*SECTIONS, *OTHER_ARGUMENTS}
            raise ValueError(f"Expected a known option (got '{key}'). {suggest(key, choices)}")
        values.setdefault(section, {})[key] = value


def _known_keys(values: Mapping[str, Any], labels: Mapping[str, str], config: Any) -> list[tuple[str, set[str]]]:
    """Sections and their keys, those that go first first: of the task, of the entries, of other tasks.

    A key of another task is taken too, so that the config can say whose it is.
    """
    settled = load_config(config, values={key: part for key, part in values.items() if part}, objects=labels)
    parts = [(section, getattr(settled, section)) for section in ("optimizer", "method", "encoder", "dataset")]
    entries = [(section, _options(part)) for section, part in parts if section not in labels]
    others = [models for task, models in TASKS.items() if task != settled.task]
    own, *foreign = (
        [(section, set(models[section].model_fields) - {"name"}) for section in PRECEDENCE if section in models]
        for models in (TASKS[settled.task], *others)
    )
    return [*own, *entries, *(pair for pairs in foreign for pair in pairs)]


def _options(part: EntrySection) -> set[str]:
    return set() if part.name == "own" else entry_option_names(type(part), part.name)
