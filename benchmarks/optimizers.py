"""Every optimizer with GPN on two graphs, and sparse training beside its rivals.

Runs are kept in a folder and never computed twice, so the study can be stopped and continued at any time; it goes class
split by class split. ``--only-finished`` writes the page of what is there.

    python -m benchmarks optimizers --runs runs/optimizers --workers 2 --out docs/results
    python -m benchmarks optimizers --quick
"""

from __future__ import annotations

import argparse
import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import command_line
from benchmarks.spread import spread
from benchmarks.study import QUICK_GRAPH, publish, run_study, study_parser
from fgsam.registry import OPTIMIZERS

GRAPHS = ("coauthor_cs", "corafull_derived")
SPARSE = ("magnitude_pruning", "iht", "admm_pruning", "safe", "safe_plus")
"""Rules that end with a sparse network; the others are compared as they are."""
REFERENCES = ("sa_gd",)
"""Rules for small problems, whose steps cost dozens of passes."""
DENSE = tuple(name for name in OPTIMIZERS if name not in (*SPARSE, *REFERENCES))
SPARSITIES = (0.8, 0.9, 0.95)
NOISES = (0.0, 0.2)
"""Shares of support nodes with a wrong label."""
RATES: dict[str, tuple[float, float]] = {
    "sgd": (0.5, 0.1),
    "sassha": (0.05, 0.01),
    "m_sassha": (0.05, 0.01),
    "adahessian": (0.15, 0.05),
    "sophia_h": (0.005, 0.001),
}
"""Learning rates of a rule; with ``--rates 2`` each class split takes the better on its validation bank."""
USUAL_RATES = (0.005, 0.001)
NUM_EPISODES = 500
ENCODER = {"name": "gcn", "hidden": 32, "dim": 16, "dropout": 0.5}
Row = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One run of the study."""

    graph: str
    split: int
    optimizer: str
    rate: float
    sparsity: float
    noise: float


def main() -> None:
    """Run what is missing, then write the page."""
    arguments = _arguments()
    options = {cell: options_of(cell, is_quick=arguments.quick) for cell in cells_of(arguments)}
    rows = list(run_study(arguments, options, _run_one).values())
    page = page_of(rows, {name: gradients_a_step(name) for name in DENSE}, command_line())
    publish(page, arguments.out, "optimizers.md")


def cells_of(arguments: argparse.Namespace) -> Iterator[Cell]:
    """List the runs, one class split after the other."""
    graphs = ("quick",) if arguments.quick else GRAPHS
    for split in range(arguments.splits):
        for graph, name in itertools.product(graphs, arguments.optimizers):
            if name in DENSE:
                for rate in RATES.get(name, USUAL_RATES)[: arguments.rates]:
                    yield Cell(graph, split, name, rate, 0.0, 0.0)
        for noise, name in itertools.product(NOISES, arguments.optimizers):
            if name in SPARSE:
                for sparsity in SPARSITIES[: 1 if arguments.quick else 3]:
                    yield Cell(graphs[0], split, name, USUAL_RATES[0], sparsity, noise)
            elif name in ("adam", "sam") and noise:
                yield Cell(graphs[0], split, name, USUAL_RATES[0], 0.0, noise)


def options_of(cell: Cell, *, is_quick: bool) -> dict[str, Any]:
    """Arguments of ``fgsam.run`` for one cell."""
    graph: Any = cell.graph
    num_episodes = NUM_EPISODES
    if is_quick:
        graph = QUICK_GRAPH
        num_episodes = 10
    optimizer: dict[str, Any] = {"name": cell.optimizer, "lr": cell.rate}
    if cell.sparsity:
        optimizer |= {"sparsity": cell.sparsity, "num_steps": num_episodes}
    options = {
        **{"graph": graph, "method": "gpn", "encoder": ENCODER, "optimizer": optimizer, "split": cell.split, "seed": 0},
        **{"n_way": 2 if is_quick else 5, "k_shot": 3, "num_query": 10, "num_episodes": num_episodes},
        # A rule whose sparsity grows with its steps must not be stopped before its end; so none is.
        "patience": num_episodes,
    }
    if is_quick:
        options["evaluate"] = {"num_episodes": 20}
    if cell.noise:
        options["support_noise"] = 0.34 if is_quick else cell.noise  # two of six nodes is the least
    return options


def _run_one(cell: Cell, options: dict[str, Any], root: Path) -> Row:
    import fgsam
    from fgsam.engine.checkpoint import load_checkpoint
    from fgsam.engine.train import NonFiniteLossError

    try:
        run = fgsam.run(progress="none", root=str(root), **options)
    except NonFiniteLossError:
        return {"accuracy": None, "seconds": 0.0}
    weights = [w for w in load_checkpoint(run.directory / "weights.fgsam")["weights"].values() if w.ndim > 1]
    return {
        "accuracy": round(run.results["test_accuracy"], 5),
        "val_accuracy": round(run.results["val_accuracy"], 5),
        "zeros": sum(int((w == 0).sum()) for w in weights),
        "weights": sum(w.numel() for w in weights),
        "seconds": round(run.timing["seconds"], 2),
        "ms_per_episode": round(run.timing["ms_per_episode"], 2),
    }


@cache
def gradients_a_step(name: str, num_steps: int = 50) -> float:
    """Gradients, peer gradients and Hessian products of an average step, counted on a small net."""
    import torch

    from fgsam.contract.passes import Tally
    from fgsam.contract.subject import Net, Subject

    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        subject, net = Subject(OPTIMIZERS.load(name)), Net()
        optimizer, tally = subject.build(net), Tally(net)
        steps = [tally.of_step(subject, optimizer) for _ in range(num_steps)]
    return sum(step.backwards + step.peer + step.products for step in steps) / num_steps


def page_of(rows: list[Row], gradients: dict[str, float], command: str) -> str:
    """Write tables in which the class split is the unit."""
    hours = sum(row["seconds"] for row in rows) / 3600
    num_rates = len({row["rate"] for row in rows if row["optimizer"] == "adam"})
    rates = (
        "one learning rate"
        if num_rates < 2
        else f"{num_rates} learning rates, chosen on the validation bank of a split"
    )
    parts = [
        f"""# Every optimizer

