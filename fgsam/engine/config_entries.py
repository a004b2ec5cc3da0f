"""Config models of registry entries, made from the entries' own signatures."""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Mapping
from functools import lru_cache
from typing import Any

from pydantic import ConfigDict, Field, create_model

from fgsam.engine.config_model import DatasetConfig, EntrySection, MethodConfig, Section
from fgsam.engine.options import REQUIRED, Options, read_options


def entry_sections(models: Mapping[str, type[Section]]) -> dict[str, type[EntrySection]]:
    """The sections that name an entry, among those of a task."""
    return {section: model for section, model in models.items() if issubclass(model, EntrySection)}


def entry_model(base: type[EntrySection], name: str, entry: Any) -> type[EntrySection]:
    """Make the config model of one registry entry from its signature.

    Args:
        base: Model of the section that names the entry.
        name: The entry's name.
        entry: The class or function itself.
    """
    signature = str(inspect.signature(entry))
    is_hashable = isinstance(entry, Hashable)
    return _built_once(base, name, entry, signature) if is_hashable else _built(base, name, entry)


def _built(base: type[EntrySection], name: str, entry: Any) -> type[EntrySection]:
    options = _options_of(base, entry)
    is_open = options.is_open and name not in base.table
    fields: dict[str, Any] = {
        option.name: (
            option.annotation,
            Field(
                ... if option.default is REQUIRED else option.default, description=option.text.replace("``", "") or None
            ),
        )
        for option in options.entries.values()
        if option.name not in base.model_fields
    }
    settings = ConfigDict(extra="allow" if is_open else "forbid", arbitrary_types_allowed=True)
    # pydantic takes either a base or a config, so the config goes into a class between the two.
    parent = type(base.__name__, (base,), {"model_config": settings, "__module__": __name__, "__doc__": base.__doc__})
    model: type[EntrySection] = create_model(base.__name__, __base__=parent, __module__=__name__, **fields)
    model.option_names = tuple(fields)
    if issubclass(model, MethodConfig):
        model.is_trained = bool(getattr(entry, "is_trained", True))
    return model


@lru_cache(maxsize=512)
def _built_once(base: type[EntrySection], name: str, entry: Any, signature: str) -> type[EntrySection]:
    """Keep models, which take milliseconds; another signature of the same entry is another model."""
    return _built(base, name, entry)


def _options_of(base: type[EntrySection], entry: Any) -> Options:
    return read_options(entry, getattr(entry, "num_given", base.num_given))


def entry_option_names(base: type[EntrySection], name: str) -> set[str]:
    """Names of the options of one registry entry."""
    return set(_options_of(base, base.table.load(name)).entries)


def entries_knowing(base: type[EntrySection], key: str) -> list[str]:
    """Names of the entries of a section's table that have an option of this name."""
    return sorted(name for name in base.table if key in entry_option_names(base, name))


def takes_symmetrise(loader: Any) -> bool:
    """Whether a loader leaves open if edges are made undirected."""
    options = read_options(loader, DatasetConfig.num_given)
    return options.is_open or "symmetrise" in options.entries
