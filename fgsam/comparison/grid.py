"""A grid: arms that are compared on the same graphs, class splits and seeds, and the runs that this takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fgsam.comparison.statistics import ALPHA, MARGIN, Kind
from fgsam.engine.config_model import RunConfig, Section

Setting = Mapping[str, Any]
"""Values by dotted key, ``{"optimizer.lr": 0.01}``."""


@dataclass(frozen=True)
class Range:
    """Values that a search draws from: whole numbers where both ends are.

    Attributes:
        low: The smallest.
        high: The largest.
        log: Whether they are drawn evenly by their logarithm.
    """

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Tuned:
    """A setting that a search has found for one part, arm and class split.

    Attributes:
        values: What is set.
        bank: Digest of the validation bank that it was chosen on; None where it was chosen on other graphs, and for a
            floor, which chooses by itself.
        graphs: Digests of the other graphs that it was chosen on.
    """

    values: Setting
    bank: str | None = None
    graphs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """One graph in one setting: what one part of the table is about.

    Attributes:
        label: Its heading.
        graph: A name, a mapping of options, a path, or a ``Graph``; None for the one that the config names.
        setting: What else is set in this part.
    """

    label: str
    graph: Any
    setting: Setting = field(default_factory=dict)


@dataclass(frozen=True)
class Arm:
    """What is compared: a learner with its optimizer and encoder.

    Attributes:
        label: Its name in tables and hypotheses.
        entries: Encoder, method and optimizer by section: names, mappings of options, or objects.
        candidates: Settings of which each class split chooses one on its own validation bank; a single empty one
            where there is nothing to choose.
        space: What a search draws settings from, by dotted key: ranges, or lists of choices. Empty where there is
            nothing to search; else ``candidates`` are the two ends of it.
        is_trained: Whether it learns; a floor does not.
        line: Place in the grid's list of arms, counted from 0.
    """

    label: str
    entries: Mapping[str, Any]
    candidates: tuple[Setting, ...] = ({},)
    space: Mapping[str, Range | tuple[Any, ...]] = field(default_factory=dict)
    is_trained: bool = True
    line: int = 0


@dataclass(frozen=True)
class Hypothesis:
    """A claim about two arms, named before any run.

    Attributes:
        arm: The arm that the claim praises.
        reference: The arm that it is compared with.
        kind: ``"above"``, or ``"not below"`` with the grid's margin.
    """

    arm: str
    reference: str
    kind: Literal["above", "not below"] = "above"

    def __str__(self) -> str:
        return f"{self.arm} {self.kind} {self.reference}"


@dataclass(frozen=True)
class Protocol:
    """How the arms are tested, fixed before any run.

    Attributes:
        hypotheses: The claims; they make one family for Holm's correction.
        reference: The arm that tables show differences to.
        test: The test of every claim.
        margin: Points within which two arms count as equal, and that "not below" allows.
        alpha: Level of the family.
        pooled: Whether a claim is about the mean over all parts, paired by class split, instead of each part.
    """

    hypotheses: tuple[Hypothesis, ...]
    reference: str
    test: Kind = "t"
    margin: float = MARGIN
    alpha: float = ALPHA
    pooled: bool = False


@dataclass(frozen=True, order=True)
class Cell:
    """The place of one run in a grid; part, arm and trial are labels or numbers within the grid."""

    split: int | str
    part: str
    arm: str
    seed: int
    trial: int


@dataclass(frozen=True)
class Job:
    """One run: its config, and the objects that the config cannot name."""

    config: RunConfig
    objects: Mapping[str, Any]


@dataclass(frozen=True)
class Grid:
    """Everything that a comparison runs, and how it is judged.

    Attributes:
        title: Its heading.
        parts: Graphs and settings.
        arms: What is compared.
        splits: Class splits, the units of every claim.
        seeds: Seeds of initial weights and training episodes, averaged within a split.
        protocol: How the arms are tested.
        jobs: The run of each part, arm and trial with the first split and seed.
        settings: What a search has found, by part, arm and class split; empty without one.
        text: The grid as YAML, to be kept beside its runs.
    """

    title: str
    parts: tuple[Part, ...]
    arms: tuple[Arm, ...]
    splits: tuple[int | str, ...]
    seeds: tuple[int, ...]
    protocol: Protocol
    jobs: Mapping[tuple[str, str, int], Job] = field(repr=False)
    settings: Mapping[tuple[str, str, int | str], Tuned] = field(default_factory=dict, repr=False)
    text: str = field(default="", repr=False)

    def cells(self) -> Iterator[Cell]:
        """List the runs, one class split after the other, so that whatever is there early is complete and paired."""
        for split in self.splits:
            for part in self.parts:
                for arm in self.arms:
                    for seed in self.seeds if arm.is_trained else self.seeds[:1]:
                        for trial in range(len(arm.candidates)):
                            yield Cell(split, part.label, arm.label, seed, trial)

    def job(self, cell: Cell, root: str) -> Job:
        """Return the run of one cell, stored in a folder.

        Raises:
            ValueError: If settings were searched for, and none for the class split of this cell.
        """
        job = self.jobs[cell.part, cell.arm, cell.trial]
        changes = _by_section(self._setting(cell))
        for section, key, value in (
            ("dataset", "split", cell.split),
            ("train", "seed", cell.seed),
            ("run", "root", root),
        ):
            changes.setdefault(section, {})[key] = value
        sections = {name: _changed(getattr(job.config, name), values) for name, values in changes.items()}
        return Job(job.config.model_copy(update=sections), job.objects)

    def arm(self, label: str) -> Arm:
        """Return an arm by its label."""
        return next(arm for arm in self.arms if arm.label == label)

    def _setting(self, cell: Cell) -> Setting:
        unit = (cell.part, cell.arm, cell.split)
        if not self.settings:
            return {}
        if unit not in self.settings:
            raise ValueError(no_setting(cell.part, cell.arm, cell.split))
        return self.settings[unit].values


def no_setting(part: str, arm: str, split: int | str) -> str:
    """Say that a class split has no setting of its own."""
    return (
        f"Expected a setting of '{arm}' on '{part}' that was chosen on the validation bank of class split {split} "
        "(there is none). That of another split may have been chosen on classes that are test classes here. Search for "
        "it with 'fgsam tune'."
    )


def _by_section(setting: Setting) -> dict[str, dict[str, Any]]:
    sections: dict[str, dict[str, Any]] = {}
    for dotted, value in setting.items():
        section, _, key = dotted.partition(".")
        sections.setdefault(section, {})[key] = value
    return sections


def _changed(section: Section, values: Mapping[str, Any]) -> Section:
    """Return a section with other values, checked as the first ones were."""
    return type(section).model_validate({**dict(section), **values})
