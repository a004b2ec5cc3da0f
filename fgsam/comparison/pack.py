"""Task packs: the class splits, episodes and answers of a finished comparison in one file that numpy can read.

Every entry has a plain name. For each part of the comparison and each class split, with ``KEY`` for ``PART/SPLIT``:

======================================= ============================================================================
entry                                   content
======================================= ============================================================================
``about``                               JSON: title, task, estimand, protocol, arms, what each part is, keys, digests
``KEY/test/support``                    labelled nodes of the test episodes, shape ``[num_episodes, num_support]``
``KEY/test/support_labels``             their class ids, of the same shape
``KEY/test/query``                      nodes to classify, shape ``[num_episodes, num_queries]``
``KEY/test/query_labels``               their class ids; -1 where a short row repeats its last node, which counts once
``KEY/val/...``                         the same of the validation episodes
``KEY/classes/meta_train``, ...         class ids of training, validation and test; none for node classification
``KEY/answers/ARM``                     class ids that an arm gave, shape ``[num_seeds, num_episodes, num_queries]``
======================================= ============================================================================

Node classification is one episode: its support nodes are the training nodes, its query nodes the validation or the test
nodes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgsam.comparison.grid import Protocol
from fgsam.comparison.results import Record, Results
from fgsam.comparison.sealed import narrowed, read_sealed, write_sealed
from fgsam.comparison.study import Study
from fgsam.engine.config_model import FEW_SHOT
from fgsam.engine.data import Data
from fgsam.engine.outcome import NodeRun, Run, load_run
from fgsam.engine.record import RESULTS_VERSION
from fgsam.engine.setup import pinned
from fgsam.episodes.bank import EpisodeBank
from fgsam.episodes.split import PARTS

FORMAT = "fgsam task pack 1"

ESTIMANDS = {
    True: "Accuracy in percent on classes that training has not seen: the mean over test episodes, then over class "
    "splits. Intervals and tests speak of other random class splits of the same graph, not of other graphs.",
    False: "Accuracy in percent on the test nodes, averaged over divisions of the nodes. Intervals and tests speak of "
    "other divisions of the nodes of the same graph, not of other graphs.",
}

Ids = NDArray[np.integer]

_ARRAYS = ("support", "support_labels", "query", "query_labels")
_WAY_OUT = "Take another copy, or export it again from the finished comparison."

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class PackedEpisodes:
    """Episodes as plain arrays of node ids and class ids, all int64.

    Attributes:
        support: Labelled nodes, shape ``[num_episodes, num_support]``.
        support_labels: Their class ids, as every arm was given them, of the same shape.
        query: Nodes to classify, shape ``[num_episodes, num_queries]``.
        query_labels: Their class ids, of the same shape; -1 where a short row repeats its last node.

    Raises:
        ValueError: If the shapes do not fit together.
    """

    support: Ids
    support_labels: Ids
    query: Ids
    query_labels: Ids

    def __post_init__(self) -> None:
        arrays = [getattr(self, name) for name in _ARRAYS]
        pairs = [values.shape for values in arrays]
        if any(len(shape) != 2 for shape in pairs) or pairs[::2] != pairs[1::2] or len({s[0] for s in pairs}) > 1:
            raise ValueError(f"Expected node ids and class ids of equal shapes, a row an episode (got shapes {pairs})")
        if any(values.dtype.kind != "i" for values in arrays):
            raise ValueError("Expected node ids and class ids to be whole numbers")

    def accuracies(self, answers: Ids) -> NDArray[np.float64]:
        """Accuracy of each episode in percent, shape ``[..., num_episodes]``.

        Args:
            answers: Class ids, shape ``[..., num_episodes, num_queries]``.
        """
        counts = self.query_labels >= 0
        hits = (answers == self.query_labels) & counts
        return np.asarray(100 * hits.sum(-1) / counts.sum(-1), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class PackedSplit:
    """One class split of one part, and what every arm made of it.

    Attributes:
        part: Label of the part.
        split: The class split, or the division of the nodes.
        digests: The sha256 of graph, split and banks.
        classes: Class ids of ``meta_train``, ``meta_val`` and ``meta_test``; none for node classification.
        val: Episodes to choose settings by.
        test: Episodes to be tested on.
        answers: Class ids by arm, shape ``[num_seeds, num_episodes, num_queries]``.
    """

    part: str
    split: int | str
    digests: Mapping[str, str]
    classes: Mapping[str, Ids]
    val: PackedEpisodes
    test: PackedEpisodes
    answers: Mapping[str, Ids]

    @property
    def key(self) -> str:
        """Its name within the pack, and in a file of predictions: ``PART/SPLIT``."""
        return f"{self.part}/{self.split}"

    def score(self, arm: str) -> float:
        """Accuracy of an arm in percent: the mean over episodes, then over seeds."""
        return float(self.test.accuracies(self.answers[arm]).mean())


@dataclass(frozen=True, eq=False)
class Pack:
    """A finished comparison that others can be measured by.

    Attributes:
        title: Its heading.
        task: ``"few_shot"`` or ``"node_classification"``.
        estimand: What the accuracies are about, in words.
        protocol: How the arms were tested.
        arms: Their labels, in the order of the comparison.
        parts: What each part is, by label: graph with its options, setting, episodes.
        splits: By key, in the order of the comparison.
        versions: Of fgsam, and of its results.
        digest: The sha256 of the file.
    """

    title: str
    task: str
    estimand: str
    protocol: Protocol
    arms: tuple[str, ...]
    parts: Mapping[str, Mapping[str, Any]]
    splits: Mapping[str, PackedSplit]
    versions: Mapping[str, Any]
    digest: str

    def scores(self, part: str, arm: str) -> dict[int | str, float]:
        """Accuracy of an arm in percent, by class split."""
        return {packed.split: packed.score(arm) for packed in self.splits.values() if packed.part == part}


def export_pack(study: Study, file: str | Path) -> Pack:
    """Write splits, episodes and answers of a finished comparison to one file.

    The answers of every chosen run are computed once more from its stored weights, and must be right as often in every
    episode as its result says.

    Args:
        study: The comparison; nothing in its folder is changed.
        file: Where to write; npz.

    Returns:
        The pack, read back.

    Raises:
        ValueError: If a run is missing or has failed, a file is damaged, or stored weights give other answers now.
        OSError: If the file cannot be written.
    """
    results = Results.read(study)
    _check_finished(results)
    arrays: dict[str, NDArray[np.generic]] = {}
    about: dict[str, Any] = {}
    for part in study.grid.parts:
        for split in study.grid.splits:
            for arm in study.grid.arms:
                runs = [_Answered.of(study, record) for record in results.chosen[part.label, arm.label, split].values()]
                key, first = f"{part.label}/{split}", runs[0]
                if f"{key}/test/query" not in arrays:
                    arrays |= {f"{key}/{name}": narrowed(values) for name, values in first.episodes().items()}
                    place = {"key": key, "part": part.label, "split": split}
                    about.setdefault("splits", []).append({**place, "digests": first.run.data.digests})
                    about.setdefault("parts", {})[part.label] = _part(first.run.config)
                    about["task"] = first.run.task
                    about["versions"] = {"fgsam": first.run.versions["fgsam"], "results": RESULTS_VERSION}
                arrays[f"{key}/answers/{arm.label}"] = narrowed(np.stack([answered.classes for answered in runs]))
            logger.info("Packed %s, split %s", part.label, split)
    about |= {
        "title": study.grid.title,
        "estimand": ESTIMANDS[about["task"] == FEW_SHOT],
        "protocol": {name: value for name, value in asdict(study.grid.protocol).items() if name != "hypotheses"},
        "arms": [arm.label for arm in study.grid.arms],
    }
    write_sealed(file, FORMAT, {"about": np.asarray(json.dumps(about)), **arrays})
    return load_pack(file)


def load_pack(file: str | Path) -> Pack:
    """Read a task pack; nothing in the file is run.

    Args:
        file: What ``export_pack`` wrote.

    Raises:
        OSError: If there is no such file.
        ValueError: If it is no task pack that this version can read, or was cut off, changed or damaged.
    """
    arrays, digest = read_sealed(file, FORMAT, way_out=_WAY_OUT)
    try:
        about = json.loads(str(arrays["about"]))
        arms = tuple(about["arms"])
        found = [_split(entry, arms, arrays) for entry in about["splits"]]
        return Pack(
            title=about["title"],
            task=about["task"],
            estimand=about["estimand"],
            protocol=Protocol(hypotheses=(), **about["protocol"]),
            arms=arms,
            parts=about["parts"],
            splits={packed.key: packed for packed in found},
            versions=about["versions"],
            digest=digest,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"Expected '{file}' to hold the entries of a task pack (got {type(error).__name__}: {error}). {_WAY_OUT}"
        ) from error


@dataclass(frozen=True, eq=False)
class _Answered:
    """A run with the class ids that it gives to the queries of its test, shape ``[num_episodes, num_queries]``."""

    run: Run
    classes: Ids

    @classmethod
    def of(cls, study: Study, record: Record) -> _Answered:
        given = study.tasks[record.cell].objects
        objects = {part: value for part, value in given.items() if part != "optimizer"}
        run = load_run(record.directory, **objects)
        with pinned(study.grid.job(record.cell, str(study.folder)).config):
            answers = run.answers()
            if isinstance(run, NodeRun):
                labels = run.data.graph.labels.cpu()[run.data.split.test]
                correct, expected = [int((answers == labels).sum())], [int(run.test_hits.sum())]
                found = cls(run, answers[None].numpy())
            else:
                bank: EpisodeBank = run.data.test_bank
                correct = (answers == bank.query_labels).sum(-1).tolist()
                expected = run.results["test_correct"]
                found = cls(run, bank.classes.gather(1, answers).numpy())
        if correct != expected:
            num_other = sum(a != b for a, b in zip(correct, expected, strict=True))
            raise ValueError(
                f"Expected the stored weights of {record.directory} to answer as its result says (got another number "
                f"of right answers in {num_other} of {len(expected)} episodes). Export on the kind of machine, and "
                "with the versions, that its result.json names."
            )
        return found

    def episodes(self) -> dict[str, Ids]:
        """Splits and episodes by entry."""
        data = self.run.data
        if isinstance(data, Data):
            banks = {"val": _of_bank(data.val_bank), "test": _of_bank(data.test_bank)}
            classes = {part: np.asarray(getattr(data.split, part), dtype=np.int64) for part in PARTS}
        else:
            labels = data.graph.labels.cpu()
            known, val, test = (getattr(data.split, part) for part in ("train", "val", "test"))
            support = {"support": known[None].numpy(), "support_labels": labels[known][None].numpy()}
            banks = {
                name: {**support, "query": nodes[None].numpy(), "query_labels": labels[nodes][None].numpy()}
                for name, nodes in (("val", val), ("test", test))
            }
            classes = {}
        named = {f"{name}/{array}": values for name, bank in banks.items() for array, values in bank.items()}
        return {**named, **{f"classes/{part}": values for part, values in classes.items()}}


def _of_bank(bank: EpisodeBank) -> dict[str, Ids]:
    support_labels = bank.support_labels.expand(len(bank), -1)
    labels = bank.classes.gather(1, bank.query_labels.clamp(min=0)).masked_fill(bank.query_labels < 0, -1)
    return {
        "support": bank.support.numpy(),
        "support_labels": bank.classes.gather(1, support_labels).numpy(),
        "query": bank.query.numpy(),
        "query_labels": labels.numpy(),
    }


def _part(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a part is about, without places and what differs from one split or arm to the next."""
    sections = ("dataset", "graph", "episode", "evaluate")
    left_out = ("root", "path", "split")
    return {
        name: {key: value for key, value in config[name].items() if key not in left_out}
        for name in sections
        if name in config
    }


