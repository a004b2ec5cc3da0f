"""From a config, or objects in its place, to the graph, episodes, nets and optimizer of a run."""

from __future__ import annotations

import copy
import hashlib
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fgsam.data.load import load_graph
from fgsam.engine.checkpoint import weights_digest
from fgsam.engine.config_model import RunConfig
from fgsam.engine.train import seeded
from fgsam.episodes.bank import EpisodeBank
from fgsam.episodes.sampler import EpisodeSampler
from fgsam.episodes.split import ClassSplit
from fgsam.episodes.streams import generator
from fgsam.graph.graph import Graph
from fgsam.methods.base import Method
from fgsam.nn.encoders import Encoder
from fgsam.nn.module import ModuleEncoder, check_field_equals_full, wrap
from fgsam.nn.peer import check_peer
from fgsam.optim.base import SharpnessAware
from fgsam.registry import DATASETS, ENCODERS, METHODS, OPTIMIZERS

BASES: dict[str, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}

_newest_graph: dict[str, Graph] = {}


@dataclass(frozen=True)
class Entries:
    """What a config names, loaded: or objects of the caller in their place.

    Attributes:
        encoder: An encoder class, a module class, a module, or a function that makes one.
        method: A method or floor class.
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
        """
        tables = {"encoder": ENCODERS, "method": METHODS, "optimizer": OPTIMIZERS}
        return cls(
            **{
                part: objects[part] if objects.get(part) is not None else table.load(getattr(config, part).name)
                for part, table in tables.items()
            }
        )


@dataclass(frozen=True)
class Data:
    """The graph, its class split, and the episodes that a run learns, chooses and is tested on."""

    graph: Graph
    split: ClassSplit
    sampler: EpisodeSampler
    val_bank: EpisodeBank
    test_bank: EpisodeBank

    @property
    def digests(self) -> dict[str, str]:
        """The sha256 of each part that decides about results."""
        return {
            "data": self.graph.digest,
            "split": self.split.digest,
            "val_bank": self.val_bank.digest,
            "test_bank": self.test_bank.digest,
        }


def build_data(config: RunConfig, graph: Graph | None = None, *, bank_folder: Path | None = None) -> Data:
    """Load the graph and its split, and draw or read the banks.

    Args:
        config: What to load.
        graph: A graph to use instead of the one that is named.
        bank_folder: Where banks are kept for the next run; None draws them anew.

    Raises:
        ValueError: If the split or the episodes do not fit the graph.
        FileNotFoundError: If raw files are missing.
    """
    graph = graph if graph is not None else build_graph(config)
    split = build_split(config, graph)
    banks = {
        "val_bank": (split.meta_val, config.train.val_episodes),
        "test_bank": (split.meta_test, config.evaluate.num_episodes),
    }
    shape = config.episode.model_dump()
    labels = graph.labels.cpu()
    made = {
        part: _bank(graph, split, EpisodeSampler(labels, classes, **shape), number, shape, part, bank_folder)
        for part, (classes, number) in banks.items()
    }
    digest = graph.digest  # before the conversion, which keeps it: one graph has one digest in every precision
    graph = graph.to(dtype=getattr(torch, config.run.dtype), device=config.run.device)
    assert graph.digest == digest
    return Data(graph, split, EpisodeSampler(labels, split.meta_train, **shape), **made)


def build_graph(config: RunConfig) -> Graph:
    """Load the graph that a config names; the newest named one is kept for the next run of this process."""
    dataset = config.dataset
    options = dict(dataset.options)
    if dataset.symmetrise is not None:
        options["symmetrise"] = dataset.symmetrise
    if dataset.path is not None:  # the file may change
        return load_graph(dataset.path, root=dataset.root, **options)
    key = repr((dataset.name, dataset.root, os.environ.get("FGSAM_DATA"), sorted(options.items())))
    if key not in _newest_graph:
        _newest_graph.clear()
        _newest_graph[key] = load_graph(dataset.name, root=dataset.root, **options)
    return _newest_graph[key]


def build_split(config: RunConfig, graph: Graph) -> ClassSplit:
    """Return the class split that a config names.

    A named graph brings its splits; for another one, or one generated with other classes, split ``i`` is drawn from
    the digest of the graph and ``i``, among the classes that have enough nodes for an episode.

    Raises:
        ValueError: If the split is unknown or the graph has too few classes.
    """
    which, n_way = config.dataset.split, config.episode.n_way
    if graph.name in DATASETS:
        split = ClassSplit.load(graph.name, which)
        if max(split.meta_train + split.meta_val + split.meta_test) < graph.num_classes:
            return split
    if not isinstance(which, int):
        raise ValueError(
            f"Expected 'dataset.split' to be a number for a graph without stored splits (got '{which}'). "
            "Each number stands for another random split."
        )
    needed = config.episode.k_shot + config.episode.num_query
    sizes = graph.labels.cpu()[graph.labels.cpu() >= 0].bincount()
    classes = (sizes >= needed).nonzero().flatten().tolist()
    if len(classes) < 3 * n_way:
        raise ValueError(
            f"Expected at least 3 * n_way = {3 * n_way} classes with k_shot + num_query = {needed} nodes, to divide "
            f"into training, validation and test (got {len(classes)} of {len(sizes)} classes). "
            "Lower episode.n_way, episode.k_shot or episode.num_query."
        )
    counts = ClassSplit.default_counts(len(classes), n_way)
    return ClassSplit.draw(classes, counts, generator("split", graph.digest, which), name=str(which))


