"""Config models of registry entries, made from the entries' own signatures."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field, create_model

from fgsam.engine.config_model import (
    DatasetConfig,
    EncoderConfig,
    EntrySection,
    MethodConfig,
    OptimizerConfig,
)
from fgsam.engine.options import REQUIRED, read_options
from fgsam.registry import DATASETS, ENCODERS, METHODS, OPTIMIZERS, Registry

BASES: dict[str, type[EntrySection]] = {
    "dataset": DatasetConfig,
    "encoder": EncoderConfig,
    "method": MethodConfig,
    "optimizer": OptimizerConfig,
}

# Arguments that the engine supplies itself: the root; the number of features; the encoder; the model and the base.
TABLES: dict[str, tuple[Registry, int]] = {
    "dataset": (DATASETS, 1),
    "encoder": (ENCODERS, 1),
    "method": (METHODS, 1),
    "optimizer": (OPTIMIZERS, 2),
}


def entry_model(section: str, name: str, entry: Any) -> type[EntrySection]:
    """Make the config model of one registry entry from its signature.

    Args:
        section: Section of the config that names the entry: ``"encoder"``.
        name: The entry's name.
        entry: The class or function itself.
    """
    table, num_given = TABLES[section]
    base = BASES[section]
    options = read_options(entry, num_given)
    is_open = options.is_open and name not in table
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
    if section == "method":
        model.is_trained = bool(getattr(entry, "is_trained", True))  # type: ignore[attr-defined]
    return model


def entry_option_names(section: str, name: str) -> set[str]:
    """Names of the options of one registry entry."""
    table, num_given = TABLES[section]
    return set(read_options(table.load(name), num_given).entries)


def entries_knowing(section: str, key: str) -> list[str]:
    """Names of the entries of a section's table that have an option of this name."""
    return sorted(name for name in TABLES[section][0] if key in entry_option_names(section, name))


def takes_symmetrise(loader: Any) -> bool:
    """Whether a loader leaves open if edges are made undirected."""
    options = read_options(loader, TABLES["dataset"][1])
    return options.is_open or "symmetrise" in options.entries
