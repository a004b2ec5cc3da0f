"""Settings that every class split searches for on its own validation bank; no test bank is opened on the way.

Classes that are validation classes of one split are test classes of another, so a setting belongs to the split that
chose it. The search is Optuna's; each part, arm and split has a study of its own in one database.
"""

from __future__ import annotations

import itertools
import json
import secrets
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from fgsam.checks import check_count
from fgsam.comparison.executors.base import Executor, Postponed
from fgsam.comparison.executors.inline import Inline
from fgsam.comparison.grid import Arm, Cell, Grid, Part, Range, Tuned
from fgsam.comparison.results import Unit
from fgsam.comparison.study import Task, config_of
from fgsam.engine.config_model import PLACES
from fgsam.engine.interrupts import Interrupted
from fgsam.engine.record import RESULTS_VERSION, content_hash, make_folder
from fgsam.engine.validate import Validated, validate
from fgsam.episodes.streams import generator
from fgsam.files import write_atomically
from fgsam.locks import try_lock

HEARTBEAT = 60
"""Seconds between two signs of life of a trial."""

GRACE = 180
"""Seconds without one after which a trial counts as dead, and is tried again."""

MAX_RETRY = 3

FLOOR_TRIALS = "method.num_trials"

ALL = "all"
"""Part and class split of a search over all of a grid."""


@dataclass(frozen=True)
class Trial:
    """One line of the search log.

    Attributes:
        part: Label of the part; ``"all"`` with ``outside``.
        arm: Label of the arm.
        split: Class split; ``"all"`` with ``outside``.
        number: Place in the search, counted from 0; a number is missing where a worker died.
        values: The setting.
        state: Whether it has a result.
        val_accuracy: On the validation bank of the split in percent, the mean over seeds; None where it failed.
        seconds: What it took.
        banks: Digests of the validation banks, one without ``outside``.
        graphs: Digests of the graphs.
        error: Why it failed.
    """

    part: str
    arm: str
    split: int | str
    number: int
    values: Mapping[str, Any]
    state: Literal["complete", "failed"]
    val_accuracy: float | None
    seconds: float
    banks: tuple[str, ...]
    graphs: tuple[str, ...]
    error: str | None


@dataclass(frozen=True)
class Search:
    """The search of one part, arm and class split, as it goes to a worker.

    Attributes:
        unit: Part, arm and class split.
        name: Of its study in the database: names what is searched.
        storage: Address of the database.
        num_trials: Trials that end by themselves, with a result or an error.
        space: What is drawn from.
        runs: The runs whose setting is changed, and whose validation accuracy is averaged: one for each seed.
    """

    unit: Unit
    name: str
    storage: str
    num_trials: int
    space: Mapping[str, Range | tuple[Any, ...]]
    runs: tuple[Task, ...]


