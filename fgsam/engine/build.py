"""From a config, or objects in its place, to the nets and the optimizer of a run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from fgsam.engine.config_model import RunConfig
from fgsam.engine.seeding import seeded
from fgsam.graph.graph import Graph
from fgsam.methods.base import Learner
from fgsam.methods.classifier import NodeClassifier
from fgsam.methods.floors import Floor
from fgsam.nn.encoders import Encoder, is_built_in
from fgsam.nn.probing import copied_module
from fgsam.optim.base import SharpnessAware
from fgsam.optim.ranks import DataParallel

BASES: dict[str, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}


KINDS: dict[str, tuple[type[Any], ...]] = {"few_shot": (Learner, Floor), "node_classification": (NodeClassifier,)}
"""What the method of each task is derived from."""


@dataclass(frozen=True)
class Entries:
    """What a config names, loaded: or objects of the caller in their place.

    Attributes:
        encoder: An encoder class, a module class, a module, or a function that makes one.
        method: A method or floor class, or that of a node classifier.
        optimizer: A class of update rules.
    """

    encoder: Any
    method: type[Any]
    optimizer: type[SharpnessAware]

    @classmethod
    def load(cls, config: RunConfig, **objects: Any) -> Entries:
        """Load what the config names, unless an object is given for it.

        Raises:
            ValueError: If a name is unknown or cannot be imported.
            TypeError: If a method or an optimizer is no class of the package's kind.
        """
        sections = {"encoder": config.encoder, "method": config.method, "optimizer": config.optimizer}
        parts = {
            part: objects[part] if objects.get(part) is not None else section.table.load(section.name)
            for part, section in sections.items()
        }
        _check_class(parts["method"], "method", KINDS[config.task])
        _check_class(parts["optimizer"], "optimizer", (SharpnessAware,))
        return cls(**parts)


def build_method(
    config: RunConfig, graph: Graph, entries: Entries, *keys: str | int, given: Sequence[Any] = ()
) -> nn.Module:
    """Make the nets of a trained method, with initial weights that depend on the keys alone.

    Args:
        config: Options of method and encoder.
        graph: Gives the number of features, the precision and the device.
        entries: What to make.
        *keys: The digest of the split and the seed.
        given: What the method is given beside the encoder; ``data.given(entries.method)`` says it.

    Raises:
        ValueError: If an option is out of range, or a module cannot be used as an encoder.
    """
    with seeded(graph.device, "init", *keys):
        # Drawn on the CPU in single precision, so that precision and device do not change the weights.
        method: nn.Module = entries.method(
            lambda: build_encoder(config, graph, entries), *given, **config.method.options
        )
    return method.to(device=graph.device, dtype=graph.dtype)


def build_encoder(config: RunConfig, graph: Graph, entries: Entries) -> Encoder:
    """Make one encoder; a module of the caller is copied, with its weights, and wrapped."""
    entry = entries.encoder
    is_made = isinstance(entry, nn.Module)
    made = copied_module(entry) if is_made else _made_encoder(entry, graph.num_features, config.encoder.options)
    if not isinstance(made, nn.Module):
        raise TypeError(
            f"Expected 'encoder' to be or to make a torch.nn.Module (got {type(made).__name__}). "
            "Give a module, a class or a function that takes the number of features."
        )
    if isinstance(made, Encoder):
        return made
    # Imported here because it imports PyTorch Geometric, which takes seconds that built-in encoders need not wait.
    from fgsam.nn.module import ModuleEncoder

    return ModuleEncoder(made, graph.num_features, allow_inexact=config.train.allow_inexact)


def build_optimizer(
    config: RunConfig, method: nn.Module, entries: Entries, *, data_parallel: DataParallel | None = None
) -> SharpnessAware:
    """Make the optimizer for the weights of a method.

    Args:
        config: Options of the rule and of its base.
        method: Holds the weights.
        entries: Which rule.
        data_parallel: What the ranks of this job share in a step; None for a process alone.

    Raises:
        ValueError: If an option is out of range.
    """
    options: dict[str, Any] = dict(config.optimizer.base_options)
    has_base = "base" in inspect.signature(entries.optimizer).parameters
    if has_base:
        options["base"] = BASES[config.optimizer.base]
    kinds = {(param.device.type, param.is_floating_point()) for param in method.parameters()}
    if (has_base or hasattr(entries.optimizer, "base_class")) and kinds <= {("cpu", True), ("cuda", True)}:
        options["fused"] = True  # one kernel for all parameters; only PyTorch's own optimizers have it
    if data_parallel is not None:
        options["data_parallel"] = data_parallel
    return entries.optimizer(method, **config.optimizer.options, **options)


def check_encoders(
    method: nn.Module, graph: Graph, *, optimizer: SharpnessAware, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Compare every encoder of the user's with a pass over the full graph, and look for its peer.

    Args:
        method: Holds the encoders.
        graph: The graph that they will be trained on.
        optimizer: Says whether there are peer passes; there are also where a method runs without edges.
        rng: Draws the nodes that are compared.

    Returns:
        For each such encoder its reach, what is not exact about it, and the relative error on the nodes compared.

    Raises:
        ValueError: If an encoder is not exact and that was not allowed, or has no peer and one is needed.
    """
    modules = [(name, part) for name, part in method.named_modules() if isinstance(part, Encoder)]
    foreign = [(name, encoder) for name, encoder in modules if not is_built_in(encoder)]
    if not foreign:
        return []
    runs_without_edges = not (getattr(method, "trains_on_edges", True) and getattr(method, "tests_on_edges", True))
    needs_peer = optimizer.peer == "required" or runs_without_edges
    from fgsam.nn.module import check_field_equals_full
    from fgsam.nn.peer import check_peer

    found = []
    for name, encoder in foreign:
        if needs_peer:
            check_peer(encoder, graph.num_features)
        check = check_field_equals_full(encoder, graph, generator=rng)
        inexact = list(getattr(encoder, "inexact", ()))
        found.append({"name": name, "num_hops": encoder.num_hops, "inexact": inexact, **vars(check)})
    return found


