"""From a grid file, or the arguments of a call, to a grid, with every fault told at once."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from fgsam.checks import suggest
from fgsam.comparison.grid import Arm, Grid, Hypothesis, Job, Part, Protocol, Range, Tuned, no_setting
from fgsam.comparison.statistics import ALPHA, MARGIN, MIN_SPLITS_WILCOXON
from fgsam.engine.arguments import config_of_call, sectioned
from fgsam.engine.build import entry_label
from fgsam.engine.config import find_config
from fgsam.engine.config_entries import entry_option_names
from fgsam.engine.config_model import FEW_SHOT, SECTIONS, FewShotConfig, MethodConfig, plain_value
from fgsam.engine.document import Document, Keys
from fgsam.engine.faults import ConfigError, Fault, shown
from fgsam.engine.floors import FLOORS
from fgsam.episodes.split import ClassSplit
from fgsam.graph.graph import Graph
from fgsam.registry import DATASETS, METHODS

ENTRIES = ("encoder", "method", "optimizer")
OWN = {"dataset.split": "'splits'", "train.seed": "'seeds'", "run.root": "the folder of the comparison"}
"""Keys that a grid sets for each run, and by what."""

HYPOTHESIS = re.compile(r"^(?P<arm>.+?) (?P<kind>above|not below) (?P<reference>.+)$")

Text = Annotated[str, StringConstraints(min_length=1)]
Dotted = Annotated[str, StringConstraints(pattern=r"^[a-z]+\.\w+$")]
Values = Annotated[list[Any], Field(min_length=1)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


class RangeText(_Model):
    """Values that a search draws from."""

    low: int | float
    high: int | float
    log: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError("'low' is to be below 'high', and above 0 with 'log'")
        return self


Candidates = dict[Dotted, Values | RangeText] | list[dict[Dotted, Any]]


class SettingText(_Model):
    """What a search has found for one part, arm and class split."""

    part: str
    arm: str
    split: int | str
    values: dict[Dotted, Any]
    bank: str | None = None
    graphs: list[str] = []


class ArmText(_Model):
    """One line of a grid's arms; lists of entries stand for every combination."""

    method: Any = None
    encoder: Any = None
    optimizer: Any = None
    label: Text | None = None
    candidates: Candidates | None = None


class GridText(_Model):
    """A grid as it is written."""

    title: Text | None = Field(None, description="heading of the report; the file's name when not given")
    task: Literal["few_shot", "node_classification"] | None = Field(None, description="what all runs learn")
    config: Text | None = Field(None, description="a run's config to begin from: a file, or a name of the package")
    common: dict[str, Any] = Field({}, description="sections, or single keys, of a run's config, shared by all runs")
    graphs: Annotated[list[Any], Field(min_length=1)] | None = Field(
        None, description="named graphs, npz files, or mappings of options; the config's graph when not given"
    )
    vary: dict[Dotted, Values] = Field(
        {}, description="dotted keys with lists; each combination is a part of the table"
    )
    arms: Annotated[list[ArmText], Field(min_length=1)] = Field(description="what is compared")
    floors: bool = Field(True, description="add methods without training where no arm is one")
    splits: Annotated[int, Field(ge=1)] | Annotated[list[int | str], Field(min_length=1)] = Field(
        5, description="class splits: how many, or a list"
    )
    seeds: Annotated[int, Field(ge=1)] | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = Field(
        1, description="seeds: how many, or a list"
    )
    candidates: Candidates | None = Field(
        None, description="settings that every trained arm chooses from, split by split, on its validation bank"
    )
    settings: list[SettingText] = Field(
        [], description="what fgsam tune has found, for every part, arm and class split"
    )
    reference: Text | None = Field(None, description="arm that tables show differences to; the first when not given")
    hypotheses: list[Text] | None = Field(
        None, description="'A above B' or 'A not below B'; every trained arm above the reference when not given"
    )
    test: Literal["t", "sign_flip", "wilcoxon"] = Field("t", description="test of every hypothesis")
    margin: float = Field(MARGIN, gt=0, description="points within which two arms count as equal")
    alpha: float = Field(ALPHA, gt=0, lt=1, description="level of the family of hypotheses")
    pooled: bool = Field(False, description="test the mean over all parts instead of each part")