def tune(
    grid: Grid,
    num_trials: int,
    folder: str | Path,
    *,
    outside: Grid | None = None,
    storage: str | None = None,
    executor: Executor | None = None,
    on_search: Callable[[Unit, tuple[Trial, ...]], None] = lambda unit, trials: None,
) -> Grid:
    """Search the ranges of a grid, and return the grid in which every class split has the setting that it chose.

    Every trained arm gets equally many trials, and a floor as many settings to choose from. A trial trains and looks at
    the validation bank of its own split; a test bank is never drawn. The same call goes on where it was stopped, and
    proposes what it would have proposed without the stop; objects of the caller are searched anew.

    With ``outside``, every arm has one setting instead, with the best mean over all parts and class splits of that
    grid, whose graphs must be others.

    Args:
        grid: With ranges among its candidates.
        num_trials: Trials of each arm on each part and class split.
        folder: Gets ``tuned.yaml``, which is the grid that is returned, ``search.jsonl``, the log of all trials, and
            the database.
        outside: A grid of the same arms and ranges on graphs that are not in the table.
        storage: Address of another database, ``postgresql://...``; SQLite in the folder when not given.
        executor: Runs the searches; one after another in this process when not given.
        on_search: Told of every search that is over.

    Raises:
        ValueError: If the grid has no ranges, or every trial of some search failed.
        ModuleNotFoundError: If Optuna is not installed.
        RuntimeError: If a search could not be run.
        Interrupted: If Ctrl-C or SIGTERM asked to stop.
    """
    check_count(num_trials=num_trials)
    if not any(arm.space for arm in grid.arms):
        raise ValueError(
            "Expected ranges among the candidates of a grid that is tuned (got none), as "
            "'optimizer.lr: {low: 1e-4, high: 1e-1, log: true}'. From a list, 'fgsam compare' chooses by itself."
        )
    folder = Path(folder)
    make_folder(folder / "search")
    address = storage or f"sqlite:///{(folder / 'search.db').absolute()}"
    _storage(address)  # makes the tables, before several workers do
    if outside is None:
        searches = list(_searches(grid, num_trials, folder, address))
    else:
        _check_outside(grid, outside)
        searches = list(_joint_searches(outside, num_trials, folder, address))
    found: dict[Unit, tuple[Trial, ...]] = {}
    with closing((executor or Inline()).run(run_search, searches)) as results:  # type: ignore[type-var]
        for done in results:
            if done.is_interrupted:
                raise Interrupted("Stopped. Trials that are over are kept in the database; the same command goes on.")
            if done.result is None:
                assert done.error is not None
                raise RuntimeError(f"The search of {_told(done.job.unit)} ended: {done.error.message}")
            found[done.job.unit] = done.result
            _write_log(folder, [trial for search in searches for trial in found.get(search.unit, ())])
            on_search(done.job.unit, done.result)
    best = {unit: _best(unit, trials) for unit, trials in found.items()}
    if outside is not None:
        units = itertools.product(grid.parts, (arm.label for arm in grid.arms if arm.space), grid.splits)
        best = {(part.label, arm, split): best[ALL, arm, ALL] for part, arm, split in units}
    tuned = _settled(grid, num_trials, best)
    write_atomically(folder / "tuned.yaml", tuned.text.encode())
    return tuned


def run_search(search: Search) -> tuple[Trial, ...] | Postponed:
    """Do the trials of a search that are left, unless another process is at it; return all of them."""
    optuna = _optuna()
    with open(search.runs[0].folder / "search" / f"{search.name}.lock", "a", encoding="utf-8") as file:
        if not try_lock(file):
            return Postponed()
        study = optuna.create_study(
            storage=_storage(search.storage), study_name=search.name, direction="maximize", load_if_exists=True
        )
        while len(_finished(study)) < search.num_trials:
            # Seeded anew for every trial, so that a search that was stopped proposes what it would have proposed; and
            # by split and number alone, so that arms with the same ranges begin with the same settings. A trial whose
            # worker died keeps its number: its setting comes back when its heart has been still for long enough.
            number = len(_finished(study)) + len(study.get_trials(states=_open_states(), deepcopy=False))
            seed = int(generator("search", str(search.unit[2]), number).integers(2**31))
            study.sampler = optuna.samplers.TPESampler(seed=seed)
            study.optimize(lambda trial: _try(search, trial), n_trials=1, catch=(_FailedTrial,))
        return tuple(_trial(search.unit, trial) for trial in _finished(study)[: search.num_trials])


def read_log(folder: str | Path) -> tuple[Trial, ...]:
    """Read the trials that ``search.jsonl`` in a folder tells of."""
    lines = (Path(folder) / "search.jsonl").read_text(encoding="utf-8").splitlines()
    trials = (Trial(**json.loads(line)) for line in lines)
    return tuple(replace(trial, banks=tuple(trial.banks), graphs=tuple(trial.graphs)) for trial in trials)


class _FailedTrial(Exception):
    """A trial that ended with an error, which its attributes tell."""


