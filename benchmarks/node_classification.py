"""Ordinary node classification: Adam, SAM, FGSAM and FGSAM+ on homophilic and heterophilic graphs.

Full batch, ten splits a graph: the public ones of heterophilic graphs, and drawn ones, 60/20/20 % of each class, of
homophilic graphs, which have no ten public ones. Every
optimizer has four settings and takes, split by split, the one with the best validation score: two learning rates, with
two radii for the sharpness-aware ones and two weight decays for Adam. The score is the accuracy, on graphs of two
classes the area under the ROC curve.

Runs are kept in a folder and never computed twice, so the study can be stopped and continued at any time; it goes graph
by graph. Times are measured at the end, arms interleaved. ``--only-finished`` writes the page of what is there.

    python -m benchmarks node_classification --runs runs/nodes --workers 2 --out docs/results
    python -m benchmarks node_classification --quick
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from benchmarks.harness import command_line, interleave, write_json
from benchmarks.spread import spread
from benchmarks.study import publish, run_study, study_parser

GRAPHS = (
    *("texas", "wisconsin", "cornell", "chameleon_filtered", "squirrel_filtered", "cora", "citeseer", "cora_ml"),
    *("chameleon", "minesweeper", "actor", "squirrel"),
)
"""Small ones first; ``--graphs`` takes larger ones as well."""
HOMOPHILIC = ("cora", "citeseer", "cora_ml", "amazon_computers", "coauthor_cs")
OPTIMIZERS = ("adam", "sam", "fgsam", "fgsam_plus")
PAIRS = (("fgsam", "adam"), ("fgsam", "sam"), ("fgsam_plus", "fgsam"))
"""The differences that are tested, chosen before the first run."""
RATES = (0.01, 0.05)
DECAYS = (5e-4, 5e-5)
RADII = (0.05, 0.2)
SETTINGS = tuple(itertools.product(RATES, range(2)))
WIDTH = 64
NUM_STEPS = 200
ROUNDS = 30
Row = dict[str, Any]
Arms = dict[str, dict[int, Row]]
"""The chosen run of each optimizer and split."""


@dataclass(frozen=True)
class Cell:
    """One run of the study."""

    graph: str
    encoder: str
    split: int
    optimizer: str
    setting: int


class Difference(NamedTuple):
    """A paired difference over splits, in points."""

    mean: float
    half: float
    p: float
    """Of the t test in which the variance is corrected for overlapping splits."""
    p_plain: float
    """Of the usual paired t test, too small where splits share nodes."""


def main() -> None:
    """Run what is missing, measure times, then write page and figures."""
    arguments = _arguments()
    options = {cell: options_of(cell, is_quick=arguments.quick) for cell in cells_of(arguments)}
    rows = list(run_study(arguments, options, _run_one).values())
    found = chosen_of(rows)
    times = _times(arguments, list(found))
    publish(page_of(found, times, rows, command_line()), arguments.out, "node_classification.md")
    if arguments.out:
        flat = [row for arms in found.values() for arm in arms.values() for row in arm.values()]
        write_json(arguments.out / "node_classification.json", flat, times=times)


def cells_of(arguments: argparse.Namespace) -> Iterator[Cell]:
    """List the runs, one graph after the other."""
    for graph, split in itertools.product(arguments.graphs, range(arguments.splits)):
        for name, setting in itertools.product(OPTIMIZERS, range(1 if arguments.quick else len(SETTINGS))):
            yield Cell(graph, "gcn", split, name, setting)


def options_of(cell: Cell, *, is_quick: bool = False) -> dict[str, Any]:
    """Arguments of ``fgsam.run`` for one cell."""
    rate, second = SETTINGS[cell.setting]
    optimizer: dict[str, Any] = {"name": cell.optimizer, "lr": rate}
    optimizer |= {"weight_decay": DECAYS[second]} if cell.optimizer == "adam" else {"rho": RADII[second]}
    graph: Any = cell.graph
    if is_quick:
        graph = {"name": "synthetic", "num_nodes": 300, "num_classes": 4, "num_features": 50, "words_per_node": 20}
    kind = {"split_kind": "drawn"} if cell.graph in HOMOPHILIC else {}
    return {
        **{"task": "node_classification", "graph": graph, "optimizer": optimizer, "split": cell.split, "seed": 0},
        **kind,
        **{"encoder": {"name": cell.encoder, "hidden": WIDTH, "dim": WIDTH, "dropout": 0.5}},
        **{"num_steps": 10 if is_quick else NUM_STEPS, "val_every": 5, "patience": 20},
    }


def _run_one(cell: Cell, options: dict[str, Any], root: Path) -> Row:
    import fgsam
    from fgsam.engine.train import NonFiniteLossError

    try:
        results = (run := fgsam.run(progress="none", root=str(root), **options)).results
    except NonFiniteLossError:
        return {"score": None, "seconds": 0.0}
    metric, sizes = results["metric"], results["num_nodes"]
    return {
        "metric": metric,
        "score": round(results[f"test_{metric}"], 5),
        "val_score": round(results[f"val_{metric}"], 5),
        "kind": results["split"]["kind"],
        "test_share": round(sizes["test"] / sizes["train"], 4),
        "seconds": round(run.timing["seconds"], 2),
    }


def chosen_of(rows: list[Row]) -> dict[str, Arms]:
    """Take, for each graph, optimizer and split, the setting with the best validation score, the first of equals.

    A split counts once all settings of all optimizers have been tried.
    """
    tried: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for row in rows:
        tried[row["graph"], row["split"]].append(row)
    num_settings = 1 + max((row["setting"] for row in rows), default=0)
    found: dict[str, Arms] = defaultdict(lambda: defaultdict(dict))
    for (graph, split), own in tried.items():
        if len(own) < num_settings * len(OPTIMIZERS):
            continue
        for name in OPTIMIZERS:
            finite = [row for row in own if row["optimizer"] == name and row["score"] is not None]
            if finite:
                found[graph][name][split] = max(finite, key=lambda row: (row["val_score"], -row["setting"]))
    return found


def difference(first: Mapping[int, Row], second: Mapping[int, Row]) -> Difference | None:
    """Compare two optimizers split by split; ``None`` with fewer than two splits.

    Training sets of different splits overlap, so that their scores are not independent: the variance of the mean is
    taken as ``(1/n + n_test/n_train) * s**2`` (Nadeau and Bengio, Inference for the Generalization Error, 2003).
    """
    shared = sorted(first.keys() & second.keys())
    if len(shared) < 2:
        return None
    gaps = np.array([100 * (first[split]["score"] - second[split]["score"]) for split in shared])
    n, deviation = len(gaps), float(gaps.std(ddof=1))
    overlap = float(np.mean([first[split]["test_share"] for split in shared]))
    if not deviation:
        return Difference(float(gaps.mean()), 0.0, float(gaps[0] == 0), float(gaps[0] == 0))
    widths = [deviation * np.sqrt(1 / n + share) for share in (overlap, 0.0)]
    p, p_plain = (float(2 * stats.t.sf(abs(gaps.mean()) / width, n - 1)) for width in widths)
    return Difference(float(gaps.mean()), float(stats.t.ppf(0.975, n - 1) * widths[0]), p, p_plain)


def holm(values: list[float]) -> list[float]:
    """Adjust p values for their number.

    Source:
        Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979.
    """
    adjusted, largest = [0.0] * len(values), 0.0
    for rank, i in enumerate(np.argsort(values, kind="stable")):
        largest = max(largest, min(1.0, (len(values) - rank) * values[i]))
        adjusted[i] = largest
    return adjusted


def page_of(found: dict[str, Arms], times: dict[str, dict[str, float]], rows: list[Row], command: str) -> str:
    """Write the tables of both kinds of graphs."""
    hours = sum(row["seconds"] for row in rows) / 3600
    about = " ".join((__doc__ or "").split("\n\n")[1].split())
    parts = [
        f"# Node classification\n\n```\n{command}\n```\n\n{about}",
        f"GCN of two layers, width {WIDTH}, then a linear map; {NUM_STEPS} steps at most, validation every 5; weight "
        f"decay {DECAYS[0]:g} where it is not searched; learning rates {RATES}, radii {RADII}, weight decays {DECAYS}; "
        f"one seed. {len(rows)} runs, {hours:.1f} hours of one core.",
        "± is half a 95 % interval: of the mean over splits in the tables of scores, of the paired difference in the "
        "tables of differences. There the variance is corrected for splits that share nodes (Nadeau and Bengio 2003), "
        "and p is Holm-adjusted over the rows of the table; the plain p, of the usual paired t test, is too small. The "
        "verdicts are about these graphs, over such splits, in these settings.",
    ]
    kinds = {"Heterophilic graphs": False, "Homophilic graphs": True}
    for title, is_homophilic in kinds.items():
        here = {graph: found[graph] for graph in found if (graph in HOMOPHILIC) == is_homophilic}
        if here:
            parts += [f"## {title}", _scores(here), _differences(here), _speeds(here, times)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _scores(found: dict[str, Arms]) -> str:
    lines = [f"| graph | score | splits | {' | '.join(OPTIMIZERS)} |", "|---|---|---|" + "---|" * len(OPTIMIZERS)]
    for graph, arms in found.items():
        some = next(row for arm in arms.values() for row in arm.values())
        metric = {"roc_auc": "ROC AUC"}.get(some["metric"], some["metric"])
        cells = [spread([100 * row["score"] for row in arms[name].values()]) for name in OPTIMIZERS]
        lines.append(f"| {graph} | {metric} | {len(arms['adam'])} {some['kind']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _differences(found: dict[str, Arms]) -> str:
    compared = [
        (graph, pair, difference(arms[pair[0]], arms[pair[1]])) for graph, arms in found.items() for pair in PAIRS
    ]
    known = [(graph, pair, gap) for graph, pair, gap in compared if gap is not None]
    lines = ["| graph | difference | points | p (Holm) | plain p | verdict |", "|---|---|---|---|---|---|"]
    for (graph, (first, second), gap), p in zip(known, holm([gap.p for _, _, gap in known]), strict=True):
        verdict = ("above" if gap.mean > 0 else "below") if p < 0.05 else "undecided"
        points = f"{gap.mean:+.2f} ± {gap.half:.2f}"
        lines.append(f"| {graph} | {first} - {second} | {points} | {p:.3f} | {gap.p_plain:.3f} | {verdict} |")
    return "\n".join(lines) if known else ""


def _speeds(found: dict[str, Arms], times: dict[str, dict[str, float]]) -> str:
    lines = [f"| graph | {' | '.join(OPTIMIZERS)} |", "|---|" + "---|" * len(OPTIMIZERS)]
    for graph in found:
        if graph in times:
            adam = times[graph]["adam"]
            cells = [f"{times[graph][name]:.2f} ({times[graph][name] / adam:.2f})" for name in OPTIMIZERS]
            lines.append(f"| {graph} | {' | '.join(cells)} |")
    if len(lines) == 2:
        return ""
    return (
        f"Milliseconds of processor time a training step, the mean of {ROUNDS} steps of each optimizer in turn, on one "
        "thread, without validation; in brackets the ratio to Adam.\n\n" + "\n".join(lines)
    )


def _times(arguments: argparse.Namespace, graphs: list[str]) -> dict[str, dict[str, float]]:
    """Times of a step by graph and optimizer: those of the last page, and new ones for graphs that it lacks."""
    kept = arguments.out and arguments.out / "node_classification.json"
    known: dict[str, dict[str, float]] = {}
    if kept and kept.is_file() and not arguments.new_times:
        known = json.loads(kept.read_text(encoding="utf-8"))["times"]
    if arguments.only_finished:
        return known
    return {graph: known.get(graph) or step_times(graph, is_quick=arguments.quick) for graph in graphs}


def step_times(graph: str, *, is_quick: bool = False) -> dict[str, float]:
    """Milliseconds of processor time a step of each optimizer, measured in turn."""
    steps = {name: _stepper(options_of(Cell(graph, "gcn", 0, name, 0), is_quick=is_quick)) for name in OPTIMIZERS}
    times = interleave(steps, rounds=4 if is_quick else ROUNDS, warm_up=4, clock=time.thread_time)
    return {name: round(float(np.mean(values)), 3) for name, values in times.items()}  # cheap steps count as such


def _stepper(options: dict[str, Any]) -> Any:
    import torch

    from fgsam.engine.arguments import config_of_call
    from fgsam.engine.build import Entries, build_method, build_optimizer
    from fgsam.engine.inputs import build_inputs
    from fgsam.engine.train import Trainer

    torch.set_num_threads(1)
    named = {part: options[part] for part in ("graph", "task", "encoder", "optimizer")}
    config, _ = config_of_call(**named, options={k: value for k, value in options.items() if k not in named})
    entries, data = Entries.load(config), build_inputs(config)
    method = build_method(config, data.graph, entries, "times", given=data.given(entries.method))
    trainer = Trainer(data.task(method), method, build_optimizer(config, method, entries))
    steps = itertools.count(1)
    return lambda: trainer.learn(next(steps))


def _arguments() -> argparse.Namespace:
    pages = "node_classification.md and .json"
    parser = study_parser(__doc__, pages=pages, quick="a tiny generated graph, two splits")
    parser.add_argument("--graphs", nargs="+", default=list(GRAPHS))
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--new-times", action="store_true", help="measure the times anew")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.graphs, arguments.splits = ["quick"], 2
    return arguments


if __name__ == "__main__":
    main()