def load_grid(path: str | Path) -> Grid:
    """Read a grid from a YAML file.

    Args:
        path: The file, or the name of one that comes with the package: ``"compare/smoke"``.

    Raises:
        ConfigError: If something is wrong; the text lists all faults with their places.
        FileNotFoundError: If there is no such file.
    """
    file = find_config(path)
    document = Document.read(file)
    if not isinstance(document.content, Mapping):
        raise ConfigError([Fault("", f"Expected a grid: keys with values (got {shown(document.content)}).", str(file))])
    faults = [*document.repeats()]
    return _Maker(document.content, document.place, faults, file.stem).grid()


def grid_of_call(**values: Any) -> Grid:
    """Make a grid of keyword arguments named as the keys of a grid file; entries and graphs may be objects.

    Raises:
        ConfigError: If something is wrong; the text lists all faults.
    """
    given = {key: value for key, value in values.items() if value is not None}
    return _Maker(given, lambda *keys: "", [], "Comparison").grid()


class _Maker:
    """Turns a written grid into a grid, and gathers faults on the way."""

    def __init__(
        self, content: Mapping[str, Any], place: Callable[..., str], faults: Sequence[Fault], name: str
    ) -> None:
        self.content = content
        self.place = place
        self.faults = list(faults)
        self.name = name
        self.is_file = bool(place())

    def grid(self) -> Grid:
        written = self._read()
        self._check_common(written)
        parts = list(self._parts(written))
        arms = list(self._arms(written))
        self._check_labels(parts, arms)
        jobs = self._jobs(written, parts, arms)
        splits = tuple(range(written.splits) if isinstance(written.splits, int) else written.splits)
        self._check_splits(splits, parts, jobs)
        self._check_repeats(written)
        self._check_conflicts(written, arms)
        self._stop_at_faults()
        checked = {arm.label: arm for arm in arms}
        arms = _merged_floors(arms, jobs, parts[0].label)
        first = next(iter(jobs.values())).config
        if written.floors and first.task == FEW_SHOT and all(arm.is_trained for arm in arms):
            arms += [Arm(name, {"method": name}, is_trained=False) for name in FLOORS]
        arms = _with_equal_trials(arms, self._note)
        new = [arm for arm in arms if checked.get(arm.label) is not arm]
        labels = {arm.label for arm in arms} - {arm.label for arm in new}
        jobs = {key: job for key, job in jobs.items() if key[1] in labels} | self._jobs(written, parts, new)
        protocol = self._protocol(written, arms, len(splits))
        self._stop_at_faults()
        grid = Grid(
            title=written.title or self.name,
            parts=tuple(parts),
            arms=tuple(arms),
            splits=splits,
            seeds=tuple(range(written.seeds) if isinstance(written.seeds, int) else written.seeds),
            protocol=protocol,
            jobs=jobs,
            settings={
                (line.part, line.arm, line.split): Tuned(line.values, line.bank, tuple(line.graphs))
                for line in written.settings
            },
            text=yaml.safe_dump(
                _plain({"title": written.title or self.name, **self.content}), sort_keys=False, allow_unicode=True
            ),
        )
        self._check_settings(written, grid)
        self._stop_at_faults()
        return grid

    def _note(self, text: str, *keys: str | int) -> None:
        fault = Fault(".".join(map(str, keys)), text, self.place(*keys))
        if fault not in self.faults:
            self.faults.append(fault)

    def _stop_at_faults(self) -> None:
        if self.faults:
            raise ConfigError(self.faults)

    def _read(self) -> GridText:
        """Check types and keys; what is wrong is noted and left out, so that the rest is checked all the same."""
        content = copy.deepcopy(dict(self.content)) if self.is_file else dict(self.content)
        try:
            return GridText.model_validate(content)
        except ValidationError as error:
            seen: set[Keys] = set()
            for found in error.errors():
                keys = _written_keys(found["loc"], self.content)
                if keys not in seen:  # a union reports once for each of its members
                    seen.add(keys)
                    self._note(_sentence(keys, found), *keys)
        if any(isinstance(keys[-1], int) for keys in seen if keys):
            raise ConfigError(self.faults)  # without an item of a list the others would stand elsewhere
        for keys in sorted(seen, key=len, reverse=True):
            _remove(content, keys)
        try:
            return GridText.model_validate(content)
        except ValidationError:
            raise ConfigError(self.faults) from None

    def _check_common(self, written: GridText) -> None:
        for key, values in written.common.items():
            if key not in SECTIONS and isinstance(values, Mapping):
                text = f"Expected a section of a run's config (got '{key}'). {suggest(key, SECTIONS)}"
                self._note(text, "common", key)
            elif key in SECTIONS and not isinstance(values, Mapping):
                self._note(f"Expected section '{key}' to have keys (got {key}={shown(values)}).", "common", key)
        for dotted, instead in OWN.items():
            section, _, name = dotted.partition(".")
            values = written.common.get(section)
            keys: Keys | None = ("common", section, name) if isinstance(values, Mapping) and name in values else None
            keys = ("common", name) if name in written.common else keys
            if keys is not None:
                self._note(f"Expected no '{name}' in a grid, which sets it by {instead}. Remove it.", *keys)

    def _parts(self, written: GridText) -> Iterator[Part]:
        graphs = written.graphs if written.graphs is not None else [None]
        names = list(written.vary)
        for graph in graphs:
            for values in itertools.product(*written.vary.values()):
                setting = dict(zip(names, values, strict=True))
                words = [f"{name.partition('.')[2]} {value}" for name, value in setting.items()]
                yield Part(", ".join([*([_graph_label(graph)] if graph is not None else []), *words]), graph, setting)

    def _arms(self, written: GridText) -> Iterator[Arm]:
        for number, line in enumerate(written.arms):
            options = {name: _alternatives(getattr(line, name)) for name in ENTRIES}
            candidates = line.candidates if line.candidates is not None else written.candidates
            is_single = all(len(entries) == 1 for entries in options.values())
            if line.label is not None and not is_single:
                self._note("Expected a label for a single arm (got lists beside it). Split the line.", "arms", number)
            for entries in itertools.product(*options.values()):
                given = {name: entry for name, entry in zip(ENTRIES, entries, strict=True) if entry is not None}
                label = line.label or _arm_label(given, list(options["encoder"]))
                yield Arm(label, given, tuple(_settings(candidates)), _space(candidates), line=number)

    def _check_labels(self, parts: Sequence[Part], arms: Sequence[Arm]) -> None:
        for kind, key, labels in (
            ("part", "graphs", [part.label for part in parts]),
            ("arm", "arms", [arm.label for arm in arms]),
        ):
            for label in sorted({label for label in labels if labels.count(label) > 1}):
                way_out = "Give each a 'label'." if kind == "arm" else "Remove the repetition."
                self._note(f"Expected different {kind}s (got '{label}' {labels.count(label)} times). {way_out}", key)

    def _check_repeats(self, written: GridText) -> None:
        for key, values in (("splits", written.splits), ("seeds", written.seeds)):
            if isinstance(values, list) and len(set(map(str, values))) < len(values):
                self._note(f"Expected every one of '{key}' once (got {shown(values)}). Remove the repetition.", key)

    def _check_conflicts(self, written: GridText, arms: Iterable[Arm]) -> None:
        """Refuse what would be set in two places, and what the grid sets itself."""
        candidates = {dotted for arm in arms for setting in arm.candidates for dotted in setting}
        graphs = [graph for graph in written.graphs or () if isinstance(graph, Mapping)]
        for dotted in written.vary:
            section, _, key = dotted.partition(".")
            entries = [arm.entries.get(section) for arm in arms]
            is_in_arm = any(isinstance(entry, Mapping) and key in entry for entry in entries)
            is_in_graph = section == "dataset" and any(key in graph for graph in graphs)
            if is_in_arm or is_in_graph or dotted in candidates:
                place = "an arm" if is_in_arm else "a graph" if is_in_graph else "'candidates'"
                self._note(f"Expected '{dotted}' in one place (got it in 'vary' and in {place}).", "vary", dotted)
        for keys, dotteds in ((("vary",), list(written.vary)), (("candidates",), sorted(candidates))):
            for dotted in dotteds:
                if dotted in OWN:
                    self._note(f"Expected no '{dotted}' in a grid, which sets it by {OWN[dotted]}. Remove it.", *keys)
        for arm in arms:
            line = written.arms[arm.line]
            method = arm.entries.get("method")
            name = method.get("name") if isinstance(method, Mapping) else method
            is_floor = isinstance(name, str) and name in METHODS and not METHODS.load(name).is_trained
            if is_floor and any(key.startswith("method.") for key in _keys_of(line.candidates)):
                text = f"Expected no candidates of '{name}', which chooses by itself. Give its options as lists."
                self._note(text, "arms", arm.line, "candidates")

    def _check_splits(
        self, splits: Iterable[int | str], parts: Iterable[Part], jobs: Mapping[tuple[str, str, int], Job]
    ) -> None:
        """Look for the class splits that named graphs bring; others are drawn when they are asked for."""
        for part in parts:
            config = next((job.config for (label, _, _), job in jobs.items() if label == part.label), None)
            if not isinstance(config, FewShotConfig) or config.dataset.name not in {*DATASETS} - {"synthetic"}:
                continue
            for split in splits:
                try:
                    found = ClassSplit.load(config.dataset.name, split)
                except ValueError as error:
                    self._note(str(error), "splits")
                    break
                num_classes, n_way = len(found.meta_test), config.episode.n_way
                if num_classes < n_way:
                    text = (
                        f"Expected at least n_way={n_way} test classes in class split {split} of "
                        f"'{config.dataset.name}' (got {num_classes}). Lower episode.n_way."
                    )
                    self._note(text, "splits")
                    break

    def _jobs(self, written: GridText, parts: Iterable[Part], arms: Iterable[Arm]) -> dict[tuple[str, str, int], Job]:
        jobs = {}
        for part, arm in itertools.product(parts, arms):
            for trial, candidate in enumerate(arm.candidates):
                try:
                    jobs[part.label, arm.label, trial] = _job(written, part, arm, candidate)
                except ConfigError as error:
                    for fault in error.faults:
                        self._note_of_run(fault, part, arm, candidate)
                except FileNotFoundError as error:
                    self._note(str(error), "config")
                except (ValueError, TypeError) as error:
                    is_shared = any(f"'{key}'" in str(error) for key in written.common)
                    self._note(str(error), "common" if is_shared else "arms")
        return jobs

    def _note_of_run(self, fault: Fault, part: Part, arm: Arm, candidate: Mapping[str, Any]) -> None:
        """Note a fault of one run where the grid says what is wrong."""
        section, _, key = fault.key.partition(".")
        number = arm.line
        if fault.key in candidate:
            own = isinstance(self.content["arms"][number], Mapping) and "candidates" in self.content["arms"][number]
            keys: Keys = ("arms", number, "candidates", fault.key) if own else ("candidates", fault.key)
        elif fault.key in part.setting:
            keys = ("vary", fault.key)
        elif section == "dataset" and part.graph is not None:
            keys = ("graphs", next((i for i, graph in enumerate(self.content["graphs"]) if graph is part.graph), 0))
        elif section in ENTRIES and section in arm.entries:
            keys = ("arms", number, section)
        elif section in self.content.get("common", {}):
            keys = ("common", section, key)
        else:
            keys = ("arms", number)
        if fault.place and not self.place(*keys):
            self.faults.append(fault)
        else:
            self._note(fault.text, *keys)

    def _protocol(self, written: GridText, arms: Sequence[Arm], num_splits: int) -> Protocol:
        if written.test == "wilcoxon" and num_splits < MIN_SPLITS_WILCOXON:
            text = (
                f"Expected at least {MIN_SPLITS_WILCOXON} class splits for test=wilcoxon (got {num_splits}), which can "
                "show nothing with fewer. Take test=t."
            )
            self._note(text, "test")
        labels = [arm.label for arm in arms]
        reference = written.reference or labels[0]
        self._check_arm(reference, labels, "reference")
        if written.hypotheses is None:
            found = [Hypothesis(arm.label, reference) for arm in arms if arm.is_trained and arm.label != reference]
        else:
            found = [*self._hypotheses(written.hypotheses, labels)]
        return Protocol(tuple(found), reference, written.test, written.margin, written.alpha, written.pooled)

    def _check_settings(self, written: GridText, grid: Grid) -> None:
        """See that every class split has a setting of its own that its run can have."""
        for arm in grid.arms if written.settings else ():
            if len(arm.candidates) > 1:
                text = f"Expected no candidates beside 'settings' (got some of '{arm.label}'). Remove them."
                self._note(text, "arms", arm.line)
        cells = {(cell.part, cell.arm, cell.split): cell for cell in grid.cells()}
        for unit in cells.keys() - grid.settings.keys() if written.settings else ():
            self._note(no_setting(*unit), "settings")
        for number, line in enumerate(written.settings):
            cell = cells.get((line.part, line.arm, line.split))
            if cell is None:
                text = f"Expected a part, an arm and a class split of this grid (got {shown(dict(line))}). Remove it."
                self._note(text, "settings", number)
                continue
            try:
                grid.job(cell, root=".")
            except (ValidationError, AttributeError):
                text = f"Expected values that a run of '{line.arm}' can have (got {shown(line.values)}). Remove it."
                self._note(text, "settings", number)

    def _hypotheses(self, texts: Iterable[str], labels: Sequence[str]) -> Iterator[Hypothesis]:
        for number, text in enumerate(texts):
            match = HYPOTHESIS.match(text)
            if match is None:
                way = "'ARM above ARM' or 'ARM not below ARM'"
                self._note(f"Expected a hypothesis to read {way} (got '{text}').", "hypotheses", number)
                continue
            for arm in (match["arm"], match["reference"]):
                self._check_arm(arm, labels, "hypotheses", number)
            if match["arm"] == match["reference"]:
                self._note(f"Expected a hypothesis about two arms (got '{text}').", "hypotheses", number)
            kind: Literal["above", "not below"] = "above" if match["kind"] == "above" else "not below"
            yield Hypothesis(match["arm"], match["reference"], kind)

    def _check_arm(self, label: str, labels: Sequence[str], *keys: str | int) -> None:
        if label not in labels:
            self._note(f"Expected an arm of this grid (got '{label}'). {suggest(label, labels)}", *keys)


