"""Verbs before a comparison: plan its size, time its steps, search its settings."""

from __future__ import annotations

from typing import Annotated

import typer

from fgsam.cli_compare import Executors, Folder, GridFile, Workers, folder_of, study_of
from fgsam.cli_report import reported, say, shown_log


def plan(
    grid: GridFile,
    folder: Folder = None,
    delta: Annotated[float, typer.Option(help="Points that are worth finding.")] = 0.5,
    splits: Annotated[int, typer.Option(help="Class splits of the pilot.")] = 3,
    executor: Executors = "processes",
    workers: Workers = None,
) -> None:
    """Run a pilot of a few class splits, and say how many a grid needs, and how long they take."""
    from fgsam.comparison.executors.make import make_executor
    from fgsam.comparison.planning import pilot, plan_comparison
    from fgsam.comparison.results import Results
    from fgsam.report.compare import run_grid, threads_of

    study = study_of(grid, folder)
    made = make_executor(executor, threads=threads_of(study.grid), workers=workers)
    with shown_log():
        run_grid(pilot(study.grid, splits), study.folder, executor=made)
    print(plan_comparison(Results.read(study), delta, workers=getattr(made, "workers", 1)))
    print(f"The pilot lies in {study.folder} and counts as done.")


def time(
    grid: GridFile,
    folder: Folder = None,
    blocks: Annotated[int, typer.Option(help="Blocks of 20 steps that are timed.")] = 10,
) -> None:
    """Time the training steps of all arms in turns, in one process; nothing else measures speed."""
    from fgsam.comparison.results import Results
    from fgsam.comparison.times import measure_times, write_times
    from fgsam.report.time_tables import TIME_TABLES

    study = study_of(grid, folder)
    with shown_log():
        times = measure_times(study.grid, num_blocks=blocks, on_part=lambda part: say(f"Timing {part.label}"))
    write_times(study.folder, times)
    results = Results.read(study)
    for table in (make(results, times) for make in TIME_TABLES.values()):
        if table.rows:
            print(table.markdown())


def tune(
    grid: GridFile,
    folder: Folder = None,
    trials: Annotated[int, typer.Option(help="Settings that each arm tries on each class split.")] = 20,
    outside: Annotated[
        str | None, typer.Option(metavar="GRID", help="Grid of other graphs to search on, one setting for each arm.")
    ] = None,
    storage: Annotated[str | None, typer.Option(help="Address of a database [default: SQLite in the folder].")] = None,
    executor: Executors = "processes",
    workers: Workers = None,
) -> None:
    """Search the ranges of a grid on validation alone, and write the grid with what each class split chose."""
    from fgsam.comparison.executors.make import make_executor
    from fgsam.comparison.grid_source import load_grid
    from fgsam.comparison.tune import tune as search

    place = folder_of(grid, folder)
    with shown_log():
        search(
            load_grid(grid),
            trials,
            place,
            outside=None if outside is None else load_grid(outside),
            storage=storage,
            executor=make_executor(executor, workers=workers),
            on_search=lambda unit, found: say(f"{', '.join(map(str, unit))}: {len(found)} trials"),
        )
    print(f"Go on with: fgsam compare {place / 'tuned.yaml'} --folder {place}")


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    for name, verb in (("plan", reported(plan)), ("time", reported(time)), ("tune", reported(tune))):
        app.command(name)(verb)
