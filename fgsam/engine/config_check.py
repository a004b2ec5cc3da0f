"""Finds every fault of a config, whatever part it lies in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from fgsam.checks import suggest
from fgsam.engine.config_entries import entries_knowing, entry_model, entry_sections, takes_symmetrise
from fgsam.engine.config_model import (
    FEW_SHOT,
    SECTIONS,
    TASKS,
    EntrySection,
    EpisodeTrainConfig,
    OptimizerConfig,
    Section,
    TrainConfig,
)
from fgsam.engine.config_source import Settings
from fgsam.engine.faults import shown

PLAIN_OPTIMIZERS = ("adam", "adamw", "sgd")
"""Optimizers that are their own base."""

LENGTH = "num_steps"
"""Option of update rules that follow a schedule: the length of training, unless it is set."""

OWN_GRAPH = "own"
"""Name of a graph that is given by its file."""


def check_settings(settings: Settings, objects: frozenset[str] = frozenset()) -> dict[str, type[Section]]:
    """Find all faults and note them in the settings.

    Args:
        settings: Values as they were written. What follows from other keys is filled in.
        objects: Sections whose entry is an object of the caller's.

    Returns:
        The model of each section, extended by the options of its entry; complete when there is no fault.
    """
    models = dict(_task_sections(settings))
    _check_task(models, settings)
    _fill_in(settings)
    entries = entry_sections(models)
    for section, model in models.items():
        _check_static(section, model, settings)
        if section in objects:
            _check_object(section, model, settings)
        elif section in entries:
            _check_name(section, entries[section], settings)
    _check_between(settings)
    # Entries are imported last, and beside other faults only where options were set: a mistyped key then costs no
    # import of torch, and still no fault stays hidden.
    for section, entry in entries.items():
        has_good_name = all(fault.key != f"{section}.name" for fault in settings.faults)
        if section not in objects and has_good_name and (_options(section, entry, settings) or not settings.faults):
            models[section] = _check_entry(section, models, settings)
    settings.faults.sort(key=lambda fault: _position(fault.key))
    return models


def _task_sections(settings: Settings) -> dict[str, type[Section]]:
    task = FEW_SHOT if settings.task is None else settings.task
    if task in TASKS:
        return TASKS[task]
    settings.fault("task", f"Expected 'task' to be one of {', '.join(TASKS)} (got task={shown(task)}).")
    return SECTIONS


def _check_task(models: Mapping[str, type[Section]], settings: Settings) -> None:
    """Take out keys of another task: silently where the task was chosen later than they were, else as a fault."""
    if any(fault.key == "task" for fault in settings.faults):
        return
    for dotted in [f"{section}.{key}" for section, values in settings.values.items() for key in values]:
        section, _, key = dotted.partition(".")
        home = next((task for task, others in TASKS.items() if _belongs(section, key, others)), None)
        if section in models and (home is None or _belongs(section, key, models)):
            continue
        if not settings.is_older(dotted, "task"):
            where = f"task={home or FEW_SHOT}"
            got = f"(got {dotted}={shown(settings.get(dotted))})"
            own = settings.task or FEW_SHOT
            text = f"Expected no '{dotted}' with task={own} {got}. It is a key of {where}: remove it, or set {where}."
            settings.fault(dotted, text)
        settings.drop(dotted)
    name = settings.get("method.name")
    is_foreign = name not in entry_sections(models)["method"].table and name in _names("method")
    if is_foreign and settings.is_older("method.name", "task"):
        settings.drop("method.name")


def _belongs(section: str, key: str, models: Mapping[str, type[Section]]) -> bool:
    return section in models and key in models[section].model_fields


def _names(section: str) -> Iterator[str]:
    """The names that entries of a section have in any task."""
    for models in TASKS.values():
        yield from entry_sections(models)[section].table


def _fill_in(settings: Settings) -> None:
    if settings.get("dataset.path") is not None and settings.get("dataset.name") is not None:
        for older, newer in (("dataset.name", "dataset.path"), ("dataset.path", "dataset.name")):
            if settings.is_older(older, newer):
                settings.drop(older)
                break
    if settings.get("dataset.path") is not None and settings.get("dataset.name") is None:
        settings.put("dataset", "name", OWN_GRAPH, source="default", place="")
    name = settings.get("optimizer.name")
    if name in PLAIN_OPTIMIZERS and settings.get("optimizer.base") is None:
        settings.put("optimizer", "base", name, source="default", place="")


def _check_static(section: str, model: type[Section], settings: Settings) -> None:
    values = settings.values.get(section, {})
    if issubclass(model, EntrySection):
        values = {key: value for key, value in values.items() if key in model.model_fields}
    _check_values(section, model, values, settings)


def _check_object(section: str, model: type[Section], settings: Settings) -> None:
    for key, value in _options(section, model, settings).items():
        settings.fault(
            f"{section}.{key}",
            f"Expected no option beside an own {section} (got {section}.{key}={shown(value)}). Set it on the object.",
        )


def _check_name(section: str, model: type[EntrySection], settings: Settings) -> None:
    table = model.table
    dotted = f"{section}.name"
    name = settings.get(dotted)
    is_own = section == "dataset" and settings.get("dataset.path") is not None
    if not isinstance(name, str) or (is_own and name == OWN_GRAPH):
        return
    if is_own:
        text = (
            f"Expected 'dataset.name' or 'dataset.path', not both (got dataset.name='{name}'). Remove one of the two."
        )
        settings.fault(dotted, text)
    elif section == "dataset" and name.endswith(".npz"):
        settings.fault(
            dotted,
            f"Expected '{dotted}' to be a known graph (got the file '{name}'). Write dataset.path={name} instead.",
        )
    elif name in _names(section) and name not in table:
        own = settings.task or FEW_SHOT
        home = next(task for task, models in TASKS.items() if name in entry_sections(models)[section].table)
        settings.fault(
            dotted,
            f"Expected '{dotted}' to be a {table.kind} of task={own} (got {dotted}='{name}', of task={home}). "
            f"Remove it, or set task={home}.",
        )
    elif ":" not in name and name not in table:
        hint = suggest(name, table)
        text = (
            f"Expected '{dotted}' to be a known {table.kind} or 'package.module:Class' (got {dotted}='{name}'). {hint}"
        )
        settings.fault(dotted, text if hint.startswith("Choices") else f"{text} Known: {', '.join(sorted(table))}.")


def _check_between(settings: Settings) -> None:
    """Check what lies between two keys."""
    default = OptimizerConfig.model_fields
    name = settings.get("optimizer.name", default["name"].default)
    base = settings.get("optimizer.base", default["base"].default)
    momentum = settings.get("optimizer.momentum")
    imbalance = settings.get("episode.query_imbalance")
    if imbalance is not None and settings.get("episode.num_query") == "all":
        settings.fault(
            "episode.query_imbalance",
            f"Expected 'episode.query_imbalance' beside a number of query nodes (got episode.query_imbalance="
            f"{shown(imbalance)}, num_query='all'). Remove one of the two.",
        )
    _check_episodes_per_step(settings)
    if name in PLAIN_OPTIMIZERS and base != name:
        got = f"(got optimizer.base={shown(base)})"
        settings.fault(
            "optimizer.base", f"Expected 'optimizer.base' to be '{name}', as optimizer.name {got}. Remove it."
        )
    elif momentum and base != "sgd":
        got = f"(got optimizer.momentum={shown(momentum)}, base={shown(base)})"
        text = f"Expected 'optimizer.momentum' with base 'sgd' only {got}. Remove it, or set optimizer.base=sgd."
        settings.fault("optimizer.momentum", text)


def _check_entry(section: str, models: Mapping[str, type[Section]], settings: Settings) -> type[EntrySection]:
    """Extend a section by the options of its entry, and check the values of these options."""
    base = entry_sections(models)[section]
    name = settings.get(f"{section}.name", base.model_fields["name"].default)
    try:
        entry = base.table.load("fgsam.data.own:load" if name == OWN_GRAPH else name)
    except ValueError as error:
        settings.fault(f"{section}.name", str(error))
        return base
    model = entry_model(base, name, entry)
    if section == "dataset" and settings.get("dataset.symmetrise") is not None and not takes_symmetrise(entry):
        got = f"(got dataset.symmetrise={shown(settings.get('dataset.symmetrise'))})"
        settings.fault("dataset.symmetrise", f"Expected no such choice for graph '{name}' {got}. Remove it.")
    if model.model_config.get("extra") == "forbid":
        for key in [key for key in _options(section, base, settings) if key not in model.model_fields]:
            _foreign_option(section, name, key, model, settings)
    if section == "optimizer" and LENGTH in model.model_fields and settings.get(f"optimizer.{LENGTH}") is None:
        settings.put("optimizer", LENGTH, _length(models["train"], settings), source="default", place="")
    known = {key: value for key, value in _options(section, base, settings).items() if key in model.model_fields}
    _check_values(section, model, known, settings)
    return model


def _check_episodes_per_step(settings: Settings) -> None:
    per_step = settings.get("train.episodes_per_step")
    num_episodes = settings.get("train.num_episodes", EpisodeTrainConfig.model_fields["num_episodes"].default)
    if _is_count(per_step) and _is_count(num_episodes) and num_episodes % per_step:
        settings.fault(
            "train.episodes_per_step",
            f"Expected 'train.num_episodes' to be a multiple of 'train.episodes_per_step' (got num_episodes="
            f"{num_episodes}, episodes_per_step={per_step}). Set train.num_episodes="
            f"{max(num_episodes // per_step, 1) * per_step}.",
        )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _length(train: type[Section], settings: Settings) -> Any:
    """Steps of training at most; what is no number as it stands, for the message about it."""
    assert issubclass(train, TrainConfig)
    length = settings.get(f"train.{train.length}", train.model_fields[train.length].default)
    per_step = settings.get("train.episodes_per_step", 1)
    return length // per_step if _is_count(length) and _is_count(per_step) else length


def _foreign_option(section: str, name: str, key: str, model: type[EntrySection], settings: Settings) -> None:
    dotted = f"{section}.{key}"
    knowing = entries_knowing(model, key)
    elsewhere = [entry for models in TASKS.values() for entry in entries_knowing(entry_sections(models)[section], key)]
    is_replaced = f"{section}.name" in settings.sources and settings.is_older(dotted, f"{section}.name")
    if (knowing and is_replaced) or (elsewhere and not knowing and settings.is_older(dotted, "task")):
        # A file's option for the file's entry; the command line has put another entry, or task, in its place.
        settings.drop(dotted)
        return
    way_out = f"Known by {', '.join(knowing or elsewhere)}." if elsewhere else suggest(key, model.model_fields)
    got = f"(got {dotted}={shown(settings.get(dotted))})"
    settings.fault(dotted, f"Expected an option that {model.table.kind} '{name}' has {got}. {way_out}")


def _check_values(section: str, model: type[Section], values: Mapping[str, Any], settings: Settings) -> None:
    try:
        # As JSON a list may fill a tuple, yet strictly no text becomes a number and no truth value an integer.
        model.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        details: dict[str, list[Any]] = {}
        for detail in error.errors():
            details.setdefault(str(detail["loc"][0]), []).append(detail)
        for key, found in details.items():
            settings.fault(f"{section}.{key}", _fault_text(section, key, found, model, values))


def _fault_text(section: str, key: str, details: list[Any], model: type[Section], values: Mapping[str, Any]) -> str:
    dotted = f"{section}.{key}"
    if details[0]["type"] == "missing":
        return f"Expected a value for '{dotted}', which has no default. Set {dotted}."
    got = f"(got {dotted}={shown(values[key])})"
    if details[0]["type"] == "extra_forbidden":
        return f"Expected a known key of '{section}' {got}. {suggest(key, model.model_fields)}"
    wanted = " or ".join(dict.fromkeys(_wanted(detail, model.model_fields[key]) for detail in details))
    return f"Expected '{dotted}' to be {wanted} {got}."


def _wanted(detail: Any, field: FieldInfo) -> str:
    message = str(detail["msg"])
    if detail["type"] == "string_pattern_mismatch":
        return str(field.description)
    start, _, wanted = message.partition("Input should be ")
    return wanted if not start else f"valid: {message}"


def _options(section: str, model: type[Section], settings: Settings) -> dict[str, Any]:
    """What was set of a section beside the keys that its model has."""
    known = model.model_fields
    return {key: value for key, value in settings.values.get(section, {}).items() if key not in known}


def _position(dotted: str) -> int:
    names = list(SECTIONS)
    section = dotted.partition(".")[0]
    return names.index(section) if section in names else -1