def _job(written: GridText, part: Part, arm: Arm, candidate: Mapping[str, Any]) -> Job:
    # Unknown sections, and sections without keys, are noted already.
    shared = {key: value for key, value in written.common.items() if (key in SECTIONS) == isinstance(value, Mapping)}
    options = sectioned(shared, arm.entries, task=written.task, config=written.config)
    for dotted, value in part.setting.items():
        section, _, key = dotted.partition(".")
        options.setdefault(section, {})[key] = value
    entries = dict(arm.entries)
    for section in ENTRIES:
        chosen = {key.partition(".")[2]: value for key, value in candidate.items() if key.startswith(f"{section}.")}
        entry = entries.get(section)
        if isinstance(entry, str):
            entry = {"name": entry}
        if entry is None or isinstance(entry, Mapping):
            entries[section] = {**options.pop(section, {}), **(entry or {}), **chosen}
        elif chosen:
            raise ValueError(f"Expected no candidates of an own {section} (got {', '.join(chosen)}). Set them on it.")
    for dotted, value in candidate.items():
        section, _, key = dotted.partition(".")
        if section not in ENTRIES:
            options.setdefault(section, {})[key] = value
    graph = part.graph
    if isinstance(graph, Mapping) or (isinstance(graph, str) and not graph.endswith(".npz")):
        graph = {**options.pop("dataset", {}), **({"name": graph} if isinstance(graph, str) else graph)}
    config, objects = config_of_call(graph, task=written.task, config=written.config, options=options, **entries)
    return Job(config, objects)


