"""Time and memory of a whole training step: episode, field, passes, update.

Three paths through the same method and optimizers:

- ``full_dense``: the released way. Dense features, every node in every pass, COO adjacency; FGSAM with the second
  backward pass of the released code.
- ``full_sparse``: the best that a careful user writes today. CSR features in PyG's own layers, every node.
- ``field``: this package.

Arms take turns within each round, on one thread. Memory is the peak of a fresh process above its imports.

``--methods`` shows learners instead, each on fields: their steps, and the share of each stage; ``all`` takes every
entry of the registry. Where ``maml`` is among them, its ten inner steps are timed the released way too.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

OPTIMIZERS = ("adam", "sam", "fgsam", "fgsam_plus")
PATHS = ("full_dense", "full_sparse", "field")
EPISODES = {"full_dense": 2, "full_sparse": 2, "field": 20}
"""Episodes in one timed call: whole periods of FGSAM+, whose two steps differ, and long enough to be timed."""

DENSE, DENSE_ROUNDS = "maml", 3
"""The learner that is compared with the released way beside the others."""

SETTING = {"n_way": 5, "k_shot": 3, "num_query": 10}


def main() -> None:
    """Measure, print a table, and write JSON where asked."""
    arguments = _arguments()
    import torch

    torch.set_num_threads(1)
    if arguments.memory_of:
        print(_own_peak(arguments.graph_file, *arguments.memory_of.split(":")))
        return
    from benchmarks.harness import interleave, quartiles, write_json, write_markdown

    graph = _load(arguments.graph, arguments.graph_file)
    if arguments.methods:
        _show_learners(graph, arguments)
        return
    cells = list(itertools.product(arguments.paths, arguments.optimizers))
    arms = {cell: _arm(graph, arguments.method, *cell) for cell in cells}
    times = interleave(arms, rounds=arguments.rounds)
    rows = [
        {"graph": graph.name, "method": arguments.method, "optimizer": optimizer, "path": path}
        | quartiles([time / EPISODES[path] for time in times[path, optimizer]])
        | {"peak_memory_mb": None}
        for path, optimizer in cells
    ]
    baseline = None
    if not arguments.no_memory:
        baseline = _measure_memory(graph, rows)
    table = _table(rows, baseline)
    print(table)
    facts = {"setting": SETTING, "rounds": arguments.rounds, "import_baseline_mb": baseline}
    write_json(arguments.json, rows, **facts)
    if arguments.markdown:
        write_markdown(arguments.markdown, f"Speed of a training step: {arguments.method} on {graph}", table, __doc__)


def _show_learners(graph: Any, arguments: argparse.Namespace) -> None:
    """Measure learners, print a table, and write it where asked."""
    from benchmarks.harness import interleave, quartiles, write_json, write_markdown
    from benchmarks.learner_steps import CLOCK, learner_rows, learner_table
    from fgsam.registry import METHODS

    names = list(METHODS) if arguments.methods == ["all"] else arguments.methods
    rows = learner_rows(graph, names, SETTING, arguments.rounds)
    page, dense = learner_table(rows), {}
    if DENSE in names:
        arms = {path: _arm(graph, DENSE, path, "adam") for path in ("full_dense", "field")}
        times = interleave(arms, rounds=min(arguments.rounds, DENSE_ROUNDS), warm_up=1, clock=CLOCK)
        dense = {path: quartiles([time / EPISODES[path] for time in times[path]]) for path in arms}
        slow, fast = (dense[path]["ms_median"] for path in arms)
        dense["ratio"] = round(slow / fast, 1)
        page += (
            f"\n\n`{DENSE}` with its ten inner steps and Adam: {slow:.0f} ms a step on the full graph with dense "
            f"features, {fast:.1f} ms on the field: {slow / fast:.0f} times as fast."
        )
    print(page)
    write_json(arguments.json, rows, setting=SETTING, rounds=arguments.rounds, **{f"{DENSE}_by_path": dense})
    if arguments.markdown:
        write_markdown(arguments.markdown, f"Speed of the learners on {graph}", page, None)


def _arm(graph: Any, method: str, path: str, optimizer: str) -> Callable[[], object]:
    """One call trains on ``EPISODES[path]`` episodes."""
    import torch

    from benchmarks.full_graph import FullDense, FullGraph, FullSparse, ReleasedFGSAM, dense_parts, sparse_parts
    from fgsam.engine.episode_task import EpisodeTask
    from fgsam.engine.train import Trainer
    from fgsam.episodes.bank import EpisodeBank
    from fgsam.episodes.sampler import EpisodeSampler
    from fgsam.episodes.split import ClassSplit
    from fgsam.episodes.streams import generator
    from fgsam.nn.gcn import GCN
    from fgsam.registry import METHODS, OPTIMIZERS

    torch.manual_seed(0)
    split = ClassSplit.load("synthetic", 0)
    if path == "full_dense":
        encoder = partial(FullDense, *dense_parts(graph))
    elif path == "full_sparse":
        encoder = partial(FullSparse, *sparse_parts(graph))
    else:
        encoder = partial(GCN, graph.num_features)
    model = METHODS.load(method)(encoder)
    is_released = (path, optimizer) == ("full_dense", "fgsam")
    rule = ReleasedFGSAM if is_released else OPTIMIZERS.load(optimizer)
    task = EpisodeTask(
        graph if path == "field" else FullGraph(graph),
        EpisodeSampler(graph.labels, split.meta_train, **SETTING),
        EpisodeBank.draw(EpisodeSampler(graph.labels, split.meta_val, **SETTING), 1, generator("bank")),
    )
    # FGSAM refuses models with cached layers. Here they see one graph only, and the peer leaves their edges out.
    trained = model.parameters() if path == "full_sparse" else model
    trainer = Trainer(task, model, rule(trained, lr=0.005, weight_decay=5e-4, fused=True))
    steps = itertools.count()

    def train() -> None:
        for _ in range(EPISODES[path]):
            trainer.learn(next(steps))

    return train


def _load(name: str, file: Path | None) -> Any:
    from fgsam.data.load import load_graph

    return load_graph(name if file is None else file)


def _measure_memory(graph: Any, rows: list[dict[str, Any]]) -> float:
    """Peak of a fresh process for each row, above the same process after its imports; returns that baseline."""
    from benchmarks.graph_file import save_graph

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "graph.npz"
        save_graph(graph, file)

        def peak(cell: str) -> float:
            command = [sys.executable, "-m", "benchmarks", "episode_speed", "--memory-of", cell]
            done = subprocess.run([*command, "--graph-file", str(file)], check=True, capture_output=True, text=True)
            return float(done.stdout.split()[-1])

        baseline = peak("imports:-:-")
        for row in rows:
            row["peak_memory_mb"] = round(peak(f"{row['method']}:{row['path']}:{row['optimizer']}") - baseline, 1)
    return round(baseline, 1)


def _own_peak(file: Path, method: str, path: str, optimizer: str) -> float:
    from benchmarks import full_graph  # noqa: F401
    from fgsam.memory import peak_memory_mb
    from fgsam.registry import METHODS, OPTIMIZERS

    for table, names in ((METHODS, ("gpn", "protonet")), (OPTIMIZERS, ("adam", "sam", "fgsam", "fgsam_plus"))):
        for name in names:
            table.load(name)
    if method != "imports":
        step = _arm(_load("", file), method, path, optimizer)
        for _ in range(4):
            step()
    return peak_memory_mb()


def _table(rows: list[dict[str, Any]], baseline: float | None) -> str:
    adam = {row["path"]: row["ms_median"] for row in rows if row["optimizer"] == "adam"}
    field = {row["optimizer"]: row["ms_median"] for row in rows if row["path"] == "field"}
    lines = [] if baseline is None else [f"Memory above the imports, which take {baseline:.0f} MB.\n"]
    lines += ["| optimizer | path | ms a step (quartiles) | x field | x Adam on this path | peak MB |"]
    lines += ["|---|---|---|---|---|---|"]
    for row in rows:
        spread = f"{row['ms_median']:.2f} ({row['ms_q25']:.2f} to {row['ms_q75']:.2f})"
        ratio = f"{row['ms_median'] / field[row['optimizer']]:.1f}" if row["optimizer"] in field else ""
        to_adam = f"{row['ms_median'] / adam[row['path']]:.2f}" if row["path"] in adam else ""
        memory = "" if row["peak_memory_mb"] is None else f"{row['peak_memory_mb']:.0f}"
        lines.append(f"| {row['optimizer']} | {row['path']} | {spread} | {ratio} | {to_adam} | {memory} |")
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--markdown", type=Path, help="write the table here")
    parser.add_argument("--rounds", type=int, default=20, help="timed rounds after two of warm-up")
    parser.add_argument("--graph", default="synthetic", help="name of the graph; the default has CoraFull's size")
    parser.add_argument("--method", default="gpn")
    parser.add_argument("--methods", nargs="+", help="compare learners on fields instead: names, or all")
    parser.add_argument("--optimizers", nargs="+", default=OPTIMIZERS, choices=OPTIMIZERS)
    parser.add_argument("--paths", nargs="+", default=PATHS, choices=PATHS)
    parser.add_argument("--no-memory", action="store_true", help="leave out the fresh process for each row")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    parser.add_argument("--graph-file", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