def build_method(config: RunConfig, graph: Graph, entries: Entries, *keys: str | int) -> Method:
    """Make the nets of a trained method, with initial weights that depend on the keys alone.

    Args:
        config: Options of method and encoder.
        graph: Gives the number of features, the precision and the device.
        entries: What to make.
        *keys: The digest of the split and the seed.

    Raises:
        ValueError: If an option is out of range, or a module cannot be used as an encoder.
    """
    with seeded(graph.device, "init", *keys):
        # Drawn on the CPU in single precision, so that precision and device do not change the weights.
        method: Method = entries.method(lambda: build_encoder(config, graph, entries), **config.method.options)
    return method.to(device=graph.device, dtype=graph.dtype)


def build_encoder(config: RunConfig, graph: Graph, entries: Entries) -> Encoder:
    """Make one encoder; a module of the caller is copied, with its weights, and wrapped."""
    entry = entries.encoder
    is_made = isinstance(entry, nn.Module)
    made = copy.deepcopy(entry) if is_made else entry(graph.num_features, **config.encoder.options)
    if not isinstance(made, nn.Module):
        raise TypeError(
            f"Expected 'encoder' to be or to make a torch.nn.Module (got {type(made).__name__}). "
            "Give a module, a class or a function that takes the number of features."
        )
    return wrap(made, graph.num_features, allow_inexact=config.train.allow_inexact)


def build_optimizer(config: RunConfig, method: nn.Module, entries: Entries) -> SharpnessAware:
    """Make the optimizer for the weights of a method.

    Raises:
        ValueError: If an option is out of range.
    """
    options: dict[str, Any] = dict(config.optimizer.base_options)
    kinds = {(param.device.type, param.is_floating_point()) for param in method.parameters()}
    if kinds <= {("cpu", True), ("cuda", True)}:
        options["fused"] = True  # one kernel for all parameters
    named = inspect.signature(entries.optimizer).parameters
    if "base" in named:
        options["base"] = BASES[config.optimizer.base]
    # An argument of a parent class that is not set is the rule's own affair.
    own = {key: value for key, value in config.optimizer.options.items() if key in named or value is not None}
    return entries.optimizer(method, **own, **options)


def check_encoders(
    method: nn.Module, graph: Graph, *, needs_peer: bool, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Compare every user's module with a pass over the full graph, and look for its peer.

    Args:
        method: Holds the encoders.
        graph: The graph that they will be trained on.
        needs_peer: Whether the optimizer runs peer passes.
        rng: Draws the nodes that are compared.

    Returns:
        For each such encoder its reach, what is not exact about it, and the relative error on the nodes compared.

    Raises:
        ValueError: If an encoder is not exact and that was not allowed, or has no peer and one is needed.
    """
    found = []
    for name, encoder in method.named_modules():
        if isinstance(encoder, ModuleEncoder):
            if needs_peer:
                check_peer(encoder)
            check = check_field_equals_full(encoder, graph, generator=rng)
            found.append({"name": name, "num_hops": encoder.num_hops, "inexact": list(encoder.inexact), **vars(check)})
    return found


def code_digests(config: RunConfig, graph: Graph, entries: Entries) -> dict[str, str]:
    """Return digests of what is not part of the package: the source text of classes, the weights of modules.

    A config names such things only by their place, so that two of the same name would count as the same run.
    """
    digests = {}
    if not _is_ours(entries.method):
        digests["method"] = _source_digest(entries.method)
    if not getattr(entries.method, "is_trained", True):
        return digests
    if not _is_ours(entries.optimizer):
        digests["optimizer"] = _source_digest(entries.optimizer)
    if not _is_ours(entries.encoder):
        with seeded(graph.device, "digest"):
            module = build_encoder(config, graph, entries)
        content = _source_digest(entries.encoder) + repr(module) + weights_digest(module.state_dict())
        digests["encoder"] = hashlib.sha256(content.encode()).hexdigest()
    return digests


def entry_label(entry: Any) -> str:
    """Return ``package.module:Class`` for a class or function, or for the class of a module.

    Example:
        >>> entry_label(nn.Linear(1, 1))
        'torch.nn.modules.linear:Linear'
    """
    named = entry if hasattr(entry, "__qualname__") else type(entry)
    return f"{named.__module__}:{named.__qualname__}"


def _bank(
    graph: Graph,
    split: ClassSplit,
    sampler: EpisodeSampler,
    num_episodes: int,
    shape: dict[str, Any],
    part: str,
    folder: Path | None,
) -> EpisodeBank:
    def draw() -> EpisodeBank:
        return EpisodeBank.draw(sampler, num_episodes, generator(part, graph.digest, split.digest))

    if folder is None:
        return draw()
    keys = repr((graph.digest, split.digest, sorted(shape.items()), num_episodes, part))
    path = folder / f"{part}-{hashlib.sha256(keys.encode()).hexdigest()[:16]}.npz"
    if path.is_file():
        return EpisodeBank.load(path)
    bank = draw()
    bank.save(path)
    return bank


def _is_ours(entry: Callable[..., Any] | nn.Module) -> bool:
    return getattr(entry, "__module__", "").startswith("fgsam.") and not isinstance(entry, nn.Module)


def _source_digest(entry: Any) -> str:
    named = entry if hasattr(entry, "__qualname__") else type(entry)
    try:
        text = inspect.getsource(named)
    except (OSError, TypeError):  # typed at a prompt, or compiled
        text = entry_label(entry)
    return hashlib.sha256(text.encode()).hexdigest()
