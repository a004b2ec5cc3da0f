"""The first study: what FGSAM does for a GPN, what its kin do, and what each departure of the released code does.

Three comparisons in one folder. The first has four settings an arm, twenty class splits, and three hypotheses that were
named before any run: ``configs/compare/headline.yaml``. The others are exploratory: ``headline_exploratory.yaml``, and
the departures of ``benchmarks.released``. Runs are never computed twice; it can be stopped and continued at any time,
and a pack of finished runs counts as done. The forecast stands in the live table.

    python -m benchmarks headline --runs runs/headline --workers 2 --out docs/results
    python -m benchmarks headline --runs runs/headline --only primary --workers 2
    python -m benchmarks headline --runs runs/headline --finished --pack docs/results/headline.npz --out docs/results
    python -m benchmarks headline --quick
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.harness import command_line
from benchmarks.study import QUICK_GRAPH, publish
from fgsam.comparison.executors.make import make_executor
from fgsam.comparison.grid import Grid
from fgsam.comparison.grid_source import grid_of_call
from fgsam.comparison.move import pack_study, unpack_study
from fgsam.comparison.results import Results
from fgsam.comparison.study import Study
from fgsam.comparison.times import read_times
from fgsam.engine.config import find_config
from fgsam.engine.document import Document
from fgsam.report.compare import run_grid
from fgsam.report.comparison import Comparison

RELEASED = "benchmarks.released"
"""Where the rules with one departure each are."""

RELEASED_GRID: dict[str, Any] = {
    "title": "Departures of the released code, one at a time (exploratory)",
    "common": {
        "episode": {"n_way": 5, "k_shot": 3, "num_query": 10},
        "encoder": {"name": "gcn", "hidden": 32, "dim": 16, "dropout": 0.5},
        "train": {"num_episodes": 300, "val_every": 50, "patience": 3, "val_episodes": 100},
        "evaluate": {"num_episodes": 200},
    },
    "graphs": ["coauthor_cs", "corafull_derived", "clothing20", "nell"],
    "arms": [
        {"label": label, "method": method, "optimizer": {"rho": 0.1, **optimizer}}
        for label, method, optimizer in (
            ("fgsam_plus", "gpn", {"name": "fgsam_plus"}),
            ("fgsam_plus, per tensor", "gpn", {"name": f"{RELEASED}:PerTensor"}),
            ("fgsam_plus, mixed flatness", "gpn", {"name": f"{RELEASED}:MixedFlatness"}),
            ("fgsam_plus, no topology", "gpn", {"name": f"{RELEASED}:NoTopology"}),
            ("fgsam_plus, scorer held", "gpn", {"name": f"{RELEASED}:ScorerHeld"}),
            ("fgsam_plus, code", "gpn", {"name": "fgsam_plus", "form": "code"}),
            ("fgsam_plus, released gpn", {"name": "gpn", "variant": "fgsam"}, {"name": "fgsam_plus"}),
            ("fgsam", "gpn", {"name": "fgsam"}),
            ("fgsam, rho 0.05", "gpn", {"name": "fgsam", "rho": 0.05}),
            ("fgsam, hybrid gradient", "gpn", {"name": f"{RELEASED}:HybridGradient"}),
            ("fgsam, code", "gpn", {"name": "fgsam", "form": "code"}),
        )
    ],
    "splits": 10,
    "floors": False,
    "reference": "fgsam_plus",
    "hypotheses": [
        *(f"fgsam_plus, {name} above fgsam_plus" for name in ("per tensor", "mixed flatness", "no topology")),
        *(f"fgsam_plus, {name} above fgsam_plus" for name in ("scorer held", "code", "released gpn")),
        *(f"fgsam, {name} above fgsam" for name in ("rho 0.05", "hybrid gradient", "code")),
    ],
    "pooled": True,
}

GRIDS: dict[str, Callable[[], Mapping[str, Any]]] = {
    "primary": lambda: _of_file("compare/headline"),
    "exploratory": lambda: _of_file("compare/headline_exploratory"),
    "released": lambda: RELEASED_GRID,
}

KINDS = ("findings", "scores", "differences", "times", "budgets", "settings", "unfinished")
"""Tables of the page, in their order."""

QUICK = {
    "graphs": [QUICK_GRAPH],
    "splits": 2,
    "common": {
        "episode": {"n_way": 2, "k_shot": 3, "num_query": 4},
        "encoder": {"name": "gcn", "hidden": 8, "dim": 4},
        "train": {"num_episodes": 4, "val_every": 2, "val_episodes": 4},
        "evaluate": {"num_episodes": 6},
    },
}
"""What takes the place of the same keys in the quick form."""


def main() -> None:
    """Run what is missing, then write the page."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.runs or Path(scratch)
        if arguments.pack is not None and arguments.pack.is_file():
            unpack_study(arguments.pack, folder)
        found = {name: _found(grid_named(name, is_quick=arguments.quick), folder, arguments) for name in arguments.only}
        if arguments.pack is not None:
            pack_study(folder, arguments.pack, weights=False)
    publish(page_of(found, command_line()), arguments.out, "headline.md")