```
{command}
```

GPN, 5-way 3-shot, 10 queries a class, {NUM_EPISODES} episodes, one seed; every rule with its defaults and
{rates}. {len(rows)} runs, {hours:.1f} hours of one core.

The unit is the class split: the mean over splits of the mean over test episodes, ± the half-width of the 95 % t
interval over splits; differences are paired by split. No interval is corrected for the number of rules. A run whose
loss became infinite has no result. Gradients a step are gradients of the GNN, of the peer, and Hessian products,
counted on a small net. Times are the median over splits of a training step beside other work;
[optimizer_step.md](optimizer_step.md) has fair ones. Left out, being for small problems: {", ".join(REFERENCES)}."""
    ]
    for graph in dict.fromkeys(row["graph"] for row in rows):
        here = [row for row in rows if row["graph"] == graph and not row["noise"] and not row["sparsity"]]
        parts += [
            f"\n## {graph}\n",
            "| optimizer | accuracy | - adam | class splits | without result | gradients a step | ms an episode |",
            "|---|---|---|---|---|---|---|",
        ]
        adam = _chosen([row for row in here if row["optimizer"] == "adam"])
        for name in DENSE:
            own = [row for row in here if row["optimizer"] == name]
            arm, num_lost = _chosen(own), sum(row["accuracy"] is None for row in own)
            if not own:
                continue
            gap = spread([_points(arm[s]) - _points(adam[s]) for s in sorted(arm.keys() & adam.keys())], "+")
            ms = np.median([row["ms_per_episode"] for row in arm.values()]) if arm else np.nan
            accuracy = spread([_points(row) for row in arm.values()])
            figures = [accuracy, gap, len(arm), num_lost, f"{gradients[name]:.2f}", f"{ms:.1f}"]
            parts.append(f"| {name} | {' | '.join(map(str, figures))} |")
    return "\n".join([*parts, *_sparse_section(rows)]) + "\n"


def _sparse_section(rows: list[Row]) -> list[str]:
    arms: dict[tuple[float, float, str], dict[int, Row]] = defaultdict(dict)
    for row in rows:
        if (
            row["accuracy"] is not None
            and row["optimizer"] in (*SPARSE, "adam", "sam")
            and row["rate"] == USUAL_RATES[0]
            and row["graph"] != GRAPHS[1]
        ):
            arms[row["noise"], row["sparsity"], row["optimizer"]][row["split"]] = row
    lines = ["\n## Sparse networks\n", "| wrong support labels | sparsity | optimizer | accuracy | - SAFE | zeros |"]
    lines.append("|---|---|---|---|---|---|")
    for (noise, sparsity, name), arm in sorted(arms.items()):
        rival = arms.get((noise, sparsity, "safe"), {})
        shared = sorted(arm.keys() & rival.keys())
        gap = spread([_points(arm[s]) - _points(rival[s]) for s in shared], "+") if shared and name != "safe" else ""
        zeros = {f"{row['zeros']} of {row['weights']}" for row in arm.values()}
        accuracy = spread([_points(row) for row in arm.values()])
        lines.append(f"| {noise:.0%} | {sparsity:.0%} | {name} | {accuracy} | {gap} | {', '.join(sorted(zeros))} |")
    return lines


def _chosen(rows: list[Row]) -> dict[int, Row]:
    """Take the learning rate with the best validation score, by split; the first among equals."""
    best: dict[int, Row] = {}
    for row in rows:
        if row["accuracy"] is None:
            continue
        if row["split"] not in best or row["val_accuracy"] > best[row["split"]]["val_accuracy"]:
            best[row["split"]] = row
    return best


def _points(row: Row) -> float:
    return 100 * float(row["accuracy"])


def _arguments() -> argparse.Namespace:
    parser = study_parser(__doc__, pages="optimizers.md", quick="a tiny generated graph, one split")
    parser.add_argument("--rates", type=int, default=2, choices=(1, 2), help="learning rates a rule")
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--optimizers", nargs="+", default=list(OPTIMIZERS), choices=list(OPTIMIZERS))
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.splits = arguments.rates = 1
    return arguments


if __name__ == "__main__":
    main()
