"""One call that runs a grid and returns what it found: the function behind ``fgsam compare``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fgsam.comparison.board import Board, BoardKind
from fgsam.comparison.executors.base import Executor
from fgsam.comparison.executors.make import make_executor
from fgsam.comparison.grid import Grid
from fgsam.comparison.grid_source import grid_of_call
from fgsam.comparison.results import Results
from fgsam.comparison.study import Study
from fgsam.comparison.times import read_times
from fgsam.engine.record import content_hash
from fgsam.report.comparison import Comparison


def compare(
    graph: Any = None,
    *,
    task: str | None = None,
    encoder: Any = None,
    method: Any = None,
    optimizer: Any = None,
    config: str | Path | None = None,
    splits: int | Sequence[int | str] = 5,
    seeds: int | Sequence[int] = 1,
    vary: Mapping[str, Sequence[Any]] | None = None,
    candidates: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]] | None = None,
    arms: Sequence[Mapping[str, Any]] | None = None,
    floors: bool = True,
    reference: str | None = None,
    hypotheses: Sequence[str] | None = None,
    test: str = "t",
    margin: float = 0.5,
    alpha: float = 0.05,
    pooled: bool = False,
    title: str | None = None,
    folder: str | Path | None = None,
    executor: str | Executor = "inline",
    retry_failed: bool = False,
    progress: BoardKind = "auto",
    **options: Any,
) -> Comparison:
    """Compare learners and optimizers on the same graphs, class splits and episodes.

    Where ``graph``, ``encoder``, ``method`` or ``optimizer`` is a list, every combination is run. Runs that are done
    are never computed again, so a comparison that was cut short goes on where it ended, and one that is made larger
    only computes what is new.

    Args:
        graph: A ``Graph``, a name, the path of an npz file, or a mapping of options; or a list of these.
        task: ``"few_shot"`` or ``"node_classification"``.
        encoder: As in :func:`fgsam.run`, or a list.
        method: As in :func:`fgsam.run`, or a list.
        optimizer: As in :func:`fgsam.run`, or a list.
        config: YAML file of a run to begin from.
        splits: How many class splits, or which. They are the units of every claim: 20 for one to rely on.
        seeds: How many seeds, or which; their mean counts within a split.
        vary: Dotted keys with lists, ``{"episode.k_shot": [1, 3]}``: each combination is a part of the table.
        candidates: Settings that every trained arm chooses from, split by split, on its validation bank.
        arms: Lines of entries, ``[{"method": "gpn", "optimizer": ["adam", "sam"]}]``, in place of the three arguments.
        floors: Whether methods without training are added where no arm is one.
        reference: Label of the arm that differences are shown to, ``"gpn/adam"``; the first one when not given.
        hypotheses: ``"gpn/fgsam above gpn/sam"`` or ``"... not below ..."``; every trained arm above the reference when
            not given.
        test: ``"t"``, ``"sign_flip"`` or ``"wilcoxon"``, over class splits.
        margin: Points within which two arms count as equal.
        alpha: Level of the family of hypotheses.
        pooled: Whether hypotheses are about the mean over all parts instead of each part.
        title: Heading.
        folder: Where the runs lie; ``runs/<title>-<hash of the grid>`` when not given.
        executor: ``"inline"``, ``"processes"``, ``"dask"``, or one that was made, ``Processes(workers=4)``. Processes
            need a script that starts its work under ``if __name__ == "__main__":``.
        retry_failed: Whether failed runs are started again.
        progress: ``"table"``, ``"lines"``, ``"none"``, or ``"auto"`` to find out.
        **options: Keys or sections of a run's config, shared by all runs: ``n_way=5, lr=0.01``.

    Returns:
        What the finished runs show. A failed run stops no other, and is told.

    Raises:
        ConfigError: If something is wrong with the grid; the text lists all faults.
        Interrupted: If Ctrl-C or SIGTERM asked to stop.

    Example:
        >>> import tempfile
        >>> small = {"num_nodes": 600, "num_classes": 12, "num_features": 100, "words_per_node": 20}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     found = compare(
        ...         small, method="protonet", optimizer=["adam", "sam"], splits=2, folder=folder, progress="none",
        ...         n_way=2, num_episodes=10, val_episodes=10, evaluate={"num_episodes": 20},
        ...     )
        >>> [arm.label for arm in found.results.grid.arms]
        ['protonet/adam', 'protonet/sam', 'raw_lr', 'sgc_lr', 'sgc_prototype']
    """
    lines = arms if arms is not None else [{"method": method, "optimizer": optimizer, "encoder": encoder}]
    grid = grid_of_call(
        title=title,
        task=task,
        config=None if config is None else str(config),
        common=options,
        graphs=None if graph is None else list(graph) if isinstance(graph, list | tuple) else [graph],
        vary=vary,
        arms=[{key: value for key, value in line.items() if value is not None} for line in lines],
        splits=splits if isinstance(splits, int) else list(splits),
        seeds=seeds if isinstance(seeds, int) else list(seeds),
        candidates=candidates,
        floors=floors,
        reference=reference,
        hypotheses=None if hypotheses is None else list(hypotheses),
        test=test,
        margin=margin,
        alpha=alpha,
        pooled=pooled,
    )
    place = Path(folder) if folder is not None else default_folder(grid)
    return run_grid(grid, place, executor=executor, retry_failed=retry_failed, progress=progress)


def run_grid(
    grid: Grid,
    folder: str | Path,
    *,
    executor: str | Executor = "inline",
    retry_failed: bool = False,
    progress: BoardKind = "auto",
) -> Comparison:
    """Run what is missing of a grid; see :func:`compare`.

    Args:
        grid: What to run.
        folder: Where the runs lie.
        executor: A name, or an executor.
        retry_failed: Whether failed runs are started again.
        progress: Where progress is shown.

    Raises:
        ValueError: If the executor is unknown.
        Interrupted: If Ctrl-C or SIGTERM asked to stop.
    """
    study = Study(folder, grid)
    board = Board(study.tasks, progress)
    made = make_executor(executor, threads=threads_of(grid)) if isinstance(executor, str) else executor
    with board.shown():
        for cell, state in study.run(made, retry_failed=retry_failed, on_start=board.start):
            board.end(cell, state)
    return Comparison(Results.read(study), read_times(study.folder))


def threads_of(grid: Grid) -> int:
    """Return the threads of each run, the most of any."""
    return max(job.config.run.threads for job in grid.jobs.values())


def default_folder(grid: Grid) -> Path:
    """Return the folder of a grid for which none was named."""
    words = re.sub(r"\W+", "-", grid.title.lower()).strip("-")
    return Path("runs") / f"{words or 'comparison'}-{content_hash(grid.text)[:8]}"