def _check_finished(results: Results) -> None:
    open_runs, failed = len(results.missing), len(results.failed)
    if open_runs or failed:
        raise ValueError(
            f"Expected a finished comparison (got {open_runs} runs that are not done and {failed} that failed). Finish "
            "it first, or take the arms that fail out of its grid."
        )


def _split(entry: Mapping[str, Any], arms: tuple[str, ...], arrays: Mapping[str, NDArray[Any]]) -> PackedSplit:
    key = entry["key"]

    def ids(name: str) -> Ids:
        values = arrays[f"{key}/{name}"]
        return values.astype(np.int64) if values.dtype.kind in "iu" else values  # other kinds are refused by shape

    val, test = (PackedEpisodes(*(ids(f"{bank}/{name}") for name in _ARRAYS)) for bank in ("val", "test"))
    classes = {part: ids(f"classes/{part}") for part in PARTS if f"{key}/classes/{part}" in arrays}
    answers = {arm: ids(f"answers/{arm}") for arm in arms}
    for arm, values in answers.items():
        if values.ndim != 3 or values.shape[1:] != test.query.shape:
            raise ValueError(f"'{key}/answers/{arm}' has shape {list(values.shape)}")
    return PackedSplit(entry["part"], entry["split"], entry["digests"], classes, val, test, answers)
