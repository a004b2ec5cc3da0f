"""A run directory: named by what it computes, worked on by one process at a time, never half-written."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any

import torch
import yaml
from torch import Tensor

from fgsam.engine.callbacks import Callback
from fgsam.engine.checkpoint import load_checkpoint, save_checkpoint
from fgsam.engine.config_model import FEW_SHOT, TASKS
from fgsam.engine.interrupts import Interrupted
from fgsam.engine.team import Team
from fgsam.engine.train import Trainer
from fgsam.files import write_atomically
from fgsam.locks import try_lock

RESULTS_VERSION = 1
"""Raised when a change of ours changes what a config computes; runs of different versions do not mix."""

SAVE_SECONDS = 3.0
"""Training between two checkpoints; lost at most when the process is killed, with the episode, validation or test
under way: these are computed again from their beginning."""

FORMAT = "fgsam-result 1"

_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Ten times faster, where PyYAML was built with it."""

logger = logging.getLogger(__name__)


def content_hash(content: Any) -> str:
    """Return the sha256 of plain values; the order of keys makes no difference.

    Example:
        >>> content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
        True
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


class RunDirectory:
    """The files of one run.

    ``config.yaml`` holds every setting, ``log.jsonl`` the losses and validations, ``checkpoint.fgsam`` the state to go
    on from, ``weights.fgsam`` the tested weights, ``result.json`` the results. The last one appears last: where it is,
    the run is finished.

    Args:
        path: The directory; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.log = path / "log.jsonl"
        self.checkpoint = path / "checkpoint.fgsam"
        self.weights = path / "weights.fgsam"
        self.result = path / "result.json"

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write the resolved config in place of an earlier one, which may name other places and time limits."""
        write_atomically(self.config, yaml.safe_dump(dict(config), sort_keys=False).encode())

    @contextmanager
    def locked(self, should_stop: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Make the directory and hold it alone; wait while another process does. All writing happens in here.

        Args:
            should_stop: Asked while waiting; True gives up.

        Raises:
            Interrupted: If waiting was given up.
            OSError: If the directory cannot be made; the text names the place and the way out.
        """
        make_folder(self.path)
        with _opened(self.path / "lock", "a") as file:
            told = False
            while not try_lock(file):
                if should_stop():
                    raise Interrupted(f"Stopped while another process works on {self.path}.")
                if not told:
                    logger.warning("Another process works on %s; waiting for its result", self.path)
                    told = True
                time.sleep(0.1)
            for part in self.path.glob(".*.part"):  # left by a process that was killed while it wrote
                part.unlink(missing_ok=True)
            yield

    def write_result(self, results: Mapping[str, Any], timing: Mapping[str, Any], versions: Mapping[str, Any]) -> None:
        """Write ``result.json``, which says that the run is finished."""
        content = {
            "format": FORMAT,
            "results": results,
            "timing": timing,
            "versions": versions,
            "digest": content_hash(results),
        }
        write_atomically(self.result, (json.dumps(content, indent=1, default=str) + "\n").encode())

    def read_config(self) -> dict[str, Any]:
        """Return the resolved config by section and key, and the task where it is not few-shot.

        Raises:
            ValueError: If ``config.yaml`` is missing or damaged.
        """
        try:
            content = yaml.load(self.config.read_text(encoding="utf-8"), Loader=_Loader)
            is_whole = isinstance(content, dict)
            if is_whole and content.get("task", FEW_SHOT) == FEW_SHOT:
                content.setdefault("graph", {})  # a section that older runs lack
            is_whole = is_whole and all(
                isinstance(content.get(name), dict) for name in TASKS.get(content.get("task", FEW_SHOT), TASKS)
            )
        except (FileNotFoundError, UnicodeDecodeError, yaml.YAMLError):
            is_whole = False
        if not is_whole:
            raise ValueError(
                f"Expected {self.config} to hold the config of this run (it is missing or damaged). "
                "Delete it, and give the command of the run again: it is written anew, and nothing is computed twice."
            )
        return dict(content)

    def read_result(self) -> dict[str, Any] | None:
        """Return the content of ``result.json``, or None if the run is not finished.

        Raises:
            ValueError: If the file is damaged or was changed by hand.
        """
        if not self.result.is_file():
            return None
        try:
            content = json.loads(self.result.read_text())
            other_format = content["format"] if content["format"] != FORMAT else None
            parts = [content[part] for part in ("results", "timing", "versions")]
            is_whole = other_format is not None or content_hash(parts[0]) == content["digest"]
        except (ValueError, KeyError, TypeError):
            other_format, is_whole = None, False
        if other_format is not None:
            raise ValueError(
                f"Expected {self.result} in the format '{FORMAT}' (got '{other_format}'). It was written by another "
                "version of fgsam: read it with that one, or give another run.root."
            )
        if not is_whole:
            raise ValueError(
                f"Expected {self.result} to match its own digest: it was changed or damaged. "
                "Delete it and run again; training goes on from the checkpoint beside it."
            )
        return dict(content)