def grid_named(name: str, *, is_quick: bool) -> Grid:
    """Make one of the three grids."""
    return grid_of_call(**{**GRIDS[name](), **(QUICK if is_quick else {})})


def _of_file(name: str) -> Mapping[str, Any]:
    content: Mapping[str, Any] = Document.read(find_config(name)).content
    return content


def _found(grid: Grid, folder: Path, arguments: argparse.Namespace) -> Comparison:
    if arguments.finished:
        return Comparison(Results.read(Study(folder, grid)), read_times(folder))
    executor = make_executor("processes", workers=arguments.workers) if arguments.workers > 1 else "inline"
    return run_grid(grid, folder, executor=executor, progress="none" if arguments.quick else "auto")


def page_of(found: Mapping[str, Comparison], command: str) -> str:
    """Write the page: claims first, then what is only exploratory."""
    parts = [
        f"""# The first study

```
{command}
```

GPN with Adam, SAM, FGSAM and FGSAM+ on four graphs; every arm chooses its settings split by split on its own validation
bank, and all share class splits, initial weights and episodes. Nothing here is about other graphs."""
    ]
    for comparison in found.values():
        parts += [f"## {comparison.results.grid.title}", _length(comparison), *_tables(comparison)]
    return "\n\n".join(parts) + "\n"


def _length(comparison: Comparison) -> str:
    results = comparison.results
    train = next(iter(results.grid.jobs.values())).config.train
    runs = {record.directory: record.timing for record in results.records.values()}
    hours = sum(run["seconds"] for run in runs.values()) / 3600
    return (
        f"At most {train.max_steps} training episodes, validated every {train.val_every}, stopped after "
        f"{train.patience} validations without improvement. {len(runs)} runs, {hours:.1f} hours of one core."
    )


def _tables(comparison: Comparison) -> Iterator[str]:
    """Write the tables that have rows, each sentence under the first that it belongs to."""
    said: set[str] = set()
    for kind in KINDS:
        table = comparison.tables[kind]
        if table.rows:
            yield replace(table, notes=tuple(note for note in table.notes if note not in said)).markdown().strip()
            said.update(table.notes)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="folder of the runs; finished ones are only read")
    parser.add_argument("--only", nargs="+", default=list(GRIDS), choices=list(GRIDS))
    parser.add_argument("--finished", action="store_true", help="compute nothing, report what is there")
    parser.add_argument("--pack", type=Path, help="file of finished runs, read before and written after")
    parser.add_argument("--out", type=Path, help="folder for headline.md")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a tiny generated graph, two splits")
    return parser.parse_args()


if __name__ == "__main__":
    main()
