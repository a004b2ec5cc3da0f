"""What torch.compile of the model does for a training step on the CPU, and what compiling costs.

Full-graph steps of a stock GCN on a generated graph, arms interleaved. Compiling is timed by the first calls.

    python -m benchmarks compile --out docs/results
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness import interleave, quartiles, write_json, write_markdown

RULES = ("adam", "sam", "fgsam", "fgsam_plus")
ARMS = ("as it is", "compiled")
FIRST_CALLS = 4
"""Calls that compile: FGSAM+ has two kinds of steps, and sizes become dynamic when a second one is seen."""


def step_of(rule: str, arm: str, graph: Any, hidden: int, backend: str) -> Callable[[], object]:
    """One training step with weights of its own."""
    from torch_geometric.nn import GCN

    from fgsam.registry import OPTIMIZERS

    torch.manual_seed(0)
    model = GCN(graph.num_features, hidden, num_layers=2, out_channels=graph.num_classes)
    called: nn.Module = torch.compile(model, backend=backend) if arm == "compiled" else model  # type: ignore[assignment]
    optimizer = OPTIMIZERS.load(rule)(model, lr=1e-4)
    x, self_loops = graph.x.dense(), torch.arange(graph.num_nodes).repeat(2, 1)

    def loss(edges: Tensor) -> Tensor:
        return nn.functional.cross_entropy(called(x, edges), graph.labels)

    closures = [partial(loss, graph.edge_index), partial(loss, self_loops)]
    return partial(optimizer.step, *closures[: 1 + (optimizer.peer == "required")])


def measure(
    rules: Iterable[str], num_nodes: int, hidden: int, rounds: int, backend: str = "inductor"
) -> list[dict[str, Any]]:
    """Times of every arm of some rules, and of the first calls."""
    from fgsam.data.load import load_graph

    graph = load_graph("synthetic", num_nodes=num_nodes, num_features=300, num_classes=5, words_per_node=20)
    return [row for rule in rules for row in _rows_of(rule, graph, hidden, rounds, backend)]


def _rows_of(rule: str, graph: Any, hidden: int, rounds: int, backend: str) -> list[dict[str, Any]]:
    from torch._inductor.utils import fresh_cache

    torch.compiler.reset()  # a layer that has been compiled for many models is not compiled for the next
    steps, first = {arm: step_of(rule, arm, graph, hidden, backend) for arm in ARMS}, {}
    for arm, step in steps.items():
        with fresh_cache():  # else what one rule has compiled is there for the next
            start = time.perf_counter()
            for _ in range(FIRST_CALLS):
                step()
            first[arm] = time.perf_counter() - start
    times = interleave(steps, rounds=rounds, clock=time.thread_time)
    means = {arm: sum(times[arm]) / rounds for arm in ARMS}  # FGSAM+ has cheap and dear steps
    rows = []
    for arm in ARMS:
        seconds, saved = first[arm] - first["as it is"], means["as it is"] - means[arm]
        pays = round(1e3 * seconds / saved) if saved > 0.02 * means["as it is"] else None
        row = {"optimizer": rule, "arm": arm, "ms_mean": round(means[arm], 3), **quartiles(times[arm])}
        by_plain = round(means[arm] / means["as it is"], 2)
        rows.append({**row, "by_plain": by_plain, "first_calls_s": round(seconds, 1), "pays_after": pays})
    return rows


def main() -> None:
    """Measure, and print the page or write it into a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for compile.md and compile.json")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--quick", action="store_true", help="one rule, a small graph, few rounds, no kernels")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    num_nodes, hidden, rounds = (200, 4, 2) if arguments.quick else (5000, 64, arguments.rounds)
    few = {"rules": ("fgsam",), "backend": "eager"} if arguments.quick else {"rules": RULES}
    rows = measure(num_nodes=num_nodes, hidden=hidden, rounds=rounds, **few)
    if arguments.out:
        write_json(arguments.out / "compile.json", rows, num_nodes=num_nodes, hidden=hidden, rounds=rounds)
        write_markdown(arguments.out / "compile.md", "torch.compile on the CPU", _page(rows), ABOUT)
    else:
        print(_page(rows))


ABOUT = """
Milliseconds of processor time of one thread, full-graph steps of a two-layer GCN on a generated graph, arms
interleaved. The first calls hold what compiling costs, in seconds that also pass for other work of the machine; "pays
after" is how many steps make up for it. The optimizer's own step is never compiled, also within a compiled function: it
restores weights, buffers and random state around closures, and these are what can be compiled.
"""


def _page(rows: list[dict[str, Any]]) -> str:
    lines = ["| optimizer | model | mean ms | quartiles | by plain | first calls, more s | pays after |"]
    lines.append("|---|---|---|---|---|---|---|")
    for row in rows:
        pays = "-" if row["pays_after"] is None else f"{row['pays_after']:,} steps"
        spread = f"{row['ms_q25']:.2f} to {row['ms_q75']:.2f}"
        shown = [row["optimizer"], row["arm"], f"{row['ms_mean']:.2f}", spread, row["by_plain"], row["first_calls_s"]]
        lines.append(f"| {' | '.join(map(str, shown))} | {pays} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
