"""What a run is asked to do, read from files, calls and overrides, with every fault reported at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fgsam.assets import asset_folder
from fgsam.checks import suggest
from fgsam.engine.config_check import check_settings
from fgsam.engine.config_model import CONFIGS, FEW_SHOT, SECTIONS, RunConfig
from fgsam.engine.config_source import Settings
from fgsam.engine.config_trial import trial_faults
from fgsam.engine.faults import ConfigError

__all__ = ["SECTIONS", "ConfigError", "RunConfig", "find_config", "load_config", "reload_config"]


def load_config(
    path: str | Path | None = None,
    overrides: Iterable[str] = (),
    *,
    values: Mapping[str, Any] | None = None,
    objects: Mapping[str, str] | None = None,
) -> RunConfig:
    """Read a config from a YAML file, values of a call and overrides; later ones win.

    Args:
        path: YAML file with what differs from the defaults, or the name of one that comes with the package:
            ``"coauthor_cs/gpn"``.
        overrides: Texts ``section.key=value``, values in YAML.
        values: ``{section: {key: value}}``, and perhaps ``{"task": value}``, as a call gives them.
        objects: Sections whose entry is an object of the caller's, with the label that names it in the config. Its
            options are the caller's affair, so the section has no keys for them.

    Raises:
        ConfigError: If something is wrong; the text lists all faults.
        FileNotFoundError: If there is no such file.

    Example:
        >>> load_config(overrides=["episode.n_way=2"]).episode.n_way
        2
    """
    settings = Settings()
    if path is not None:
        settings.add_file(find_config(path), SECTIONS)
    settings.add_values(values or {}, SECTIONS)
    settings.add_overrides(overrides, SECTIONS)
    for section, label in (objects or {}).items():
        settings.put(section, "name", label, source="argument", place="")
    models = check_settings(settings, frozenset(objects or {}))
    if settings.faults:
        raise ConfigError(settings.faults)
    config = CONFIGS[settings.task or FEW_SHOT].assemble(models, settings.values, settings.sources)
    if faults := trial_faults(config, frozenset(objects or {})):
        raise ConfigError(faults)
    return config


OBJECT_SECTIONS = {"graph": "dataset", "encoder": "encoder", "method": "method", "optimizer": "optimizer"}
"""Which section names an object of the caller's, by what the object is."""


def reload_config(values: Mapping[str, Any], objects: Iterable[str] = ()) -> RunConfig:
    """Make a config again from what its ``resolved`` gave.

    Args:
        values: Every option by section and key.
        objects: What was an object of the caller's, of ``graph``, ``encoder``, ``method`` and ``optimizer``.

    Raises:
        ConfigError: If the values do not make a config.
    """
    labels = {section: values[section]["name"] for section in (OBJECT_SECTIONS[part] for part in objects)}
    known = {
        section: {key: value for key, value in part.items() if key != "name"} if section in labels else part
        for section, part in values.items()
    }
    return load_config(values=known, objects=labels)


def find_config(path: str | Path) -> Path:
    """Return a config file given by its path, or by its name among those that come with the package.

    Args:
        path: An existing file, or a name such as ``"coauthor_cs/gpn"``.

    Raises:
        FileNotFoundError: If there is neither; the text names the nearest names.
    """
    if Path(path).is_file():
        return Path(path)
    folder = asset_folder("configs")
    known = {str(file.relative_to(folder).with_suffix("")): file for file in folder.rglob("*.yaml")}
    name = str(path).removeprefix("configs/").removesuffix(".yaml")
    if name not in known:
        hint = suggest(name, known)
        raise FileNotFoundError(f"Expected a config file, or the name of one of the package (got '{path}'). {hint}")
    return known[name]
