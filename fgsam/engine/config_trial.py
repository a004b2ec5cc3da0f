"""Options out of range, found before any graph is loaded: every entry of the package is made once, in small."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from fgsam.engine.config_model import EntrySection, FewShotConfig, NodeConfig, OptimizerConfig, RunConfig
from fgsam.engine.faults import Fault

BASE_CLASSES = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD"}


def trial_faults(config: RunConfig, objects: frozenset[str]) -> list[Fault]:
    """Make encoder, method and optimizer of a config with one feature, and note what they and the sampler refuse.

    Entries of the user's own are left out: what they do in a constructor is not ours to do twice.

    Args:
        config: A config whose keys and types are right.
        objects: Sections whose entry is an object of the caller's.
    """
    import torch

    from fgsam.episodes.noise import num_wrong

    faults = []
    if isinstance(config, FewShotConfig):
        episode = config.episode
        try:
            num_wrong(episode.support_noise, episode.n_way, episode.k_shot)
        except ValueError as error:
            faults.append(Fault("episode.support_noise", str(error), _place("episode", config)))
    # Constructors draw initial weights; nobody else's random numbers may change by that.
    with torch.random.fork_rng(devices=[]):
        for section, trial in _trials(config):
            part: EntrySection = getattr(config, section)
            if section in objects or part.name not in part.table:
                continue
            try:
                trial(part.table.load(part.name))
            except (ValueError, TypeError) as error:
                faults.append(Fault(section, str(error), _place(section, config)))
    return faults


def _trials(config: RunConfig) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    import torch
    from torch import nn

    weight = nn.Parameter(torch.zeros(1))
    encoder = nn.Linear(1, 1)
    encoder.dim = 1  # type: ignore[assignment]
    yield "method", lambda entry: entry(*_given(entry, config, lambda: encoder), **config.method.options)
    if config.is_trained:
        base = getattr(torch.optim, BASE_CLASSES[config.optimizer.base])
        yield "encoder", lambda entry: entry(1, **config.encoder.options)
        yield "optimizer", lambda entry: _make_optimizer(entry, config, [weight], base)


def _given(entry: Any, config: RunConfig, make_encoder: Callable[[], Any]) -> list[Any]:
    """What the engine would give a method: an encoder, and where it wants them classes and a graph."""
    if not config.is_trained:
        return []
    from fgsam.graph.graph import Graph

    if isinstance(config, NodeConfig):
        return [make_encoder, 2]
    graph = Graph.from_arrays([[1.0]], [[0], [0]], [0], directed=False)
    return [make_encoder, [0, 1], graph][: getattr(entry, "num_given", 1)]


def _make_optimizer(entry: Any, config: RunConfig, params: list[Any], base: Any) -> None:
    options = {**config.optimizer.options, **config.optimizer.base_options}
    if "base" in inspect.signature(entry).parameters:
        options["base"] = base
    elif config.optimizer.base not in (config.optimizer.name, OptimizerConfig.model_fields["base"].default):
        raise ValueError(
            f"Expected no 'optimizer.base' for rule '{config.optimizer.name}', which makes the step itself (got "
            f"optimizer.base={config.optimizer.base}). Leave it out."
        )
    entry(params, **options)


def _place(section: str, config: RunConfig) -> str:
    changed = [
        f"{key}={value}"
        for key, value in config.flat().items()
        if key.startswith(f"{section}.") and config.sources[key] != "default"
    ]
    return ", ".join(changed)
