"""What the runs of a grid found, each class split with the setting that it chose for itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgsam.comparison.grid import Cell, Grid
from fgsam.comparison.study import State, Study
from fgsam.engine.record import RunDirectory

Unit = tuple[str, str, int | str]
"""Part, arm and class split."""


@dataclass(frozen=True)
class Record:
    """One finished run.

    Attributes:
        cell: Its place in the grid.
        directory: Its files.
        accuracy: On the test episodes or nodes, in percent; the area under the ROC curve where that is the metric, as
            it is for nodes of two classes.
        val_accuracy: The same on the validation bank, in percent.
        episodes: Accuracy of each test episode, in percent, shape ``[num_episodes]``; for node classification one
            entry, of all test nodes.
        config: Every setting.
        results: Everything that was computed.
        timing: Seconds of this run, beside whatever else the machine did.
        versions: What it was computed with.
    """

    cell: Cell
    directory: Path
    accuracy: float
    val_accuracy: float
    episodes: NDArray[np.float64]
    config: Mapping[str, Any]
    results: Mapping[str, Any]
    timing: Mapping[str, Any]
    versions: Mapping[str, Any]

    @classmethod
    def read(cls, cell: Cell, directory: Path) -> Record:
        """Read the files of a finished run.

        Raises:
            ValueError: If they are damaged.
        """
        files = RunDirectory(directory)
        content = files.read_result()
        if content is None:
            raise ValueError(f"Expected {directory} to hold a finished run (there is no result.json)")
        results = content["results"]
        metric = results.get("metric", "accuracy")
        accuracy = 100 * results[f"test_{metric}"]
        episodes = np.array([accuracy])
        if "test_correct" in results:
            episodes = 100 * np.asarray(results["test_correct"], dtype=np.float64) / results["num_queries"]
        return cls(
            cell,
            directory,
            accuracy,
            100 * results[f"val_{metric}"],
            episodes,
            files.read_config(),
            results,
            content["timing"],
            content["versions"],
        )


@dataclass(frozen=True)
class Results:
    """The finished runs of a grid.

    Attributes:
        grid: The grid.
        records: Finished runs by cell.
        failed: Why runs failed, by cell.
        missing: Runs that are not over.
    """

    grid: Grid
    records: Mapping[Cell, Record]
    failed: Mapping[Cell, str]
    missing: tuple[Cell, ...]

    @classmethod
    def read(cls, study: Study) -> Results:
        """Read what is in the folder of a study; nothing is written.

        Raises:
            ValueError: If a file is damaged, or runs cannot be compared: of different versions of results, or of other
                data.
        """
        states: dict[Cell, State | None] = {cell: study.state(cell) for cell in study.tasks}
        read: dict[str, Record] = {}  # equal runs stand in several cells
        records, failed, missing = {}, {}, []
        for cell, state in states.items():
            if state is None:
                missing.append(cell)
            elif state.run is None:
                failed[cell] = state.error or ""
            else:
                if state.run not in read:
                    read[state.run] = Record.read(cell, study.folder / "runs" / state.run)
                records[cell] = read[state.run]
        found = cls(study.grid, records, failed, tuple(missing))
        found._check_pairing()
        found._check_settings()
        return found

    @cached_property
    def chosen(self) -> dict[Unit, dict[int, Record]]:
        """The runs that count, by unit and seed.

        Each part, arm and split takes the trial with the best mean validation accuracy over its seeds, the first one
        of equals. A trial of which a run has failed is not chosen. A unit with a run that is missing is left out, since
        its choice is not known, and so is one whose trials have all failed.
        """
        trials: dict[Unit, dict[int, dict[int, Record]]] = {}
        left_out: set[tuple[Unit, int | None]] = set()
        for cell in self.grid.cells():
            unit = (cell.part, cell.arm, cell.split)
            if cell in self.records:
                trials.setdefault(unit, {}).setdefault(cell.trial, {})[cell.seed] = self.records[cell]
            else:
                left_out.add((unit, cell.trial if cell in self.failed else None))
        found = {
            unit: [seeds for trial, seeds in own.items() if (unit, trial) not in left_out]
            for unit, own in trials.items()
            if (unit, None) not in left_out
        }
        return {
            unit: max(known, key=lambda seeds: np.mean([record.val_accuracy for record in seeds.values()]))
            for unit, known in found.items()
            if known
        }

    def scores(self, part: str, arm: str) -> dict[int | str, float]:
        """Accuracy in percent by class split: the mean over episodes, then over seeds."""
        return {
            split: float(np.mean([record.accuracy for record in self.chosen[part, arm, split].values()]))
            for split in self.grid.splits
            if (part, arm, split) in self.chosen
        }

    def differences(self, part: str, arm: str, reference: str) -> dict[int | str, float]:
        """Points by which an arm is above another one, by class split, where both are finished."""
        scores, others = self.scores(part, arm), self.scores(part, reference)
        return {split: score - others[split] for split, score in scores.items() if split in others}

    def pooled_differences(self, arm: str, reference: str) -> dict[int | str, float]:
        """Points by which an arm is above another one, averaged over all parts, by class split that all parts have."""
        parts = [self.differences(part.label, arm, reference) for part in self.grid.parts]
        return {
            split: float(np.mean([part[split] for part in parts]))
            for split in self.grid.splits
            if all(split in part for part in parts)
        }

    def _check_settings(self) -> None:
        """See that every setting of a search was chosen on the validation bank of its own split, or on other graphs."""
        for cell, record in self.records.items():
            tuned, digests = self.grid.settings.get((cell.part, cell.arm, cell.split)), record.results["digests"]
            if tuned is None:
                continue
            place = f"the setting of '{cell.arm}' on '{cell.part}' for class split {cell.split}"
            if tuned.bank not in (None, digests.get("val_bank", digests["split"])):
                raise ValueError(
                    f"Expected {place} to be chosen on the validation bank of that split (it was chosen on another "
                    "one, which may hold classes that are test classes here). Search again with 'fgsam tune'."
                )
            if digests.get("data") in tuned.graphs:
                raise ValueError(
                    f"Expected {place} to be chosen on other graphs, or on its own validation bank (it was chosen on "
                    "this graph, over classes that are test classes here). Search again with 'fgsam tune'."
                )

    def _check_pairing(self) -> None:
        seen: dict[tuple[str, int | str], Record] = {}
        for cell, record in self.records.items():
            first = seen.setdefault((cell.part, cell.split), record)
            for name in ("results_version", "digests"):
                own, other = (r.results[name] for r in (record, first))
                shared = own == other if name == "results_version" else _same_tests(own, other)
                if not shared:
                    raise ValueError(
                        f"Expected runs of one {name} (got {first.directory} and {record.directory}, which differ). "
                        "Delete the older one, and run the comparison again."
                    )


def _same_tests(own: Mapping[str, str], other: Mapping[str, str]) -> bool:
    return all(own[key] == other[key] for key in own.keys() & other.keys() if key != "graph")