def _merged_floors(arms: Iterable[Arm], jobs: Mapping[tuple[str, str, int], Job], part: str) -> list[Arm]:
    """Drop what a method without training has no use for: optimizer, encoder, and the candidates of these."""
    found: dict[str, Arm] = {}
    for arm in arms:
        if jobs[part, arm.label, 0].config.is_trained:
            found[arm.label] = arm
            continue
        method = {"method": arm.entries["method"]} if "method" in arm.entries else {}
        has_own_label = arm.label != _arm_label(arm.entries, [arm.entries.get("encoder")])
        label = arm.label if has_own_label else _arm_label(method, [None])
        found.setdefault(label, Arm(label, method, is_trained=False, line=arm.line))
    return list(found.values())


def _with_equal_trials(arms: Sequence[Arm], note: Callable[..., None]) -> list[Arm]:
    """Give floors as many settings to choose from as trained arms have, which must have equally many."""
    numbers = {arm.label: "ranges" if arm.space else len(arm.candidates) for arm in arms if arm.is_trained}
    if len(set(numbers.values())) > 1:
        told = ", ".join(f"{label} {number}" for label, number in numbers.items())
        note(f"Expected as many candidates for every trained arm, or the comparison is not fair (got {told}).", "arms")
        return list(arms)
    num_trials = next(iter(numbers.values()), 1)
    if num_trials == 1 or isinstance(num_trials, str):  # a search says how many
        return list(arms)
    return [arm if arm.is_trained else _with_trials(arm, num_trials) for arm in arms]


