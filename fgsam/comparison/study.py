"""A folder that the runs of a grid fill, from any number of launchers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fgsam.comparison.executors.base import Executor, Postponed
from fgsam.comparison.grid import Cell, Grid, Job
from fgsam.comparison.grid_source import load_grid
from fgsam.engine.config import reload_config
from fgsam.engine.config_model import SECTIONS
from fgsam.engine.identity import source_digest
from fgsam.engine.interrupts import Interrupted
from fgsam.engine.record import RESULTS_VERSION, RunDirectory, content_hash, make_folder
from fgsam.files import file_digest, write_atomically
from fgsam.graph.graph import Graph
from fgsam.locks import try_lock

FORMAT = "fgsam-cell 1"


@dataclass(frozen=True)
class State:
    """What has become of one run.

    Attributes:
        run: Name of its directory; None where it failed.
        error: Why it failed; None where it is finished.
        seconds: What it took.
        val_accuracy: Share of right answers on validation; None where it failed.
    """

    run: str | None
    error: str | None
    seconds: float
    val_accuracy: float | None = None

    @property
    def is_finished(self) -> bool:
        """Whether there is a result."""
        return self.run is not None


@dataclass(frozen=True)
class Task:
    """One run as it goes to a worker: plain values, which every process can read.

    Attributes:
        cell: Its place in the grid.
        key: Names what it computes; equal runs of different cells share one.
        folder: Of the study.
        values: Its config by section and key.
        objects: What the config cannot name.
    """

    cell: Cell
    key: str
    folder: Path
    values: Mapping[str, Any]
    objects: Mapping[str, Any]


class Study:
    """The runs of a grid in a folder.

    ``grid.yaml`` is the grid as it was last asked for, ``runs`` holds the run directories, and ``cells`` a small file
    for every run that is over. A run is held by a lock while it is under way, so that launchers can share the folder;
    its checkpoint goes when it is finished, the tested weights stay.

    Args:
        folder: Made when something is run.
        grid: What to run.
    """

    def __init__(self, folder: str | Path, grid: Grid) -> None:
        searched = next((arm for arm in grid.arms if arm.space), None)
        if searched is not None:
            raise ValueError(
                f"Expected settings that can be run (got ranges for '{searched.label}'). Search for them first: "
                "'fgsam tune' writes a grid in which each class split has its own."
            )
        self.folder = Path(folder)
        self.grid = grid
        self._digests: dict[tuple[str, Any], str] = {}
        self.tasks = {cell: self._task(cell) for cell in grid.cells()}

    @classmethod
    def open(cls, folder: str | Path) -> Study:
        """Open a folder by the grid that it holds.

        Raises:
            FileNotFoundError: If it holds none.
        """
        path = Path(folder) / "grid.yaml"
        if not path.is_file():
            raise FileNotFoundError(
                f"Expected '{folder}' to hold a comparison (there is no grid.yaml). Make one: fgsam compare GRID"
            )
        return cls(folder, load_grid(path))

    def state(self, cell: Cell) -> State | None:
        """Return what has become of a run, or None if it is not over."""
        return read_state(self.folder, self.tasks[cell].key)

    def run(
        self, executor: Executor, *, retry_failed: bool = False, on_start: Callable[[Cell], None] = lambda cell: None
    ) -> Iterator[tuple[Cell, State]]:
        """Run what is not over yet, and yield each run as it ends; those that are over come first.

        Args:
            executor: Runs them.
            retry_failed: Whether failed runs are started again.
            on_start: Told of each run that is handed to a worker.

        Raises:
            Interrupted: If Ctrl-C or SIGTERM asked to stop.
        """
        make_folder(self.folder / "cells")
        write_atomically(self.folder / "grid.yaml", self.grid.text.encode())
        waiting: dict[str, list[Cell]] = {}
        for cell, task in self.tasks.items():
            state = self.state(cell)
            if state is not None and not task.objects and (state.is_finished or not retry_failed):
                yield cell, state
            else:
                waiting.setdefault(task.key, []).append(cell)

        def tasks() -> Iterator[Task]:
            for cells in waiting.values():
                on_start(cells[0])
                yield self.tasks[cells[0]]

        function = run_task if not retry_failed else retry_task
        with closing(executor.run(function, tasks())) as results:  # type: ignore[type-var]
            for done in results:
                if done.is_interrupted:
                    raise Interrupted(f"Stopped. Finished runs are kept in {self.folder}; the same command goes on.")
                state = done.result
                if state is None:
                    assert done.error is not None
                    state = State(None, f"{done.error.name}: {done.error.message}", 0.0)
                    write_state(self.folder, done.job.key, state)
                for cell in waiting[done.job.key]:
                    yield cell, state

    def _task(self, cell: Cell) -> Task:
        job = self.grid.job(cell, str(self.folder / "runs"))
        identity = {
            "config": job.config.content(),
            "results_version": RESULTS_VERSION,
            # What a config names, without telling what it is.
            "sources": [self._digest_of(*source) for source in _sources(job)],
            "max_seconds": job.config.train.max_seconds,
        }
        return Task(cell, content_hash(identity)[:16], self.folder, job.config.resolved(), job.objects)

    def _digest_of(self, kind: str, source: Any) -> str:
        key = (kind, source if isinstance(source, str) else id(source))
        if key not in self._digests:
            self._digests[key] = f"{kind} {_digest(kind, source, len(self._digests))}"
        return self._digests[key]


def _sources(job: Job) -> Iterator[tuple[str, Any]]:
    """What decides about a run and stands elsewhere: an own graph, classes of the user's, objects of the caller's."""
    if job.config.dataset.path is not None:
        yield "file", job.config.dataset.path
    for section in ("encoder", "method", "optimizer"):
        part = getattr(job.config, section)
        if ":" in part.name and section not in job.objects:
            yield section, part.name
    yield from job.objects.items()


def _digest(kind: str, source: Any, number: int) -> str:
    if kind == "file":
        return file_digest(Path(source)) if Path(source).is_file() else source
    if isinstance(source, Graph):
        return source.digest
    if isinstance(source, str):
        return source_digest(SECTIONS[kind].table.load(source))  # type: ignore[attr-defined]
    return str(number)  # in the order of the grid: two objects may look alike


def run_task(task: Task) -> State | Postponed:
    """Do one run, unless another process has done it or is at it."""
    return _run(task, keep_failed=True)


def retry_task(task: Task) -> State | Postponed:
    """Do one run, also where it has failed before."""
    return _run(task, keep_failed=False)


def _run(task: Task, *, keep_failed: bool) -> State | Postponed:
    from fgsam.engine.run import execute

    with _claim(task) as is_ours:
        if not is_ours:
            return Postponed()
        state = read_state(task.folder, task.key)
        if state is not None and not task.objects and (state.is_finished or keep_failed):
            return state
        start = time.monotonic()
        try:
            run = execute(config_of(task), progress="none", **task.objects)
            state = State(run.directory.name, None, run.timing["seconds"], run.val_accuracy)
        except Interrupted:
            raise
        except Exception as error:
            state = State(None, f"{type(error).__name__}: {error}", time.monotonic() - start)
        write_state(task.folder, task.key, state)
        if state.run is not None:
            with suppress(OSError):  # there may be thousands of them, but one that stays does no harm
                RunDirectory(task.folder / "runs" / state.run).checkpoint.unlink(missing_ok=True)
        return state


def read_state(folder: Path, key: str) -> State | None:
    """Return what has become of a run, or None if it is not over: its file or its result is missing or damaged."""
    try:
        content = json.loads((folder / "cells" / f"{key}.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(content, dict) or content.pop("digest", None) != content_hash(content):
        return None  # damaged: the run is asked once more, and read if it is there
    del content["format"]
    state = State(**content)
    if state.run is not None and not RunDirectory(folder / "runs" / state.run).result.is_file():
        return None
    return state


def write_state(folder: Path, key: str, state: State) -> None:
    """Note what has become of a run."""
    content = {"format": FORMAT, **asdict(state)}
    text = json.dumps({**content, "digest": content_hash(content)}) + "\n"
    write_atomically(folder / "cells" / f"{key}.json", text.encode())


@contextmanager
def _claim(task: Task) -> Iterator[bool]:
    """Hold a run for this process, and tell whether that succeeded."""
    with open(task.folder / "cells" / f"{task.key}.lock", "a", encoding="utf-8") as file:
        yield try_lock(file)


def config_of(task: Task) -> Any:
    """Make the config of a run again from the values that came to this process."""
    return reload_config(task.values, task.objects)