def make_folder(path: Path) -> None:
    """Make a folder and those above it.

    Raises:
        OSError: If that is not possible; the text names the place and the way out.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            error.errno,
            f"Expected '{path}' to be a folder that can be made ({error.strerror}). Choose another run.root.",
        ) from error


class Keeper(Callback):
    """Writes the log and the checkpoint of a run while it trains.

    Args:
        directory: Where they go.
        config_hash: Says which run a checkpoint belongs to.
        team: The processes that train; the first writes, all of them restore. Only this process when not given.
    """

    def __init__(self, directory: RunDirectory, config_hash: str, team: Team | None = None) -> None:
        self.directory = directory
        self.config_hash = config_hash
        self.team = Team() if team is None else team
        self.fingerprints = [fingerprint()]
        self._log: IO[str] | None = None
        self._saved = 0.0

    def restore(self, trainer: Trainer) -> None:
        """Bring a trainer to the state of the checkpoint, if there is one, and cut the log back to it.

        Raises:
            ValueError: If the checkpoint is damaged or of another run.
        """
        log_size = 0
        if self.directory.checkpoint.is_file():
            state = load_checkpoint(self.directory.checkpoint, device=trainer.graph.device)
            self._check(state)
            try:
                self._note_changes(state["fingerprints"])
                if "own" in state:
                    state["trainer"]["optimizer"]["own"] = state["own"][self.team.rank]
                trainer.load_state_dict(state["trainer"])
                log_size = int(state["log_size"])
            # Whole, of this run, and yet not what is expected: torch and dicts have many words for that.
            except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
                raise ValueError(
                    f"Expected {self.directory.checkpoint} to hold the state of these nets and this optimizer "
                    f"(got {type(error).__name__}). Delete it to start this run from its beginning."
                ) from error
            logger.info("Going on from %s %d of %s", trainer.unit, trainer.step, self.directory.path)
        steps = self.team.gathered(trainer.step)
        if len(set(steps)) > 1:
            raise ValueError(
                f"Expected all ranks to find the same {self.directory.checkpoint} (got steps {steps}). Give a run.root "
                "that they share."
            )
        if self.team.is_first:
            with _opened(self.directory.log, "a") as file:
                # What was logged after the checkpoint will be computed, and logged, again.
                os.truncate(file.fileno(), min(log_size, os.fstat(file.fileno()).st_size))

    def on_start(self, trainer: Trainer) -> None:
        """Open the log."""
        if self.team.is_first:
            self._log = _opened(self.directory.log, "a")
        self._saved = time.perf_counter()

    def on_step(self, trainer: Trainer) -> None:
        """Log the loss; save if the last checkpoint is a few seconds old."""
        loss = trainer.loss if math.isfinite(trainer.loss) else None  # JSON knows no NaN
        self._write({"step": trainer.step, "loss": loss})
        is_due = time.perf_counter() - self._saved >= SAVE_SECONDS
        if _differs_by_rank(trainer):
            [is_due] = self.team.any(is_due)
        if is_due:
            self.save(trainer)

    def on_validation(self, trainer: Trainer) -> None:
        """Log the validation."""
        newest = trainer.history[-1]
        scores = {"val_accuracy": newest.accuracy, f"val_{trainer.task.metric}": newest.score}
        self._write({"step": newest.step, **scores, "seconds": round(newest.seconds, 3)})

    def on_end(self, trainer: Trainer) -> None:
        """Close the log; after an error its last lines have no checkpoint, and the next start cuts them off."""
        if self._log is not None:
            log, self._log = self._log, None
            with _clear_error(self.directory.log):
                log.close()

    def save(self, trainer: Trainer) -> None:
        """Write log and checkpoint to the disk; with what the rule keeps on each rank, where that differs."""
        self._saved = time.perf_counter()
        own = self.team.gathered(_on_cpu(trainer.optimizer.own)) if _differs_by_rank(trainer) else None
        if not self.team.is_first:
            return
        if self._log is not None:
            with _clear_error(self.directory.log):
                self._log.flush()
                os.fsync(self._log.fileno())
        state = {
            "config_hash": self.config_hash,
            "results_version": RESULTS_VERSION,
            "fingerprints": self.fingerprints,
            "log_size": self.directory.log.stat().st_size,
            "trainer": trainer.state_dict(),
            **({} if own is None else {"own": own}),
        }
        save_checkpoint(self.directory.checkpoint, state)
        self._saved = time.perf_counter()

    def _write(self, line: Mapping[str, Any]) -> None:
        if self._log is None:
            return  # another rank writes
        with _clear_error(self.directory.log):
            self._log.write(json.dumps(line) + "\n")

    def _check(self, state: Mapping[str, Any]) -> None:
        if state.get("config_hash") != self.config_hash or state.get("results_version") != RESULTS_VERSION:
            raise ValueError(
                f"Expected {self.directory.checkpoint} to belong to this run (it is of another config or version). "
                "Delete it to start this run from its beginning."
            )

    def _note_changes(self, fingerprints: Sequence[dict[str, Any]]) -> None:
        self.fingerprints = list(fingerprints)
        now = fingerprint()
        changed = [key for key in now if now[key] != self.fingerprints[-1].get(key)]
        if changed:
            self.fingerprints.append(now)
            logger.warning(
                "%s was begun with another %s: the result may differ in its last digits from an uninterrupted run",
                self.directory.path,
                ", ".join(changed),
            )


def fingerprint() -> dict[str, Any]:
    """Return what bit-identical results depend on besides the config: versions, threads and the kind of CPU."""
    packages = ("fgsam", "torch", "torch-geometric", "numpy", "scipy", "scikit-learn")
    return {
        "python": platform.python_version(),
        **{package: _version(package) for package in packages},
        "threads": torch.get_num_threads(),
        "cpu": _cpu(),
    }


def _differs_by_rank(trainer: Trainer) -> bool:
    return trainer.optimizer.data_parallel == "per_rank"


def _on_cpu(own: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value.cpu() if isinstance(value, Tensor) else value for key, value in own.items()}


@cache
def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


@cache
def _cpu() -> str:
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def _opened(path: Path, mode: str) -> IO[str]:
    with _clear_error(path):
        return open(path, mode, encoding="utf-8")


@contextmanager
def _clear_error(path: Path) -> Iterator[None]:
    """Say which file could not be written, and what to do."""
    try:
        yield
    except OSError as error:
        reason = f"Expected '{path}' to be writable ({error.strerror}). Free space there or choose another run.root."
        raise OSError(error.errno, reason) from error