def _with_trials(floor: Arm, num_trials: int) -> Arm:
    method = floor.entries.get("method")
    entry = {"name": method} if isinstance(method, str) else method
    if not isinstance(entry, Mapping) or "num_trials" in entry:
        return floor
    if "num_trials" not in entry_option_names(MethodConfig, entry["name"]):
        return floor
    return Arm(
        floor.label, {**floor.entries, "method": {**entry, "num_trials": num_trials}}, is_trained=False, line=floor.line
    )


def _keys_of(candidates: Any) -> list[str]:
    return [key for setting in (candidates if isinstance(candidates, list) else [candidates or {}]) for key in setting]


def _alternatives(entry: Any) -> list[Any]:
    return list(entry) if isinstance(entry, list | tuple) else [entry]


def _settings(candidates: Any) -> Iterator[dict[str, Any]]:
    if candidates is None:
        yield {}
    elif _is_space(candidates):
        for end in ("low", "high"):
            yield {
                key: getattr(values, end) if isinstance(values, RangeText) else values[0]
                for key, values in candidates.items()
            }
    elif isinstance(candidates, Mapping):
        for values in itertools.product(*candidates.values()):
            yield dict(zip(candidates, values, strict=True))
    else:
        yield from map(dict, candidates)


def _is_space(candidates: Any) -> bool:
    """Whether candidates name a range, so that a search must choose among them."""
    return isinstance(candidates, Mapping) and any(isinstance(values, RangeText) for values in candidates.values())


