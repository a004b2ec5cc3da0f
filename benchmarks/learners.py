"""Every learner with two optimizers beside the floors and the ceiling.

Learners keep their defaults; floors choose their settings on the validation bank, and so do the weights of the others.
Runs are kept in a folder and never computed twice, so the study can be stopped and continued at any time; it goes class
split by class split. Splits from 5 on are sealed: nothing was developed on them, they need ``--final``, and every
reading is noted in a log.

    python -m benchmarks learners --runs runs/learners --workers 2 --out docs/results
    python -m benchmarks learners --runs runs/learners --workers 2 --out docs/results --splits 10 --final
    python -m benchmarks learners --quick
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import command_line
from benchmarks.sealed import add_split_options, parse_and_note
from benchmarks.spread import spread
from benchmarks.study import QUICK_GRAPH, publish, run_study, study_parser
from fgsam.registry import METHODS

GRAPHS = ("coauthor_cs", "corafull_derived", "clothing20")
OPTIMIZERS = ("adam", "fgsam_plus")
CEILING = "ceiling"
ENCODER = {"name": "gcn", "hidden": 32, "dim": 16, "dropout": 0.5}
SMOOTHINGS = {"smoothing": ["hops", "pagerank", "scales"], "hops": [1, 2, 4, 8], "num_trials": 32}
"""Settings that a floor on smoothed features chooses from; more than a learner has, which favours the floors."""
FLOORS = {"sgc_lr": SMOOTHINGS, "sgc_prototype": SMOOTHINGS}
LIMITS = {"num_episodes": 300, "val_every": 50, "patience": 3, "val_episodes": 100}
NUM_TEST = 200
"""Test episodes; those of a learner that adapts take up to a tenth of a second each."""
Row = dict[str, Any]
Scores = dict[int, float]


@dataclass(frozen=True)
class Cell:
    """One run of the study; a floor has the optimizer ``"-"``."""

    graph: str
    split: int
    method: str
    optimizer: str


def main() -> None:
    """Run what is missing, then write the page."""
    arguments = _arguments()
    options = {cell: options_of(cell, is_quick=arguments.quick) for cell in cells_of(arguments)}
    rows = list(run_study(arguments, options, run_one).values())
    publish(page_of(rows, command_line()), arguments.out, "learners.md")


def cells_of(arguments: argparse.Namespace) -> Iterator[Cell]:
    """List the runs, one class split after the other."""
    for split in range(arguments.first_split, arguments.splits):
        for graph in ("quick",) if arguments.quick else arguments.graphs:
            for method in arguments.methods:
                for optimizer in OPTIMIZERS if METHODS.load(method).is_trained else ("-",):
                    yield Cell(graph, split, method, optimizer)


def options_of(cell: Cell, *, is_quick: bool) -> dict[str, Any]:
    """Arguments of ``fgsam.run`` for one cell."""
    method = {"name": cell.method, **FLOORS.get(cell.method, {})}
    options: dict[str, Any] = {
        **{"graph": cell.graph, "method": method, "encoder": ENCODER, "split": cell.split, "seed": 0},
        **{"n_way": 5, "k_shot": 3, "num_query": 10, **LIMITS, "evaluate": {"num_episodes": NUM_TEST}},
    }
    if cell.optimizer != "-":
        options["optimizer"] = cell.optimizer
    if is_quick:
        limits = {"num_episodes": 4, "val_episodes": 10, "evaluate": {"num_episodes": 10}}
        options |= {"graph": QUICK_GRAPH, "n_way": 2, **limits}
    return options


def run_one(cell: Any, options: dict[str, Any], root: Path) -> Row:
    """Run one cell, or find it finished: accuracy (none where the loss became infinite), episodes, seconds."""
    import fgsam
    from fgsam.engine.train import NonFiniteLossError

    try:
        run = fgsam.run(progress="none", root=str(root), **options)
    except NonFiniteLossError:
        return {"accuracy": None, "seconds": 0.0}
    return {
        "accuracy": round(run.results["test_accuracy"], 5),
        "val_accuracy": round(run.results["val_accuracy"], 5),
        "episodes": run.results["num_episodes"],
        "seconds": round(run.timing["seconds"], 2),
        "ms_per_episode": round(run.timing["ms_per_episode"], 2),
    }


def page_of(rows: list[Row], command: str) -> str:
    """Write a table for each graph and mode, in which the class split is the unit."""
    hours = sum(row["seconds"] for row in rows) / 3600
    limits = f"at most {LIMITS['num_episodes']} training episodes, validated every {LIMITS['val_every']}"
    parts = [
        f"""# Learners

