"""Verbs about many runs: compare them, report what they show, and share them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fgsam.cli_report import output_for_json, reported, say, shown_log

if TYPE_CHECKING:
    from fgsam.comparison.study import Study

GridFile = Annotated[
    str,
    typer.Argument(metavar="GRID", help="A YAML file, or the name of one of the package: compare/smoke."),
]
RunsFolder = Annotated[str, typer.Argument(metavar="RUNS", help="Folder of a comparison.", show_default=False)]
Folder = Annotated[str | None, typer.Option(help="Folder of the runs [default: runs/<name of the grid>].")]

Executors = Annotated[str, typer.Option(help="inline, processes or dask.")]
Workers = Annotated[int | None, typer.Option(help="Processes [default: as many as there are cores].")]


def compare(
    grid: GridFile,
    folder: Folder = None,
    executor: Executors = "processes",
    workers: Workers = None,
    address: Annotated[str | None, typer.Option(help="Address of a Dask scheduler.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Start failed runs again.")] = False,
    resume_from: Annotated[
        str | None, typer.Option(metavar="FILE", help="Runs packed elsewhere by 'fgsam pack runs', counted as done.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be run; write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run the grid of a file, as far as it is not done, and show the table."""
    from fgsam.comparison.executors.make import make_executor
    from fgsam.report.compare import run_grid, threads_of

    study = study_of(grid, folder)
    if dry_run:
        _show_plan(study, as_json)
        return
    with shown_log(), output_for_json(as_json):
        if resume_from is not None:
            _unpack(resume_from, study.folder)
        say(f"{len(study.tasks)} runs in {study.folder}")
        made = make_executor(executor, threads=threads_of(study.grid), workers=workers, address=address)
        found = run_grid(study.grid, study.folder, executor=made, retry_failed=retry_failed)
    _show(found, study.folder, as_json)


def report(
    folder: RunsFolder,
    out: Annotated[str, typer.Option("--out", "-o", help="Folder for tables, figures and index.html.")],
) -> None:
    """Write the tables, the figures and the page of a comparison."""
    from fgsam.report.comparison import load_comparison

    with shown_log():
        load_comparison(folder).report(out)
    print(f"Open {Path(out) / 'index.html'}")


def pack_export(
    folder: RunsFolder,
    out: Annotated[str, typer.Option("--out", "-o", help="The file.")],
) -> None:
    """Pack class splits, episodes and every arm's answers, for others to be compared with."""
    from fgsam.comparison.pack import export_pack
    from fgsam.comparison.study import Study

    with shown_log():
        pack = export_pack(Study.open(folder), out)
    print(f"Packed {len(pack.splits)} class splits into {out} ({Path(out).stat().st_size:,} bytes)")


def pack_score(
    pack: Annotated[str, typer.Argument(metavar="FILE", help="A pack.", show_default=False)],
    predictions: Annotated[str, typer.Argument(metavar="PREDICTIONS", help="An npz file.", show_default=False)],
) -> None:
    """Compare predictions, made by any program, with every arm of a pack."""
    from fgsam.comparison.pack_score import score_pack

    with shown_log():
        print(score_pack(pack, predictions))


def pack_runs(
    folder: RunsFolder,
    out: Annotated[str, typer.Option("--out", "-o", help="The file.")],
    weights: Annotated[bool, typer.Option(help="Take the tested weights along.")] = True,
    losses: Annotated[bool, typer.Option(help="Take the loss of every step along.")] = True,
) -> None:
    """Pack the finished runs of a comparison, for 'fgsam compare --resume-from' elsewhere."""
    from fgsam.comparison.move import pack_study

    number = pack_study(folder, out, weights=weights, losses=losses)
    print(f"Packed {number} runs into {out} ({Path(out).stat().st_size:,} bytes)")


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command()(reported(compare))
    app.command()(reported(report))
    packs = typer.Typer(help="Share a comparison as one file.", rich_markup_mode=None, no_args_is_help=True)
    packs.command("export")(reported(pack_export))
    packs.command("score")(reported(pack_score))
    packs.command("runs")(reported(pack_runs))
    app.add_typer(packs, name="pack")


def _unpack(file: str, folder: Path) -> None:
    from fgsam.comparison.move import unpack_study

    found = unpack_study(file, folder)
    say(f"Took {len(found.added)} runs from {file}; {len(found.kept)} were here already.")


def study_of(grid: str, folder: str | None) -> Study:
    """The study of a grid file in a folder, by default one that is called like the file."""
    from fgsam.comparison.grid_source import load_grid
    from fgsam.comparison.study import Study

    return Study(folder_of(grid, folder), load_grid(grid))


def folder_of(grid: str, folder: str | None) -> Path:
    """The folder of a grid file, by default one that is called like it."""
    return Path(folder) if folder is not None else Path("runs") / Path(grid).stem


def _show_plan(study: Study, as_json: bool) -> None:
    from fgsam.cli_tables import print_table

    states = [study.state(cell) for cell in study.tasks]
    figures = {
        "runs": len(states),
        "done": sum(state is not None and state.is_finished for state in states),
        "failed": sum(state is not None and not state.is_finished for state in states),
        "parts": len(study.grid.parts),
        "arms": len(study.grid.arms),
        "class splits": len(study.grid.splits),
        "seeds": len(study.grid.seeds),
        "hypotheses": len(study.grid.protocol.hypotheses),
    }
    if as_json:
        print(json.dumps({**figures, "folder": str(study.folder)}))
        return
    print_table(["dry run", "nothing was written"], [("folder", study.folder), *figures.items()])


def _show(found: Any, folder: Path, as_json: bool) -> None:
    failed = found.results.failed
    if as_json:
        print(json.dumps({"folder": str(folder), **found.to_dict()}))
    else:
        print(found)
        print(f"Saved in {folder}. Tables, figures and a page: fgsam report {folder} -o report")
    for cell, error in list(failed.items())[:3]:
        say(f"Failed: {cell.arm} on {cell.part}, class split {cell.split}: {error}")
    if failed:
        say(f"{len(failed)} runs failed; fgsam compare ... --retry-failed starts them again.")
        raise typer.Exit(1)