def entry_label(entry: Any) -> str:
    """Return ``package.module:Class`` for a class or function, or for the class of a module.

    Example:
        >>> entry_label(nn.Linear(1, 1))
        'torch.nn.modules.linear:Linear'
    """
    named = entry if hasattr(entry, "__qualname__") else type(entry)
    return f"{named.__module__}:{named.__qualname__}"


def is_ours(entry: Callable[..., Any] | nn.Module) -> bool:
    """Whether an entry is a class or function of the package, which its name and options describe wholly."""
    return getattr(entry, "__module__", "").startswith("fgsam.") and not isinstance(entry, nn.Module)


def _made_encoder(entry: Any, num_features: int, options: dict[str, Any]) -> Any:
    """Call the class or function that makes an encoder; what a foreign one raises says little without the call."""
    if not callable(entry):
        raise TypeError(
            f"Expected 'encoder' to be a name, a module, or a class or function that makes one (got {entry!r}). "
            "Give a module, or a class or function that takes the number of features."
        )
    if is_ours(entry):
        return entry(num_features, **options)
    try:
        return entry(num_features, **options)
    except Exception as error:
        call = ", ".join([str(num_features), *(f"{key}={value!r}" for key, value in options.items())])
        raise ValueError(
            f"Expected {entry_label(entry)} to make a module when called as ({call}) "
            f"(got {type(error).__name__}: {error}). The first argument is the number of features; options follow."
        ) from error


def _check_class(entry: Any, part: str, kinds: tuple[type[Any], ...]) -> None:
    if not (isinstance(entry, type) and issubclass(entry, kinds)):
        names = " or ".join(f"{kind.__module__}.{kind.__name__}" for kind in kinds)
        raise TypeError(
            f"Expected '{part}' to be a name or a class derived from {names} (got {_kind(entry)}). "
            "The run makes the object itself, with the options of its config."
        )


def _kind(entry: Any) -> str:
    return f"the class {entry_label(entry)}" if isinstance(entry, type) else f"an object of {type(entry).__name__}"
