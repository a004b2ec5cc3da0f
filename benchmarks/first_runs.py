"""Learners x optimizers x class splits beside the training-free floors, on the same episodes.

Runs are kept in a folder and never computed twice, so the study can be stopped and continued at any time. Work goes
task by task and class split by class split: whatever is there when it stops is complete, and paired, for the splits it
has reached. ``--only-finished`` writes the tables of what is there.

    python -m benchmarks first_runs --runs runs/first --workers 2 --out docs/results
    python -m benchmarks first_runs --quick
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.study import run_all

TASKS: dict[str, dict[str, Any]] = {
    "corafull_derived 5-way": {"graph": "corafull_derived", "n_way": 5},
    "clothing20 5-way": {"graph": "clothing20", "n_way": 5},
    "coauthor_cs 5-way": {"graph": "coauthor_cs", "n_way": 5},
    "coauthor_cs 2-way": {"graph": "coauthor_cs", "n_way": 2},
}
METHODS = ("protonet", "gpn")
OPTIMIZERS = ("adam", "sam", "fgsam", "fgsam_plus")
LIMITS = {"num_episodes": 500, "patience": 3}
"""Training episodes at most, and validations without improvement; the defaults, 1,000 and 6, would double the hours."""
ABLATED_SPLITS = 5
"""Class splits on which causes are looked for."""
FLOORS = ("raw_lr", "sgc_lr", "sgc_prototype")

SETTINGS: dict[str, dict[str, Any]] = {
    "published": {
        "lr": 0.005,
        "encoder": {"name": "gcn", "hidden": 32, "dim": 16, "dropout": 0.5},
        "rho": {"sam": 0.05, "fgsam": 0.05, "fgsam_plus": 0.1},
    },
    "slow and far": {
        "lr": 0.001,
        "encoder": {"name": "gcn", "hidden": 32, "dim": 16, "dropout": 0.5},
        "rho": {"sam": 0.5, "fgsam": 0.5, "fgsam_plus": 0.5},
    },
    "wide": {
        "lr": 0.005,
        "encoder": {"name": "gcn", "hidden": 32, "dim": 64, "dropout": 0.2},
        "rho": {"sam": 0.1, "fgsam": 0.1, "fgsam_plus": 0.1},
    },
    "linear": {
        "lr": 0.001,
        "encoder": {"name": "sgc", "dim": 32},
        "rho": {"sam": 0.1, "fgsam": 0.1, "fgsam_plus": 0.1},
    },
}
"""Four fixed settings for every learner and optimizer; ``published`` is GPN's own with the rho released for FGSAM."""

ABLATIONS: dict[str, dict[str, Any]] = {
    "published": {},
    "no dropout": {"encoder": {"dropout": 0.0}},
    "128 units": {"encoder": {"hidden": 128, "dim": 128}},
    "128 units, no dropout": {"encoder": {"hidden": 128, "dim": 128, "dropout": 0.0}},
    "128 units, no dropout, untrained": {
        "encoder": {"hidden": 128, "dim": 128, "dropout": 0.0},
        "optimizer": {"lr": 1e-12},
        "num_episodes": 1,
    },
    "linear encoder, 128 units": {"encoder": {"name": "sgc", "dim": 128}},
    "linear encoder, 128 units, untrained": {
        "encoder": {"name": "sgc", "dim": 128},
        "optimizer": {"lr": 1e-12},
        "num_episodes": 1,
    },
    "features of unit length": {"features": "unit"},
    "the floor's features, linear map to 128": {"features": "smoothed", "encoder": {"name": "sgc", "dim": 128}},
    "the floor's features, linear map to 128, untrained": {
        "features": "smoothed",
        "encoder": {"name": "sgc", "dim": 128},
        "optimizer": {"lr": 1e-12},
        "num_episodes": 1,
    },
}
"""What keeps ProtoNet with Adam below a floor: one change at a time, except that the last two replace graph and encoder
by the features that a floor with two hops compares, and a linear map of them."""


@dataclass(frozen=True)
class Cell:
    """One run of the study."""

    task: str
    split: int
    method: str
    optimizer: str
    setting: str


