"""What a finished run found, and its weights put to use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fgsam.engine.build import Entries, build_method
from fgsam.engine.checkpoint import load_checkpoint, weights_digest
from fgsam.engine.config import ConfigError, reload_config
from fgsam.engine.config_model import FEW_SHOT, NODE_CLASSIFICATION
from fgsam.engine.data import Data
from fgsam.engine.evaluate import BankScorer, evaluating, floor_answers, represented, tested_fields
from fgsam.engine.inputs import build_inputs
from fgsam.engine.node_data import NodeData, unpacked
from fgsam.engine.node_task import Metric, NodeScorer
from fgsam.engine.record import RESULTS_VERSION, RunDirectory
from fgsam.engine.task import Scored
from fgsam.episodes.episode import Episode
from fgsam.functional.intervals import mean_interval, share_interval
from fgsam.graph.graph import Graph
from fgsam.methods.base import Learner
from fgsam.optim.base import SharpnessAware

if TYPE_CHECKING:
    from fgsam.typing import NodeIds


@dataclass(frozen=True)
class Score:
    """Accuracy over a bank of episodes.

    Attributes:
        accuracy: Mean share of correct queries, between 0 and 1.
        interval: Half-width of the 95 % interval over episodes, which says nothing about other classes or seeds.
        num_episodes: Episodes that it is a mean of.

    Example:
        >>> print(Score(0.7321, 0.0064, 1000))
        73.2 % ± 0.6 (1000 episodes)
    """

    accuracy: float
    interval: float
    num_episodes: int

    @classmethod
    def of(cls, correct: Tensor, num_queries: Tensor | int) -> Score:
        """Summarise correct queries per episode, of as many in every episode or of so many in each."""
        mean, interval = mean_interval(correct.double() / num_queries)
        return cls(mean, interval, len(correct))

    def __str__(self) -> str:
        return f"{100 * self.accuracy:.1f} % ± {100 * self.interval:.1f} ({self.num_episodes} episodes)"


@dataclass(frozen=True)
class NodeScore:
    """Accuracy on the test nodes.

    Attributes:
        accuracy: Share of test nodes that are right, between 0 and 1.
        interval: Half-width of the binomial 95 % interval over test nodes, which says nothing about other splits or
            seeds.
        num_nodes: Test nodes.
        roc_auc: Area under the ROC curve, between 0 and 1; None unless there are two classes.

    Example:
        >>> print(NodeScore(0.7321, 0.0364, 568))
        73.2 % ± 3.6 (568 test nodes)
    """

    accuracy: float
    interval: float
    num_nodes: int
    roc_auc: float | None = None

    @classmethod
    def of(cls, scored: Scored, metric: Metric) -> NodeScore:
        """Summarise the answers on some nodes."""
        _, interval = share_interval(int(scored.hits.sum()), len(scored.hits))
        return cls(scored.accuracy, interval, len(scored.hits), scored.score if metric == "roc_auc" else None)

    def __str__(self) -> str:
        area = "" if self.roc_auc is None else f", ROC AUC {100 * self.roc_auc:.1f} %"
        return f"{100 * self.accuracy:.1f} % ± {100 * self.interval:.1f} ({self.num_nodes} test nodes){area}"


@dataclass(frozen=True)
class Material:
    """What a run was made of: its data, and the trained method or fitted floor."""

    data: Any
    learner: Any


class Run:
    """A finished run of few-shot learning; a ``NodeRun`` of node classification.

    Attributes:
        directory: Where its files lie.
        config: Every setting, by section and key.
        results: What was computed; the same bits whenever the same run is computed.
        timing: Seconds, milliseconds an episode or step, memory; these differ from time to time.
        versions: What it was computed with.

    Args:
        directory: The run directory.
        material: What it was made of, if that is at hand; otherwise it is loaded when needed.
        objects: Graph, encoder or method to use where the config cannot name them.

    Raises:
        ValueError: If the run is not finished, or its files are damaged.
    """

    _special = frozenset(
        {"num_episodes", "test_balanced_accuracy", "test_balanced_interval", "validated_on", "bank_sizes"}
    )

    def __init__(
        self, directory: Path, *, material: Material | None = None, objects: Mapping[str, Any] | None = None
    ) -> None:
        files = RunDirectory(Path(directory))
        content = files.read_result()
        if content is None:
            raise ValueError(
                f"Expected {directory} to hold a finished run (there is no result.json). "
                f"If it has a config.yaml, go on with: fgsam run {files.config}"
            )
        self.directory = files.path
        self.config: dict[str, Any] = files.read_config()
        self.results: dict[str, Any] = content["results"]
        self.timing: dict[str, Any] = content["timing"]
        self.versions: dict[str, Any] = content["versions"]
        self._files = files
        self._material = material
        self._objects = {part: value for part, value in (objects or {}).items() if value is not None}

    @property
    def task(self) -> str:
        """What was learned: ``"few_shot"`` or ``"node_classification"``."""
        return str(self.config.get("task", FEW_SHOT))

    @property
    def test(self) -> Score:
        """Accuracy of the tested weights over the test episodes."""
        results = self.results
        return Score(results["test_accuracy"], results["test_interval"], len(results["test_correct"]))

    @property
    def balanced(self) -> Score | None:
        """Mean share of right answers in a class, over the test episodes; None where classes have equal numbers."""
        results = self.results
        if "test_balanced_accuracy" not in results:
            return None
        accuracy, interval = results["test_balanced_accuracy"], results["test_balanced_interval"]
        return Score(accuracy, interval, len(results["test_correct"]))

    @property
    def val_accuracy(self) -> float:
        """Accuracy of the tested weights over the whole validation bank, which chose them."""
        return float(self.results["val_accuracy"])

    @property
    def data(self) -> Any:
        """What it was computed on, loaded when first asked for: the graph, its split, and the banks of episodes."""
        return self._loaded().data

    @property
    def history(self) -> list[dict[str, Any]]:
        """The log: a line for the loss of every step and one for every validation; empty for a floor."""
        if not self._files.log.is_file():
            return []
        return [json.loads(line) for line in self._files.log.read_text().splitlines()]

    def summary(self) -> dict[str, Any]:
        """The main figures as one flat dict of plain values."""
        keys = ("test_accuracy", "test_interval", "val_accuracy", "weights_digest", "stopped_by")
        return {
            **{key: self.results[key] for key in keys},
            **{key: value for key, value in self.results.items() if key in self._special},
            **self.timing,
            "run_dir": str(self.directory),
            "config": self.config,
        }

    def evaluate(self) -> Score:
        """Score the stored weights on the test episodes once more.

        Raises:
            ValueError: If the stored weights are not those of the result.
        """
        bank = self.data.test_bank
        return Score.of((self.answers() == bank.query_labels).sum(-1), bank.num_queries)

    def answers(self) -> Tensor:
        """Classify the queries of the test episodes once more, with the weights as they were tested.

        Returns:
            Episode labels of the shape of ``data.test_bank.query``, any where a query is only repeated, int64.

        Raises:
            ValueError: If the stored weights are not those of the result.
        """
        material = self._loaded()
        bank = material.data.test_bank
        if self.results["is_trained"]:
            return BankScorer(material.data.graph, bank).answers(material.learner)
        return floor_answers(material.learner, bank)

    def predict(self, support_nodes: NodeIds, support_labels: Any, query_nodes: NodeIds) -> Any:
        """Classify nodes by a few labelled ones, with the weights as they were tested.

        Args:
            support_nodes: Labelled nodes, shape ``[num_support]``.
            support_labels: Their labels, of any kind that can be sorted, shape ``[num_support]``.
            query_nodes: Nodes to classify, shape ``[num_query]``.

        Returns:
            One of the support labels for each query node: a tensor if the labels are one, else an array.

        Raises:
            ValueError: If a node is not of the graph, support nodes and labels differ in number, or fewer than two
                classes are given.
        """
        num_nodes = self._loaded().data.graph.num_nodes
        support, query = _ids(support_nodes, num_nodes), _ids(query_nodes, num_nodes)
        values, places = np.unique(np.asarray(support_labels), return_inverse=True)
        if len(places) != len(support) or len(values) < 2:
            raise ValueError(
                f"Expected one label for each support node, of at least 2 classes "
                f"(got {len(support)} nodes, {len(places)} labels, {len(values)} classes)"
            )
        order = torch.from_numpy(np.argsort(places, kind="stable"))  # class by class, as methods are trained
        labels = torch.from_numpy(places)[order]
        found = self._predicted(support[order], labels, query, len(values)).numpy()
        return torch.from_numpy(values[found]) if isinstance(support_labels, Tensor) else values[found]

    def __repr__(self) -> str:
        return f"Run('{self.directory.name}', test {self.test})"

    def _predicted(self, support: Tensor, labels: Tensor, query: Tensor, n_way: int) -> Tensor:
        material = self._loaded()
        graph, learner = material.data.graph, material.learner
        if not self.results["is_trained"]:
            found: Tensor = learner.predict(support, labels, query, n_way)
            return found
        with evaluating(learner):
            if learner.adapts:
                return _adapted(learner, graph, support, labels, query, n_way)
            nodes, places = torch.unique(torch.cat([support, query]), return_inverse=True)
            rows = [values[places] for values in represented(learner, tested_fields(learner, graph, nodes))]
            known, asked = tuple(r[: len(support)] for r in rows), tuple(r[len(support) :] for r in rows)
            logits: Tensor = learner.logits(known, labels.to(graph.device), asked, n_way)
        return logits.argmax(-1).cpu()

    def _loaded(self) -> Material:
        if self._material is None:
            self._material = self._load()
        return self._material

    def _load(self) -> Material:
        version = self.results.get("results_version")
        if version != RESULTS_VERSION:
            raise ValueError(
                f"Expected a run of results_version {RESULTS_VERSION} (got {version} in {self.directory}): the same "
                "config computes something else now. Use the version of fgsam that its result.json names, or run again."
            )
        # An optimizer has done its work: what it was is not asked for.
        missing = [part for part in self.results["objects"] if part not in (*self._objects, "optimizer")]
        if missing:
            raise ValueError(
                f"Expected the {' and the '.join(missing)} that this run was made with, which no config can name. "
                f"Pass it: load_run('{self.directory}', {missing[0]}=...)"
            )
        try:
            config = reload_config(self.config, self.results["objects"])
        except ConfigError as error:
            raise ValueError(f"Expected {self._files.config} as the run wrote it. {error}") from error
        objects = {part: value for part, value in self._objects.items() if part != "graph"}
        entries = Entries.load(config, **{**objects, "optimizer": SharpnessAware})
        data = build_inputs(config, self._objects.get("graph"))
        if data.digests != self.results["digests"]:
            changed = [part for part, digest in data.digests.items() if digest != self.results["digests"].get(part)]
            raise ValueError(
                f"Expected the data that {self.directory} was made with (changed: {', '.join(changed)}). "
                "Restore it, or run again with what there is now."
            )
        if isinstance(data, Data) and not self.results["is_trained"]:
            floor = entries.method(**config.method.options)
            floor.fit(data.val_graph, data.val_bank)
            floor.use(data.graph)
            return Material(data, floor)
        given = data.given(entries.method)
        method = build_method(config, data.graph, entries, data.split.digest, config.train.seed, given=given)
        weights = load_checkpoint(self._files.weights, device=data.graph.device).get("weights")
        if weights is None or weights_digest(weights) != self.results["weights_digest"]:
            raise ValueError(
                f"Expected {self._files.weights} to hold the tested weights (its digest is another one). "
                "Restore it, or delete the directory and run again."
            )
        method.load_state_dict(weights)
        return Material(data, method.eval())


class NodeRun(Run):
    """A finished run of node classification.

    Attributes:
        directory: Where its files lie.
        config: Every setting, by section and key.
        results: What was computed; the same bits whenever the same run is computed.
        timing: Seconds, milliseconds a step, memory; these differ from time to time.
        versions: What it was computed with.
    """

    _special = frozenset(
        {"task", "metric", "test_roc_auc", "val_roc_auc", "interval_over", "split", "num_nodes", "num_steps"}
    )

    @property
    def test(self) -> NodeScore:  # type: ignore[override]
        """Accuracy of the tested weights on the test nodes."""
        results = self.results
        sizes = results["num_nodes"]
        accuracy, interval = results["test_accuracy"], results["test_interval"]
        return NodeScore(accuracy, interval, sizes["test"], results.get("test_roc_auc"))

    @property
    def test_hits(self) -> Tensor:
        """Which test nodes are right, booleans in the order of their ids: what two runs on one split are paired by."""
        return unpacked(self.results["test_hits"], self.results["num_nodes"]["test"])

    def evaluate(self) -> NodeScore:  # type: ignore[override]
        """Score the stored weights on the test nodes once more.

        Raises:
            ValueError: If the stored weights are not those of the result.
        """
        material = self._loaded()
        data: NodeData = material.data
        return NodeScore.of(data.test(material.learner), data.metric)

    def answers(self) -> Tensor:
        """Classify the test nodes once more, with the weights as they were tested.

        Returns:
            The class of each test node in the order of their ids, int64, shape ``[num_test]``.

        Raises:
            ValueError: If the stored weights are not those of the result.
        """
        data: NodeData = self.data
        return NodeScorer(data.graph, data.split.test).logits(self._loaded().learner).argmax(-1)

    def predict(self, nodes: NodeIds) -> Tensor:  # type: ignore[override]
        """Classify nodes of the graph, with the weights as they were tested.

        Args:
            nodes: Any nodes, shape ``[num_nodes]``.

        Returns:
            The class of each, int64, shape ``[num_nodes]``.

        Raises:
            ValueError: If a node is not of the graph.
        """
        material = self._loaded()
        ids, places = torch.unique(_ids(nodes, material.data.graph.num_nodes), return_inverse=True)
        if not len(ids):
            return torch.zeros(0, dtype=torch.int64)
        logits = NodeScorer(material.data.graph, ids).logits(material.learner)
        classes: Tensor = logits.argmax(-1)[places]
        return classes


def opened(directory: Path, *, material: Material | None = None, objects: Mapping[str, Any] | None = None) -> Run:
    """Open a finished run of either task; see ``Run``."""
    content = RunDirectory(directory).read_result()  # where there is none, Run says so
    is_nodes = content is not None and content["results"].get("task") == NODE_CLASSIFICATION
    return (NodeRun if is_nodes else Run)(directory, material=material, objects=objects)


def load_run(directory: str | Path, *, graph: Graph | None = None, encoder: Any = None, method: Any = None) -> Run:
    """Open a finished run, of node classification as a ``NodeRun``.

    Args:
        directory: Its directory.
        graph: The graph it was made with, where that was an object and ``predict`` shall be called.
        encoder: The encoder it was made with, likewise.
        method: The method class it was made with, likewise.

    Raises:
        FileNotFoundError: If there is no such directory.
        ValueError: If the run is not finished or was damaged.
    """
    place = Path(directory)
    if not place.is_dir():
        raise FileNotFoundError(f"Expected '{place}' to be a run directory (there is none). Look in run.root.")
    return opened(place, objects={"graph": graph, "encoder": encoder, "method": method})


def _adapted(learner: Learner, graph: Graph, support: Tensor, labels: Tensor, query: Tensor, n_way: int) -> Tensor:
    """Classify by one episode of the distinct nodes, which it trains on."""
    distinct, places = torch.unique(query, return_inverse=True)
    if bool(torch.isin(distinct, support).any()) or len(torch.unique(support)) < len(support):
        raise ValueError(
            f"Expected each node once, and as support or as query node, for {type(learner).__name__}, which trains on "
            "the support nodes (got some node twice). Leave out repetitions, and query nodes whose label is given."
        )
    episode = Episode(torch.arange(n_way), support, labels, distinct, torch.zeros_like(distinct)).to(graph.device)
    field = learner.field(graph, episode.nodes, peer=not learner.tests_on_edges)
    return learner.score(field, episode).argmax(-1).cpu()[places]


def _ids(nodes: NodeIds, num_nodes: int) -> Tensor:
    found = torch.as_tensor(nodes if isinstance(nodes, Tensor) else np.asarray(nodes)).cpu().flatten()
    if found.numel() and (found.is_floating_point() or found.min() < 0 or found.max() >= num_nodes):
        shown = ", ".join(str(node) for node in found[:5].tolist())
        raise ValueError(
            f"Expected node numbers in 0..{num_nodes - 1} (got {shown}{', ...' if len(found) > 5 else ''}). "
            "Give places in the graph, counted from 0."
        )
    return found.to(torch.int64)
