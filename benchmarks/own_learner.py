"""The package's own learner against the best tuned floor of its mode, on six graphs, with equal and unequal queries.

Both classify the queries of an episode together: ``smooth_clusters`` with two optimizers at its defaults, and
``sgc_kmeans`` with 32 settings to choose from on the validation bank. Queries are as many of each class, or divided by
a Dirichlet distribution, in training, validation and test alike. The rest is as in ``learners``, sealed class splits
included.

    python -m benchmarks own_learner --runs runs/own --workers 2 --out docs/results
    python -m benchmarks own_learner --runs runs/own --workers 2 --out docs/results --splits 20 --final
    python -m benchmarks own_learner --quick
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks import learners
from benchmarks.harness import command_line
from benchmarks.learners import LIMITS, NUM_TEST, OPTIMIZERS, Row, paired_difference, percent_by_split, run_one
from benchmarks.sealed import NUM_OPEN, add_split_options, parse_and_note
from benchmarks.spread import spread
from benchmarks.study import publish, run_study, study_parser

OWN, FLOOR = "smooth_clusters", "sgc_kmeans"
GRAPHS: dict[str, dict[str, int]] = {
    "coauthor_cs": {},
    "corafull_derived": {},
    "clothing20": {},
    "nell": {},
    "email": {"num_query": 5},
    "amazon_computers": {"n_way": 3},
}
"""Graphs, with what their classes do not allow otherwise: too few nodes in one, too few classes in another."""

QUERIES: dict[str, dict[str, float]] = {"equal": {}, "unequal": {"query_imbalance": 2.0}}
"""Numbers of queries of the classes; 2 as in Veilleux et al., Realistic Evaluation of Transductive FSL, 2021."""


@dataclass(frozen=True)
class Cell:
    """One run of the study; the floor has the optimizer ``"-"``."""

    graph: str
    queries: str
    split: int
    method: str
    optimizer: str


def main() -> None:
    """Run what is missing, then write the page."""
    arguments = _arguments()
    options = {cell: options_of(cell, is_quick=arguments.quick) for cell in cells_of(arguments)}
    rows = list(run_study(arguments, options, run_one).values())
    publish(page_of(rows, command_line()), arguments.out, "own_learner.md")


def cells_of(arguments: argparse.Namespace) -> Iterator[Cell]:
    """List the runs, one graph after the other, so that its smoothed features are made once."""
    arms = [(FLOOR, "-"), *((OWN, optimizer) for optimizer in OPTIMIZERS)]
    for graph in ("quick",) if arguments.quick else arguments.graphs:
        for queries in arguments.queries:
            for split in range(arguments.first_split, arguments.splits):
                for method, optimizer in arms:
                    yield Cell(graph, queries, split, method, optimizer)


def options_of(cell: Cell, *, is_quick: bool) -> dict[str, Any]:
    """Arguments of ``fgsam.run`` for one cell."""
    same = learners.Cell(cell.graph, cell.split, cell.method, cell.optimizer)
    return {**learners.options_of(same, is_quick=is_quick), **GRAPHS.get(cell.graph, {}), **QUERIES[cell.queries]}


def page_of(rows: list[Row], command: str) -> str:
    """Write a line for each graph and kind of queries, in which the class split is the unit."""
    hours = sum(row["seconds"] for row in rows) / 3600
    lines = [
        f"""# The package's own learner

```
{command}
```

`{OWN}` against `{FLOOR}`, the floor that classifies the queries of an episode together, too. 5-way 3-shot with
10 queries a class (email, whose smallest class has 10 nodes: 5; amazon_computers, with three test classes: 3-way).
At most {LIMITS["num_episodes"]} training episodes; the learner has its defaults and one seed, the floor 32 settings to
choose from, both on the same {LIMITS["val_episodes"]} validation episodes. {len(rows)} runs, {hours:.1f} hours of one
core. Class splits from {NUM_OPEN} on were sealed: the learner was made without them.

Mean over class splits of the mean over {NUM_TEST} test episodes, ± the half-width of the 95 % t interval over splits;
differences are paired by split and not corrected for their number. A split counts when all three runs are finished
and none diverged. Estimand: each graph, over random class splits.
"unequal": the queries of an episode are divided among its classes by a Dirichlet distribution with concentration
{QUERIES["unequal"]["query_imbalance"]:g}, in training, validation and test alike.

| graph | queries | class splits | {FLOOR} | {OWN}, adam | - floor | fgsam_plus | - floor | - adam |
|---|---|---|---|---|---|---|---|---|"""
    ]
    for graph, queries in dict.fromkeys((row["graph"], row["queries"]) for row in rows):
        here = [row for row in rows if (row["graph"], row["queries"]) == (graph, queries)]
        arms = [
            percent_by_split(row for row in here if row["optimizer"] == optimizer) for optimizer in ("-", *OPTIMIZERS)
        ]
        shared = sorted(set.intersection(*(set(arm) for arm in arms)))
        floor, adam, plus = ({split: arm[split] for split in shared} for arm in arms)
        figures = [
            *(graph, queries, len(shared)),
            *(spread(list(floor.values())), spread(list(adam.values())), paired_difference(adam, floor)),
            *(spread(list(plus.values())), paired_difference(plus, floor), paired_difference(plus, adam)),
        ]
        lines.append(f"| {' | '.join(map(str, figures))} |")
    return "\n".join(lines) + "\n"


def _arguments() -> argparse.Namespace:
    parser = study_parser(__doc__, pages="own_learner.md", quick="a tiny generated graph, one split")
    parser.add_argument("--graphs", nargs="+", default=list(GRAPHS), choices=list(GRAPHS))
    parser.add_argument("--queries", nargs="+", default=list(QUERIES), choices=list(QUERIES))
    parser.set_defaults(methods=[FLOOR, OWN])
    add_split_options(parser)
    return parse_and_note(parser)


if __name__ == "__main__":
    main()