def main() -> None:
    """Run what is missing, then write tables and per-episode scores."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as scratch:
        options = {cell: options_of(cell, is_quick=arguments.quick) for cell in _cells(arguments)}
        limits = {"workers": arguments.workers, "only_finished": arguments.only_finished}
        rows = list(run_all(options, _run_one, arguments.runs or Path(scratch), **limits).values())
    if arguments.out:
        from benchmarks.first_runs_report import write_report

        write_report(rows, arguments.out)


def _cells(arguments: argparse.Namespace) -> Iterator[Cell]:
    tasks = ["quick"] if arguments.quick else arguments.tasks
    settings = ["published"] if arguments.quick else list(SETTINGS)
    for task, split in itertools.product(tasks, range(arguments.splits)):
        for floor in FLOORS:
            yield Cell(task, split, floor, "-", "tuned")
        for setting, method, optimizer in itertools.product(settings, METHODS, OPTIMIZERS):
            yield Cell(task, split, method, optimizer, setting)
        if not arguments.quick and split < ABLATED_SPLITS:
            for ablation in list(ABLATIONS)[1:]:
                yield Cell(task, split, "protonet", "adam", f"ablation: {ablation}")


def _run_one(cell: Cell, options: dict[str, Any], root: Path) -> dict[str, Any]:
    import fgsam

    arguments = dict(options)
    if "features" in arguments:
        arguments["graph"] = _with_features(arguments["graph"], arguments.pop("features"))
    run = fgsam.run(progress="none", root=str(root), **arguments)
    results = run.results
    return {
        "accuracy": results["test_accuracy"],
        "interval": results["test_interval"],
        "val_accuracy": results["val_accuracy"],
        "correct": list(results["test_correct"]),
        "seconds": run.timing["seconds"],
        "num_episodes": results["num_episodes"],
    }


def _with_features(name: str, kind: str) -> Any:
    """The named graph with rows of unit length; or without edges, with the features that a two-hop floor compares."""
    from sklearn.preprocessing import normalize

    import fgsam
    from fgsam.graph.sparse import SparseMatrix
    from fgsam.methods.smoothing import smoothed_features

    graph = fgsam.load_graph(name)
    if kind == "smoothed":
        x, edges = smoothed_features(graph, "sym", 2, 128), [[], []]
    else:
        x = normalize(graph.x.scipy() if isinstance(graph.x, SparseMatrix) else graph.x.numpy())
        edges = graph.edge_index
    return fgsam.Graph.from_arrays(x, edges, graph.labels, directed=False, name=name)


def options_of(cell: Cell, *, is_quick: bool = False) -> dict[str, Any]:
    """Arguments of ``fgsam.run`` for one cell."""
    if is_quick:
        graph: Any = {"name": "synthetic", "num_nodes": 1500, "num_classes": 12, "num_features": 400}
        task = {"graph": graph, "n_way": 2, "evaluate": {"num_episodes": 50}}
    else:
        task = dict(TASKS[cell.task])
    options = {**task, "k_shot": 3, "num_query": 10, "split": cell.split, "seed": 0, "method": cell.method}
    if cell.method in FLOORS:
        return options
    if cell.setting.startswith("ablation: "):
        change = ABLATIONS[cell.setting.removeprefix("ablation: ")]
        optimizer = {"name": "adam", "lr": 0.005, **change.get("optimizer", {})}
        encoder = {"name": "gcn", **change.get("encoder", {})}
        limits = LIMITS | {key: change[key] for key in LIMITS.keys() & change.keys()}
        features = {"features": change["features"]} if "features" in change else {}
        return options | features | {"encoder": encoder, "optimizer": optimizer, **limits}
    setting = SETTINGS[cell.setting]
    optimizer = {"name": cell.optimizer, "lr": setting["lr"]}
    if cell.optimizer != "adam":
        optimizer["rho"] = setting["rho"][cell.optimizer]
    limits = {"num_episodes": 60} if is_quick else LIMITS
    return options | {"encoder": setting["encoder"], "optimizer": optimizer, **limits}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="folder of the runs; finished ones are only read")
    parser.add_argument("--out", type=Path, help="folder for first_runs.md and first_runs.npz")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--only-finished", action="store_true", help="compute nothing, report what is there")
    parser.add_argument("--quick", action="store_true", help="a tiny generated graph, one split, one setting")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.splits = 1
    return arguments


if __name__ == "__main__":
    main()
