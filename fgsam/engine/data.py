"""The graph of a run, and the class split and the episodes of a few-shot one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fgsam.data.features import KINDS, with_features
from fgsam.data.folders import data_folders
from fgsam.data.load import load_graph
from fgsam.engine.banks import build_bank
from fgsam.engine.config_model import EpisodeConfig, FewShotConfig, RunConfig
from fgsam.engine.episode_task import EpisodeTask, PretrainingTask
from fgsam.engine.evaluate import BankScorer
from fgsam.engine.figures import figures
from fgsam.engine.task import Scored
from fgsam.episodes.bank import EpisodeBank
from fgsam.episodes.sampler import EpisodeSampler
from fgsam.episodes.split import PARTS, ClassSplit
from fgsam.episodes.streams import generator
from fgsam.graph.graph import Graph
from fgsam.graph.perturb import with_edge_noise
from fgsam.methods.base import Learner, Lesson, PretrainedMethod
from fgsam.methods.smoothing import with_smoothed_features
from fgsam.registry import DATASETS

MOST_DEGREES = 3
"""Columns of the features ``"degree"`` at most."""

logger = logging.getLogger(__name__)

_newest_graph: dict[str, Graph] = {}


@dataclass(frozen=True)
class Data:
    """The graph, its class split, and the episodes that a run learns, chooses and is tested on.

    Attributes:
        graph: The whole graph, which the tested weights see.
        train_graph: What training sees; in the inductive setting without nodes of validation and test classes.
        val_graph: What validation sees; in the inductive setting without nodes of test classes.
        split: Classes of training, validation and test.
        sampler: Draws training episodes.
        val_bank: Episodes that weights and settings are chosen on: of training classes where the split has no others.
        make_test_bank: Draws or reads ``test_bank``.
        episode: The shape of an episode, and its noise.
    """

    graph: Graph
    train_graph: Graph
    val_graph: Graph
    split: ClassSplit
    sampler: EpisodeSampler
    val_bank: EpisodeBank
    make_test_bank: Callable[[], EpisodeBank]
    episode: EpisodeConfig

    @cached_property
    def test_bank(self) -> EpisodeBank:
        """Episodes that the result is about; made when they are first asked for, which a search never does."""
        return self.make_test_bank()

    @property
    def digests(self) -> dict[str, str]:
        """The sha256 of each part that decides about results."""
        return {
            "data": self.graph.digest,
            "split": self.split.digest,
            "val_bank": self.val_bank.digest,
            "test_bank": self.test_bank.digest,
        }

    def given(self, method: type[Learner]) -> list[Any]:
        """What the constructor of a learner is given beside the encoder: class ids and the graph, where it asks."""
        if method.num_given == 1:
            return []
        return [self._taught(method.learns_from), self.train_graph][: method.num_given - 1]

    def task(self, method: Learner) -> EpisodeTask | PretrainingTask:
        """What a trainer minimises, and chooses by.

        Raises:
            ValueError: If the learner wants labels of classes that the training graph does not hold.
        """
        if not isinstance(method, PretrainedMethod):
            noise = self.episode.support_noise
            return EpisodeTask(
                self.train_graph, self.sampler, self.val_bank, val_graph=self.val_graph, support_noise=noise
            )
        nodes, labels = self._lessons(method.learns_from)
        return PretrainingTask(
            self.train_graph,
            nodes,
            labels,
            self.val_bank,
            batch_size=method.batch_size,
            max_epochs=method.max_epochs,
            val_graph=self.val_graph,
        )

    def _taught(self, kind: Lesson) -> list[int]:
        """Class ids that a learner is taught."""
        split = self.split
        everything = split.meta_train + split.meta_val + split.meta_test
        return sorted(everything if kind == "all_nodes" else split.meta_train)

    def _lessons(self, kind: Lesson) -> tuple[Tensor, Tensor]:
        """The nodes of the training graph that a learner is taught by, and their classes, numbered from 0."""
        labels = self.train_graph.labels.cpu()
        if kind == "unlabelled_nodes":
            is_hidden = (labels < 0) & (self.graph.labels.cpu() >= 0)  # not there yet in the inductive setting
            nodes = (~is_hidden).nonzero().squeeze(-1)
            return nodes, torch.full_like(nodes, -1)
        if kind == "all_nodes" and self.train_graph is not self.graph:
            raise ValueError(
                "Expected graph.setting=transductive for a learner that is taught all classes (got inductive): the "
                "training graph does not hold them."
            )
        classes = torch.tensor(self._taught(kind))
        nodes = torch.isin(labels, classes).nonzero().squeeze(-1)
        return nodes, torch.searchsorted(classes, labels[nodes])

    def test(self, method: Learner) -> Scored:
        """Score weights on the test episodes."""
        return BankScorer(self.graph, self.test_bank).score(method)

    def figures(self, val: Scored, test: Scored) -> dict[str, Any]:
        """What the results of a run say about its validation and test episodes, as plain values."""
        return figures(self.episode, self, val.hits, test.hits)


def build_data(config: FewShotConfig, graph: Graph | None = None, *, bank_folder: Path | None = None) -> Data:
    """Load the graph and its split, and draw or read the validation bank.

    Split and banks are those of the clean graph, so that a run with noise or smoothed features is paired with one
    without.

    Args:
        config: What to load.
        graph: A graph to use instead of the one that is named.
        bank_folder: Where banks are kept for the next run; None draws them anew.

    Raises:
        ValueError: If the split or the episodes do not fit the graph, or the device is not there.
        FileNotFoundError: If raw files are missing.
    """
    graph = usable_graph(config, graph)
    split = build_split(config, graph)
    if not split.meta_val:
        logger.warning("Split '%s' has no validation classes: training classes choose the weights", split.name)
    labels = graph.labels.cpu()
    samplers = {
        part: EpisodeSampler(labels, classes, drop_small=True, **config.episode.shape)
        for part, classes in zip(PARTS, (split.meta_train, split.meta_val, split.meta_test), strict=True)
        if classes
    }
    val_sampler = samplers.get("meta_val", samplers["meta_train"])
    val_bank = build_bank(config, graph, split, val_sampler, "val_bank", bank_folder)
    whole, train_graph, val_graph = _seen_graphs(config, graph, split)

    def make_test_bank() -> EpisodeBank:
        return build_bank(config, graph, split, samplers["meta_test"], "test_bank", bank_folder)

    return Data(whole, train_graph, val_graph, split, samplers["meta_train"], val_bank, make_test_bank, config.episode)


def _seen_graphs(config: FewShotConfig, graph: Graph, split: ClassSplit) -> tuple[Graph, Graph, Graph]:
    """What test, training and validation see of a graph, with noise, features, precision and device of the config."""
    clean, kind = graph, _kind_of_features(config, graph)
    if config.graph.edge_noise:
        # Labels and features must not decide which edges are wrong: training would depend on those of new classes.
        rng = generator("edge noise", graph.num_nodes, graph.num_edges)
        graph = with_edge_noise(graph, config.graph.edge_noise, rng)

    def seen(part: Graph) -> Graph:
        return part if part is clean or kind is None else with_features(part, kind)  # of the edges that are seen

    def before(classes: tuple[int, ...]) -> Graph:
        return seen(graph.without(torch.where(torch.isin(graph.labels.cpu(), torch.tensor(classes)))[0]))

    whole = seen(graph)
    if config.graph.setting == "transductive":
        shown = prepared(config, whole)
        return shown, shown, shown
    val_graph = before(split.meta_test)
    train_graph = before(split.meta_val + split.meta_test) if split.meta_val else val_graph
    shown, val_shown = (prepared(config, part, like=train_graph) for part in (whole, val_graph))
    return shown, prepared(config, train_graph) if split.meta_val else val_shown, val_shown


def usable_graph(config: RunConfig, graph: Graph | None = None) -> Graph:
    """Load the graph that a config names, or take a given one, and see whether a run can use it.

    Raises:
        ValueError: If it has no nodes or no features, or the device is not there.
        FileNotFoundError: If raw files are missing.
    """
    _check_device(config.run.device)
    if graph is None:
        graph = build_graph(config)
    elif _features_of_edges(config) is not None:
        graph = with_features(graph, str(config.dataset.features))
    _check_features(graph)
    return graph


def prepared(config: RunConfig, graph: Graph, *, like: Graph | None = None) -> Graph:
    """Return a graph with the smoothed features that a config asks for, in its precision and on its device.

    Args:
        config: What is asked for.
        graph: What training, validation or test see, on the CPU.
        like: The graph that training sees, whose leading directions the features have; ``graph`` when not given.
    """
    kind = config.dataset.features
    is_smoothed = kind is not None and kind not in KINDS
    return converted(config, with_smoothed_features(graph, str(kind), basis=like) if is_smoothed else graph)


def converted(config: RunConfig, graph: Graph) -> Graph:
    """Return a graph in the precision and on the device of a config."""
    digest = graph.digest  # before the conversion, which keeps it: one graph has one digest in every precision
    made = graph.to(dtype=getattr(torch, config.run.dtype), device=config.run.device)
    assert made.digest == digest
    return made


def build_graph(config: RunConfig) -> Graph:
    """Load the graph that a config names; the newest one is kept for the next run of this process."""
    dataset = config.dataset
    options = dict(dataset.options)
    known = {"symmetrise": dataset.symmetrise, "features": _features_of_edges(config)}
    options.update({key: value for key, value in known.items() if value is not None})
    name = dataset.path or dataset.name
    state = _state_of_source(config)
    if state is None:
        return load_graph(name, root=dataset.root, **options)
    key = repr((name, state, sorted(options.items())))
    if key not in _newest_graph:
        _newest_graph.clear()
        _newest_graph[key] = load_graph(name, root=dataset.root, **options)
    return _newest_graph[key]


def _state_of_source(config: RunConfig) -> tuple[object, ...] | None:
    """What changes with the content of a graph's source; None for a loader of the user's, which may do anything."""
    dataset = config.dataset
    if dataset.path is not None:
        try:
            stat = Path(dataset.path).stat()
        except OSError:  # loading says what is wrong
            return None
        return str(Path(dataset.path).absolute()), stat.st_mtime_ns, stat.st_size, stat.st_ino
    return tuple(map(str, data_folders(dataset.root))) if dataset.name in DATASETS else None


def build_split(config: FewShotConfig, graph: Graph) -> ClassSplit:
    """Return the class split that a config names.

    A named graph brings its splits; for another one, or one generated with other classes, split ``i`` is drawn from
    the digest of the graph and ``i``, among the classes that have enough nodes for an episode. With fewer than three
    times ``n_way`` of them there are no validation classes.

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
    needed = config.episode.k_shot + (1 if config.episode.num_query == "all" else config.episode.num_query)
    sizes = graph.labels.cpu()[graph.labels.cpu() >= 0].bincount()
    classes = [class_id for class_id, size in enumerate(sizes.tolist()) if size >= needed]
    if len(classes) < 2 * n_way:
        raise ValueError(
            f"Expected at least 2 * n_way = {2 * n_way} classes with k_shot + num_query = {needed} nodes, to divide "
            f"into training and test, and {3 * n_way} for validation classes too (got {len(classes)} of {len(sizes)} "
            "classes). Lower episode.n_way, episode.k_shot or episode.num_query."
        )
    counts = (len(classes) - n_way, 0, n_way)
    if len(classes) >= 3 * n_way:
        counts = ClassSplit.default_counts(len(classes), n_way)
    return ClassSplit.draw(classes, counts, generator("split", graph.digest, which), name=str(which))


def _kind_of_features(config: FewShotConfig, graph: Graph) -> str | None:
    """Which features are made of the edges: those of the config, or the degrees that a bare graph was given."""
    kind = _features_of_edges(config)
    if kind is not None or graph.num_features > MOST_DEGREES:
        return kind
    return "degree" if with_features(graph, "degree").digest == graph.digest else None


def _features_of_edges(config: RunConfig) -> str | None:
    """The features of a config that are made of edges alone; smoothed ones are made of the graph's own, later."""
    kind = config.dataset.features
    return kind if kind in KINDS else None


def _check_features(graph: Graph) -> None:
    if not graph.num_nodes or not graph.num_features:
        raise ValueError(
            f"Expected a graph with nodes and features (got {graph.num_nodes} nodes with {graph.num_features} "
            "features). Set dataset.features=degree, one_hot or random_walk to make features of the edges."
        )


def _check_device(device: str) -> None:
    num_gpus = torch.cuda.device_count()
    if device.startswith("cuda") and int(device.partition(":")[2] or 0) >= num_gpus:
        raise ValueError(
            f"Expected 'run.device' to be a device of this machine (got run.device={device}, {num_gpus} GPUs that "
            "torch can use). Set run.device=cpu."
        )
