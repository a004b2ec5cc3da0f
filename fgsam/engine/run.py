"""One run, from data to result: the function behind the command line."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from fgsam.engine.arguments import config_of_call
from fgsam.engine.build import Entries, is_ours
from fgsam.engine.callbacks import Callback, make_callbacks
from fgsam.engine.checkpoint import save_checkpoint, weights_digest
from fgsam.engine.config_model import RunConfig
from fgsam.engine.data import Data
from fgsam.engine.evaluate import floor_scored
from fgsam.engine.identity import code_digests
from fgsam.engine.inputs import build_inputs
from fgsam.engine.interrupts import Interrupted, Interrupts
from fgsam.engine.node_data import NodeData
from fgsam.engine.outcome import Material, NodeRun, Run, load_run, opened
from fgsam.engine.progress import ProgressKind, make_progress
from fgsam.engine.record import RESULTS_VERSION, Keeper, RunDirectory, content_hash, fingerprint, make_folder
from fgsam.engine.setup import Setup, pinned
from fgsam.engine.task import Scored
from fgsam.engine.team import RankError, Team, form_team, ranks_that_count
from fgsam.engine.train import NonFiniteLossError, Trainer
from fgsam.graph.graph import Graph
from fgsam.memory import peak_memory_mb
from fgsam.optim.ranks import FailedRankError, LostRankError

__all__ = ["NodeRun", "Run", "execute", "load_run", "run", "run_name"]

logger = logging.getLogger(__name__)


def run(
    graph: Any = None,
    *,
    task: str | None = None,
    encoder: Any = None,
    method: Any = None,
    optimizer: Any = None,
    config: str | Path | None = None,
    progress: ProgressKind = "auto",
    callbacks: Sequence[Callback | str] = (),
    **options: Any,
) -> Run:
    """Learn few-shot episodes, or to classify nodes, on a graph; choose the best weights, and test them.

    The run lies in a directory named by what it computes. If it is there already it is only read; if it was interrupted
    it goes on.

    Args:
        graph: A ``Graph``, a name, or the path of an npz file; the generated graph when not given.
        task: ``"few_shot"``, or ``"node_classification"`` for nodes of the classes that training has seen; what the
            config says when not given, else few-shot.
        encoder: A name, a mapping with ``name`` and options, a module, or a class or function that makes one from the
            number of features. A module is copied with its weights for every net that the method needs.
        method: A name, a mapping with ``name`` and options, or a class.
        optimizer: A name, a mapping with ``name`` and options, or a class.
        config: YAML file that the other arguments override.
        progress: ``"auto"``, ``"bar"``, ``"notebook"``, ``"lines"`` or ``"none"``.
        callbacks: Callbacks, or their names.
        **options: Keys of the config, ``n_way=5, k_shot=3, split=0, seed=0, lr=0.01``, or whole sections,
            ``evaluate={"num_episodes": 200}``.

    Returns:
        The finished run, a ``NodeRun`` for node classification.

    Raises:
        ValueError: If something is unknown, out of range, or does not fit the graph.
        Interrupted: If Ctrl-C or SIGTERM asked to stop.
        OSError: If the directory cannot be written.

    Example:
        >>> import tempfile
        >>> small = {"num_nodes": 600, "num_classes": 12, "num_features": 100, "words_per_node": 20}
        >>> with tempfile.TemporaryDirectory() as root:
        ...     found = run(
        ...         small, method="protonet", optimizer="sam", n_way=2, split=0, num_episodes=20, root=root,
        ...         evaluate={"num_episodes": 30},
        ...     )
        ...     predicted = found.predict([0, 1, 2, 3], ["a", "a", "b", "b"], [4, 5, 6])
        >>> found.test.num_episodes, predicted.shape
        (30, (3,))
    """
    settings, objects = config_of_call(
        graph, task=task, encoder=encoder, method=method, optimizer=optimizer, config=config, options=options
    )
    return execute(settings, progress=progress, callbacks=callbacks, **objects)


def execute(
    config: RunConfig,
    *,
    graph: Graph | None = None,
    encoder: Any = None,
    method: Any = None,
    optimizer: Any = None,
    progress: ProgressKind = "auto",
    callbacks: Sequence[Callback | str] = (),
) -> Run:
    """Do what a config says, or read the result if that was done before.

    In a job of several ranks all of them call this; the first one writes, and shows progress.

    Args:
        config: Made by ``load_config``.
        graph: A graph in place of the one that the config names.
        encoder: A module, class or function in place of the encoder that the config names.
        method: A class in place of the method that the config names.
        optimizer: A class in place of the optimizer that the config names.
        progress: Where progress is shown.
        callbacks: Callbacks, or their names.

    Raises:
        ValueError: If something does not fit the graph, or a file of the run is damaged.
        Interrupted: If Ctrl-C or SIGTERM asked to stop.
        OSError: If the directory cannot be written.
    """
    objects = {"graph": graph, "encoder": encoder, "method": method, "optimizer": optimizer}
    given = {part: value for part, value in objects.items() if value is not None}
    with pinned(config), Interrupts() as interrupts:
        team = form_team(config)
        listeners = [*make_callbacks(callbacks), *make_progress(progress)] if team.is_first else []
        job = _Job(config, given, team)
        is_work = False
        if not team.of_first(job.is_readable):
            with ExitStack() as held:

                def begin() -> bool:
                    held.enter_context(job.files.locked(lambda: interrupts.requested))
                    is_done = job.is_done()  # another process may have finished it meanwhile
                    if not is_done or not job.files.config.is_file():
                        job.files.write_config(config.resolved())
                    return not is_done

                is_work = team.of_first(begin)
                if is_work:
                    with _own_errors(team):
                        job.work(interrupts, listeners)
        if interrupts.requested:
            raise Interrupted(f"Stopped. This run is finished: the same command again reads {job.files.path}.")
    if not is_work:
        logger.info("Already computed: %s", job.files.path)
    return opened(job.files.path, material=job.material, objects=given)


def run_name(config: RunConfig, data: Data | NodeData, entries: Entries) -> tuple[str, str]:
    """Return the directory name of a run and the hash of all that it computes.

    Args:
        config: The config; places and time limits do not enter.
        data: Its digests enter.
        entries: What is not part of the package enters by its source text, weights and attributes.
    """
    is_trained = getattr(entries.method, "is_trained", True)
    identity = {
        "config": config.content(),
        "digests": data.digests,
        "code": code_digests(config, data.graph, entries),
        "results_version": RESULTS_VERSION,
    }
    is_all_ours = is_ours(entries.encoder) and is_ours(entries.method)  # whose nets have no buffers that move
    num_ranks = ranks_that_count(config, has_buffers=not is_all_ours)
    if num_ranks > 1:
        identity["ranks"] = num_ranks
    whole = content_hash(identity)
    parts = [data.graph.name, config.method.name, *([config.optimizer.name] if is_trained else []), whole[:12]]
    return "-".join(re.sub(r"\W+", "_", part) for part in parts), whole


class _Job:
    """The state of one call of ``execute``."""

    def __init__(self, config: RunConfig, objects: dict[str, Any], team: Team) -> None:
        self.config = config
        self.objects = objects
        self.team = team
        self.started = time.perf_counter()
        root = Path(config.run.root)
        self.entries = Entries.load(config, **{part: value for part, value in objects.items() if part != "graph"})
        self.data: Any = team.together(lambda: self._inputs(root / "banks"))
        self.is_trained = getattr(self.entries.method, "is_trained", True)
        name, self.hash = run_name(config, self.data, self.entries)
        self.files = RunDirectory(root / name)
        self.material: Material | None = None
        if not team.of_first(self.is_done):
            self.learner = self._build()  # before anything is written: a fault in an option leaves no directory

    def _inputs(self, banks: Path) -> Any:
        """Load what the run works on; only the first rank keeps banks."""
        if self.team.is_first:
            make_folder(banks)
        graph = self.objects.get("graph")
        data = build_inputs(self.config, graph, bank_folder=banks if self.team.is_first else None)
        _ = data.digests  # makes the test bank, whose faults are to come out here
        return data

    def is_done(self) -> bool:
        """Whether the result is there; one that was cut short by time is not, if there is more time now."""
        content = self.files.read_result()
        if content is None:
            return False
        if content["results"].get("config_hash") != self.hash:
            raise ValueError(
                f"Expected {self.files.result} to belong to this run (it is of another config or version). "
                "Move its directory away and run again."
            )
        limit = self.config.train.max_seconds
        was_cut = content["results"]["stopped_by"] == "max_seconds"
        return not was_cut or (limit is not None and content["timing"]["train_seconds"] >= limit)

    def is_readable(self) -> bool:
        """Whether nothing has to be written, so that a folder that cannot be written to is no hindrance."""
        return self.is_done() and self.files.config.is_file()

    def work(self, interrupts: Interrupts, callbacks: Sequence[Callback]) -> None:
        """Train or fit, test, and write the result."""
        if self.is_trained:
            self._train(interrupts, callbacks)
        else:
            self._fit(interrupts)

    def _build(self) -> Any:
        if not self.is_trained:
            return self.entries.method(**self.config.method.options)
        self.setup = Setup.of(self.config, self.data, self.entries, num_ranks=self.team.size)
        return self.setup.learner

    def _train(self, interrupts: Interrupts, callbacks: Sequence[Callback]) -> None:
        team = self.team
        keeper = Keeper(self.files, self.hash, team)
        trainer = self.setup.trainer(team=team, callbacks=[keeper, *callbacks], directory=self.files.path)
        keeper.restore(trainer)
        stopped_by = trainer.fit(lambda: interrupts.requested)
        keeper.save(trainer)
        self._check_interrupt(interrupts, trainer)
        team.of_first(lambda: self._test(trainer, stopped_by, keeper, interrupts))

    def _test(self, trainer: Trainer, stopped_by: str, keeper: Keeper, interrupts: Interrupts) -> None:
        method, per_step, unit = self.learner, trainer.batches_per_step, trainer.task.unit
        num_steps, train_seconds = trainer.step, trainer.seconds
        with _stopped_at_once(interrupts, self.files.path):  # training is saved
            best_step, val = trainer.choose()
            test = self.data.test(method)
        weights = method.state_dict()
        save_checkpoint(self.files.weights, {"config_hash": self.hash, "step": best_step, "weights": weights})
        found = {
            f"num_{unit}s": num_steps * per_step,
            "best_step": best_step,
            "stopped_by": stopped_by,
            "weights_digest": weights_digest(weights),
            "skipped_steps": trainer.optimizer.num_skipped,
            "encoder_checks": self.setup.encoder_checks,
        }
        timing = {f"ms_per_{unit}": trainer.ms_per_step / per_step, "train_seconds": train_seconds}
        self._finish(found, val, test, timing, keeper.fingerprints)

    def _fit(self, interrupts: Interrupts) -> None:
        data = self.data
        floor = self.learner
        with _stopped_at_once(interrupts, self.files.path):  # nothing to save: a floor begins again from the start
            start = time.perf_counter()
            chosen = floor.fit(data.val_graph, data.val_bank)
            val = floor_scored(floor, data.val_bank)
            floor.use(data.graph)
            start_test = time.perf_counter()
            test = floor_scored(floor, data.test_bank)
        ms_per_episode = 1e3 * (time.perf_counter() - start_test) / len(data.test_bank)
        found = {"num_episodes": 0, "best_step": 0, "stopped_by": "fit", "weights_digest": None, "chosen": chosen}
        timing = {"ms_per_episode": ms_per_episode, "train_seconds": start_test - start}
        self._finish(found, val, test, timing, [fingerprint()])

    def _finish(
        self,
        found: dict[str, Any],
        val: Scored,
        test: Scored,
        timing: dict[str, Any],
        fingerprints: list[dict[str, Any]],
    ) -> None:
        data = self.data
        results = {
            **data.figures(val, test),
            **found,
            "is_trained": self.is_trained,
            "digests": data.digests,
            "config_hash": self.hash,
            "results_version": RESULTS_VERSION,
            "objects": sorted(self.objects),
        }
        timing = {**timing, "seconds": time.perf_counter() - self.started, "peak_memory_mb": _peak_memory_mb(data)}
        versions = {**fingerprints[-1], "earlier": fingerprints[:-1]}
        self.files.write_result(results, timing, versions)
        self.material = Material(data, self.learner)

    def _check_interrupt(self, interrupts: Interrupts, trainer: Trainer) -> None:
        if any(self.team.any(interrupts.requested)):
            raise Interrupted(
                f"Stopped after {trainer.unit} {trainer.step} of {trainer.num_steps}; saved in {self.files.path}. "
                "Run the same command again to go on from there."
            )


@contextmanager
def _stopped_at_once(interrupts: Interrupts, path: Path) -> Iterator[None]:
    """Let a signal, also one that has come before, end a part that has no steps to stop at."""
    interrupts.is_immediate = True
    try:
        if interrupts.requested:
            raise KeyboardInterrupt
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(f"Stopped. Run the same command again to compute {path.name}.") from error
    finally:
        interrupts.is_immediate = False


@contextmanager
def _own_errors(team: Team) -> Iterator[None]:
    """Mark what goes wrong on another rank than the first alone, so that it is told there."""
    try:
        yield
    except (Interrupted, NonFiniteLossError, FailedRankError, LostRankError):
        raise  # the first rank tells these, or is lost
    except Exception as error:
        if team.is_first:
            raise
        raise RankError(str(error)) from error


def _peak_memory_mb(data: Data | NodeData) -> float:
    """Largest memory of this process so far; on a GPU, of its tensors there."""
    if data.graph.device.type == "cuda":
        return torch.cuda.max_memory_allocated(data.graph.device) / 2**20
    return peak_memory_mb()