def _space(candidates: Any) -> dict[str, Range | tuple[Any, ...]]:
    if not _is_space(candidates):
        return {}
    return {
        key: Range(**dict(values)) if isinstance(values, RangeText) else tuple(values)
        for key, values in candidates.items()
    }


def _arm_label(entries: Mapping[str, Any], encoders: Sequence[Any]) -> str:
    """Name an arm by method and optimizer, and by encoder where there are several."""
    shown_entries = [entries.get("method"), entries.get("optimizer")]
    if len(encoders) > 1:
        shown_entries.append(entries.get("encoder"))
    return "/".join(entry_name(entry) for entry in shown_entries if entry is not None) or "default"


def entry_name(entry: Any) -> str:
    """Name an encoder, a method or an optimizer as it stands in a grid."""
    if isinstance(entry, Mapping):
        return str(entry.get("name", "default"))
    return entry if isinstance(entry, str) else entry_label(entry)


def _graph_label(graph: Any) -> str:
    if isinstance(graph, Graph):
        return graph.name
    if isinstance(graph, Mapping):
        return str(graph.get("name", graph.get("path", "synthetic")))
    return str(graph)


def _written_keys(location: tuple[str | int, ...], content: Any) -> Keys:
    """The part of a location that the writer wrote: without the names that pydantic gives the members of a union."""
    keys: list[str | int] = []
    for key in location:
        is_there = (isinstance(content, Mapping) and key in content) or (
            isinstance(content, Sequence) and isinstance(key, int) and key < len(content)
        )
        if is_there:
            content = content[key]
        elif (keys and key != location[-1]) or not isinstance(content, Mapping):
            continue
        keys.append(key)
    return tuple(keys)


def _remove(content: Any, keys: Keys) -> None:
    """Take out a value, if it is there."""
    *around, last = keys
    for key in around:
        content = content[key]
    if isinstance(content, Mapping) and last not in content:
        return
    del content[last]


def _sentence(keys: Keys, found: Any) -> str:
    dotted = ".".join(map(str, keys))
    if found["type"] == "string_pattern_mismatch":
        return f"Expected a key 'section.key' (got '{keys[-1]}')."
    if found["type"] == "extra_forbidden":
        known = ArmText.model_fields if keys[0] == "arms" and len(keys) > 1 else GridText.model_fields
        return f"Expected a key of a grid (got '{keys[-1]}'). {suggest(str(keys[-1]), known)}"
    if found["type"] == "missing":
        return f"Expected '{dotted}' in a grid (there is none)."
    problem = found["msg"][0].lower() + found["msg"][1:]
    return f"Expected '{dotted}' as in the guide: {problem} (got {shown(found['input'])})."


def _plain(value: Any) -> Any:
    if isinstance(value, Graph):
        return value.name
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return plain_value(value)
