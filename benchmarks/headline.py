"""The first study: what FGSAM does for a GPN, what its kin do, and what each departure of the released code does.

``primary`` has four settings an arm, twenty class splits, and three hypotheses that were named before any run:
``configs/compare/headline.yaml``. The others are exploratory: ``headline_exploratory.yaml`` beside it, and the
departures of ``benchmarks.released`` with its settings. Each is a comparison in a folder of its own, which ``fgsam
report`` and ``fgsam time`` take too. Runs are never computed twice, so the study can be stopped and continued at any
time; packs of finished runs count as done. Other learners with two optimizers are in the study of ``learners``.

    python -m benchmarks headline --runs runs/headline --workers 2 --out docs/results
    python -m benchmarks headline --runs runs/headline --workers 2 --only primary --packs docs/results/headline
    python -m benchmarks headline --runs runs/headline --finished --packs docs/results/headline --out docs/results
    python -m benchmarks headline --quick
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.harness import command_line
from benchmarks.study import QUICK_GRAPH, publish, written_grid
from fgsam.comparison.executors.make import make_executor
from fgsam.comparison.grid import Grid
from fgsam.comparison.grid_source import grid_of_call
from fgsam.comparison.move import pack_study, unpack_study
from fgsam.comparison.results import Results
from fgsam.comparison.study import Study
from fgsam.comparison.times import read_times
from fgsam.engine.record import make_folder
from fgsam.files import write_atomically
from fgsam.report.compare import run_grid
from fgsam.report.comparison import Comparison
from fgsam.report.drawing import svg

RELEASED = "benchmarks.released"
"""Where the rules with one departure each are."""

PLUS: dict[str, dict[str, Any]] = {
    "per tensor": {"name": f"{RELEASED}:PerTensor"},
    "mixed flatness": {"name": f"{RELEASED}:MixedFlatness"},
    "no topology": {"name": f"{RELEASED}:NoTopology"},
    "scorer held": {"name": f"{RELEASED}:ScorerHeld"},
    "form code": {"name": "fgsam_plus", "form": "code"},
    "rho 0.05": {"name": "fgsam_plus", "rho": 0.05},
}
FGSAM: dict[str, dict[str, Any]] = {
    "hybrid gradient": {"name": f"{RELEASED}:HybridGradient"},
    "form code": {"name": "fgsam", "form": "code"},
    "rho 0.1": {"name": "fgsam", "rho": 0.1},
}
"""What is changed, at the published radius of each rule: 0.1 and 0.05."""

RELEASED_GPN = {"name": "gpn", "variant": "fgsam"}

KINDS = ("findings", "scores", "differences", "times", "budgets", "settings", "unfinished")
"""Tables of the page, in their order."""

FIGURES = {"differences": "Differences by class split", "stages": "Milliseconds of a training step by stage"}
"""Figures of a comparison that claims something, beside the page."""

GRIDS: dict[str, Callable[[], Mapping[str, Any]]] = {
    "primary": lambda: written_grid("compare/headline"),
    "exploratory": lambda: written_grid("compare/headline_exploratory"),
    "released_fgsam_plus": lambda: _departures("fgsam_plus", 0.1, PLUS),
    "released_fgsam": lambda: _departures("fgsam", 0.05, FGSAM),
}

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
        found = {name: _found(name, (arguments.runs or Path(scratch)) / name, arguments) for name in arguments.only}
    figures = {name: [*_figures(name, one, arguments.out)] for name, one in found.items()}
    publish(page_of(found, figures, command_line()), arguments.out, "headline.md")


def grid_named(name: str, *, is_quick: bool) -> Grid:
    """Make one of the grids."""
    return grid_of_call(**{**GRIDS[name](), **(QUICK if is_quick else {})})


def _departures(rule: str, rho: float, changes: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """A grid of one rule and what is changed of it, one thing at a time, each in a single setting."""
    own = {"method": "gpn", "optimizer": {"name": rule, "rho": rho}}
    return {
        **written_grid("compare/headline_exploratory"),
        "title": f"Departures of the released {rule}, one at a time (exploratory)",
        "arms": [
            {"label": rule, **own},
            *(
                {"label": f"{rule}, {what}", "method": "gpn", "optimizer": {"rho": rho, **optimizer}}
                for what, optimizer in changes.items()
            ),
            {"label": f"{rule}, released gpn", **own, "method": RELEASED_GPN},
        ],
        "floors": False,
        "reference": rule,
    }


def _found(name: str, folder: Path, arguments: argparse.Namespace) -> Comparison:
    grid = grid_named(name, is_quick=arguments.quick)
    pack = None if arguments.packs is None else arguments.packs / f"{name}.npz"
    if pack is not None and pack.is_file():
        unpack_study(pack, folder)
    if arguments.finished:
        found = Comparison(Results.read(Study(folder, grid)), read_times(folder))
    else:
        executor = make_executor("processes", workers=arguments.workers) if arguments.workers > 1 else "inline"
        found = run_grid(grid, folder, executor=executor, progress="none" if arguments.quick else "auto")
    if pack is not None and not arguments.finished:
        make_folder(pack.parent)
        pack_study(folder, pack, weights=False, losses=False)
    return found


def _figures(name: str, comparison: Comparison, out: Path | None) -> Iterator[str]:
    """Draw what there are results for, and show it."""
    if out is None or not comparison.results.grid.protocol.hypotheses:
        return
    make_folder(out / "headline")
    for kind, caption in FIGURES.items():
        if kind in comparison.figures:
            write_atomically(out / "headline" / f"{name}_{kind}.svg", svg(comparison.figures[kind]).encode())
            yield f"![{caption}](headline/{name}_{kind}.svg)"


def page_of(found: Mapping[str, Comparison], figures: Mapping[str, Sequence[str]], command: str) -> str:
    """Write the page: claims first, then what is only exploratory."""
    parts = [
        f"""# The first study

```
{command}
```

All arms of a comparison share class splits, initial weights and episodes. Claims are in the first one alone, and are
about these graphs; differences elsewhere are exploratory, with intervals that are not corrected for their number. Every
arm chooses its setting split by split on its own validation bank, where a comparison has several.

Cut to about four hours on two cores: short training, one seed, and in all but the first comparison ten class splits,
fewer test episodes, and two settings an arm or one. MAML and the package's own learner with two optimizers are not
here but in the studies of [learners](learners.md) and of [the own learner](own_learner.md), with one setting each.
What it all says: [Does it help?](../optimizers.md#does-it-help)"""
    ]
    for name, comparison in found.items():
        parts += [f"## {comparison.results.grid.title}", _length(comparison), *figures[name], *_tables(comparison)]
    return "\n\n".join(parts) + "\n"


def _length(comparison: Comparison) -> str:
    results = comparison.results
    config = next(iter(results.grid.jobs.values())).config
    train = config.train
    runs = {record.directory: record.timing for record in results.records.values()}
    hours = sum(run["seconds"] for run in runs.values()) / 3600
    return (
        f"At most {train.max_steps} training episodes, validated every {train.val_every}, stopped after "
        f"{train.patience} validations without improvement; banks of {train.val_episodes} validation and "
        f"{config.evaluate.num_episodes} test episodes. {len(runs)} runs, {hours:.1f} hours of one core."
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
    parser.add_argument("--packs", type=Path, help="folder of packed runs, read before and written after")
    parser.add_argument("--out", type=Path, help="folder for headline.md and its figures")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a tiny generated graph, two splits")
    return parser.parse_args()


if __name__ == "__main__":
    main()