def _try(search: Search, trial: Any) -> float:
    setting = {key: _drawn(trial, key, values) for key, values in search.space.items()}
    found: list[Validated] = []
    for task in search.runs:
        try:
            found.append(validate(config_of(_with(task, setting)), **task.objects, bank_folder=task.folder / "banks"))
        except Interrupted:
            raise
        except Exception as error:
            trial.set_user_attr("error", f"{type(error).__name__}: {error}")
            raise _FailedTrial from error
    trial.set_user_attr("banks", sorted({one.bank for one in found}))
    trial.set_user_attr("graphs", sorted({one.graph for one in found}))
    return float(np.mean([100 * one.accuracy for one in found]))


def _drawn(trial: Any, key: str, values: Range | tuple[Any, ...]) -> Any:
    if isinstance(values, tuple):
        return trial.suggest_categorical(key, values)
    suggest = trial.suggest_int if isinstance(values.low, int) and isinstance(values.high, int) else trial.suggest_float
    return suggest(key, values.low, values.high, log=values.log)


def _with(task: Task, setting: Mapping[str, Any]) -> Task:
    values = {section: dict(part) if isinstance(part, Mapping) else part for section, part in task.values.items()}
    for dotted, value in setting.items():
        section, _, key = dotted.partition(".")
        values[section][key] = value
    return replace(task, values=values)


def _searches(grid: Grid, num_trials: int, folder: Path, address: str) -> Iterator[Search]:
    for split in grid.splits:
        for part in grid.parts:
            for arm in grid.arms:
                if arm.space:
                    cells = [Cell(split, part.label, arm.label, seed, 0) for seed in grid.seeds]
                    yield _search(grid, arm, (part.label, arm.label, split), cells, num_trials, folder, address)


def _joint_searches(grid: Grid, num_trials: int, folder: Path, address: str) -> Iterator[Search]:
    for arm in grid.arms:
        if arm.space:
            cells = [cell for cell in grid.cells() if cell.arm == arm.label and cell.trial == 0]
            yield _search(grid, arm, (ALL, arm.label, ALL), cells, num_trials, folder, address)


def _check_outside(grid: Grid, outside: Grid) -> None:
    spaces, others = ({arm.label: dict(arm.space) for arm in one.arms if arm.space} for one in (grid, outside))
    if spaces != others:
        raise ValueError(
            f"Expected a grid outside the table with the same arms and ranges (got {', '.join(others) or 'none'}; the "
            f"table has {', '.join(spaces)}). Let the two differ in their graphs alone."
        )
    shared = {_graph(grid, part) for part in grid.parts} & {_graph(outside, part) for part in outside.parts}
    if shared:
        raise ValueError(
            f"Expected other graphs outside the table (got {sorted(shared)[0]} in both): its validation classes are "
            "test classes of other splits. Leave it out, or let each split search by itself."
        )


def _graph(grid: Grid, part: Part) -> str:
    job = next(job for (label, _, _), job in grid.jobs.items() if label == part.label)
    graph = job.objects.get("graph")
    if graph is not None:
        return f"'{graph.name}' ({graph.digest[:12]})"
    dataset = job.config.dataset
    return f"'{dataset.path or dataset.name}' {dataset.options or ''}".rstrip()


def _search(grid: Grid, arm: Arm, unit: Unit, cells: list[Cell], num_trials: int, folder: Path, address: str) -> Search:
    jobs = [grid.job(cell, root=str(folder)) for cell in cells]
    fixed = [
        {key: value for key, value in job.config.flat().items() if key not in arm.space and key not in PLACES}
        for job in jobs
    ]
    space = {key: values if isinstance(values, tuple) else asdict(values) for key, values in arm.space.items()}
    token = secrets.token_hex(8) if jobs[0].objects else ""  # the config does not tell what objects do
    name = content_hash({"runs": fixed, "space": space, "results_version": RESULTS_VERSION, "token": token})[:16]
    runs = tuple(
        Task(cell, name, folder, job.config.resolved(), job.objects) for cell, job in zip(cells, jobs, strict=True)
    )
    return Search(unit, name, address, num_trials, arm.space, runs)


