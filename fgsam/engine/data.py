"""The graph, the class split and the episodes of a run."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fgsam.data.load import load_graph
from fgsam.engine.config_model import RunConfig
from fgsam.episodes.bank import EpisodeBank
from fgsam.episodes.sampler import EpisodeSampler
from fgsam.episodes.split import ClassSplit
from fgsam.episodes.streams import generator
from fgsam.graph.graph import Graph
from fgsam.registry import DATASETS

_newest_graph: dict[str, Graph] = {}


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
        ValueError: If the split or the episodes do not fit the graph, or the device is not there.
        FileNotFoundError: If raw files are missing.
    """
    _check_device(config.run.device)
    graph = graph if graph is not None else build_graph(config)
    _check_features(graph)
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
    """Load the graph that a config names; the newest one with a card is kept for the next run of this process."""
    dataset = config.dataset
    options = dict(dataset.options)
    if dataset.symmetrise is not None:
        options["symmetrise"] = dataset.symmetrise
    if dataset.path is not None or dataset.name not in DATASETS:  # a file or a loader of the user's may change
        return load_graph(dataset.path or dataset.name, root=dataset.root, **options)
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
    classes = [class_id for class_id, size in enumerate(sizes.tolist()) if size >= needed]
    if len(classes) < 3 * n_way:
        raise ValueError(
            f"Expected at least 3 * n_way = {3 * n_way} classes with k_shot + num_query = {needed} nodes, to divide "
            f"into training, validation and test (got {len(classes)} of {len(sizes)} classes). "
            "Lower episode.n_way, episode.k_shot or episode.num_query."
        )
    counts = ClassSplit.default_counts(len(classes), n_way)
    return ClassSplit.draw(classes, counts, generator("split", graph.digest, which), name=str(which))


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
        bank = EpisodeBank.load(path)
        _check_bank(bank, sampler, num_episodes, path)
        return bank
    bank = draw()
    bank.save(path)
    return bank


def _check_bank(bank: EpisodeBank, sampler: EpisodeSampler, num_episodes: int, path: Path) -> None:
    """Refuse a whole bank that lies under the name of another one."""
    found = (len(bank), bank.n_way, bank.k_shot, bank.num_query)
    expected = (num_episodes, sampler.n_way, sampler.k_shot, sampler.num_query)
    strange = sorted(set(bank.classes.flatten().tolist()) - set(sampler.classes))
    if found != expected or strange:
        raise ValueError(
            f"Expected '{path}' to hold {num_episodes} episodes of this run (got {len(bank)} of "
            f"{bank.n_way}-way {bank.k_shot}-shot with {bank.num_query} queries"
            f"{f', with classes {strange} of another part' if strange else ''}). "
            "Delete the file: the same bank is drawn again from its seed."
        )


def _check_features(graph: Graph) -> None:
    if not graph.num_nodes or not graph.num_features:
        raise ValueError(
            f"Expected a graph with nodes and features (got {graph.num_nodes} nodes with {graph.num_features} "
            "features). Without features of their own, nodes can have their degree, or a one-hot row each."
        )


def _check_device(device: str) -> None:
    num_gpus = torch.cuda.device_count()
    if device.startswith("cuda") and int(device.partition(":")[2] or 0) >= num_gpus:
        raise ValueError(
            f"Expected 'run.device' to be a device of this machine (got run.device={device}, {num_gpus} GPUs that "
            "torch can use). Set run.device=cpu."
        )