```
{command}
```

5-way 3-shot, 10 queries a class, {limits}, stopped after
{LIMITS["patience"]} validations without improvement, best weights of three candidates on the whole validation bank;
encoder {", ".join(f"{key} {value}" for key, value in ENCODER.items())}. Every learner and optimizer has its defaults
and one seed; floors on smoothed features have {SMOOTHINGS["num_trials"]} settings to choose from. {len(rows)} runs,
{hours:.1f} hours of one core. All arms share class splits, initial weights, training episodes, and the banks of
{LIMITS["val_episodes"]} validation and {NUM_TEST} test episodes.

The unit is the class split: the mean over splits of the mean over test episodes, ± the half-width of the 95 % t
interval over splits; differences are paired by split. Intervals are not corrected for the number of learners.
Estimand: this graph, over random class splits. An arm that takes longer may have fewer of them, is compared on those
alone, and shows nothing where there is one; "lost" are those where its loss became infinite.
Two modes are kept apart: each query is classified alone, or the queries of an episode together. The best floor of a
mode is the one with the best mean here, which favours the floors.
`ceiling` has seen the labels of the test classes, `mlp` no edge at all, `peer_mlp` none while it was trained. Times
are medians beside other work."""
    ]
    for graph in dict.fromkeys(row["graph"] for row in rows):
        here = [row for row in rows if row["graph"] == graph]
        for uses_queries, title in ((False, "each query alone"), (True, "queries together")):
            table = _section([row for row in here if METHODS.load(row["method"]).uses_queries is uses_queries])
            parts += [f"\n## {graph}, {title}\n", *table] if table else []
    return "\n".join(parts) + "\n"


def _section(rows: list[Row]) -> list[str]:
    arms: dict[tuple[str, str], dict[int, Row]] = {}
    for row in rows:
        arms.setdefault((row["method"], row["optimizer"]), {})[row["split"]] = row
    scores = {name: percent_by_split(arm.values()) for name, arm in arms.items()}
    floors = {name: found for name, found in scores.items() if name[1] == "-" and found}
    if not floors:
        return []
    best = max(floors, key=lambda name: np.mean(list(floors[name].values())))
    lines = [
        f"Best floor: `{best[0]}`.\n",
        "| learner | optimizer | accuracy | - best floor | - adam | class splits | ms an episode |",
        "|---|---|---|---|---|---|---|",
    ]
    for (method, optimizer), found in scores.items():
        gap = "" if (method, optimizer) == best else paired_difference(found, floors[best])
        to_adam = paired_difference(found, scores.get((method, "adam"), {})) if optimizer not in ("-", "adam") else ""
        ms = np.median([row["ms_per_episode"] for row in arms[method, optimizer].values() if "ms_per_episode" in row])
        num_lost = len(arms[method, optimizer]) - len(found)
        count = f"{len(found)}, {num_lost} lost" if num_lost else len(found)
        figures = [spread(list(found.values())), gap, to_adam, count, f"{ms:.1f}"]
        lines.append(f"| {method} | {optimizer} | {' | '.join(map(str, figures))} |")
    return lines


def percent_by_split(rows: Iterable[Row]) -> Scores:
    """Accuracies of one arm in percent, where there are some."""
    return {row["split"]: 100 * row["accuracy"] for row in rows if row["accuracy"] is not None}


def paired_difference(scores: Scores, reference: Scores) -> str:
    """Mean difference over the class splits of both, with its interval."""
    return spread([scores[split] - reference[split] for split in sorted(scores.keys() & reference.keys())], "+")


def _arguments() -> argparse.Namespace:
    parser = study_parser(__doc__, pages="learners.md", quick="a tiny generated graph, one split")
    parser.add_argument("--graphs", nargs="+", default=list(GRAPHS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    add_split_options(parser)
    return parse_and_note(parser)


if __name__ == "__main__":
    main()