def _finished(study: Any) -> list[Any]:
    """Trials that ended by themselves; what died with its worker or was stopped does not count."""
    trials = sorted(study.get_trials(deepcopy=False), key=lambda trial: trial.number)
    return [trial for trial in trials if trial.state.name == "COMPLETE" or "error" in trial.user_attrs]


def _open_states() -> tuple[Any, ...]:
    states = _optuna().trial.TrialState
    return states.RUNNING, states.WAITING


def _trial(unit: Unit, trial: Any) -> Trial:
    is_complete = trial.state.name == "COMPLETE"
    banks, graphs = (tuple(trial.user_attrs.get(name, ())) for name in ("banks", "graphs"))
    seconds = round(trial.duration.total_seconds(), 3)
    state: Literal["complete", "failed"] = "complete" if is_complete else "failed"
    return Trial(
        *unit,
        trial.number,
        dict(trial.params),
        state,
        trial.value,
        seconds,
        banks,
        graphs,
        trial.user_attrs.get("error"),
    )


def _best(unit: Unit, trials: tuple[Trial, ...]) -> Tuned:
    complete = [trial for trial in trials if trial.val_accuracy is not None]
    if not complete:
        raise ValueError(
            f"Expected a trial of {_told(unit)} with a result (all {len(trials)} failed; the first: "
            f"{trials[0].error}). Change its ranges."
        )
    best = max(complete, key=lambda trial: (trial.val_accuracy, -trial.number))
    return Tuned(best.values, graphs=best.graphs) if unit[0] == ALL else Tuned(best.values, best.banks[0])


def _told(unit: Unit) -> str:
    part, arm, split = unit
    return f"'{arm}' on '{part}', class split {split},"


def _settled(grid: Grid, num_trials: int, found: Mapping[Unit, Tuned]) -> Grid:
    """Return the grid without ranges, and with what was found for each class split."""
    settings = dict(found)
    for arm in grid.arms:
        if not arm.space:
            for part in grid.parts:
                values = {FLOOR_TRIALS: num_trials} if _is_open(grid, part.label, arm) else {}
                settings |= {(part.label, arm.label, split): Tuned(values) for split in grid.splits}
    content = yaml.safe_load(grid.text)
    for written in (content, *content["arms"]):
        written.pop("candidates", None)
    content["settings"] = [
        {"part": part, "arm": arm, "split": split, "values": dict(tuned.values)}
        | ({"bank": tuned.bank} if tuned.bank is not None else {})
        | ({"graphs": list(tuned.graphs)} if tuned.graphs else {})
        for (part, arm, split), tuned in settings.items()
    ]
    return replace(
        grid,
        arms=tuple(replace(arm, candidates=({},), space={}) for arm in grid.arms),
        jobs={key: job for key, job in grid.jobs.items() if key[-1] == 0},
        settings=settings,
        text=yaml.safe_dump(content, sort_keys=False, allow_unicode=True),
    )


def _is_open(grid: Grid, part: str, floor: Arm) -> bool:
    """Whether a floor has settings to choose from, and the grid does not say how many."""
    method = floor.entries.get("method")
    is_said = isinstance(method, Mapping) and "num_trials" in method
    return not is_said and FLOOR_TRIALS in grid.jobs[part, floor.label, 0].config.flat()


def _write_log(folder: Path, trials: list[Trial]) -> None:
    text = "".join(json.dumps(asdict(trial), separators=(",", ":")) + "\n" for trial in trials)
    write_atomically(folder / "search.jsonl", text.encode())


def _storage(address: str) -> Any:
    optuna = _optuna()
    options = {"connect_args": {"timeout": HEARTBEAT}} if address.startswith("sqlite") else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        retry = optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=MAX_RETRY)
        return optuna.storages.RDBStorage(
            address,
            engine_kwargs=options,
            heartbeat_interval=HEARTBEAT,
            grace_period=GRACE,
            heartbeat_stale_trial_callback=retry,
        )


def _optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("Expected Optuna to be installed. Run: pip install 'fgsam[hpo]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna
