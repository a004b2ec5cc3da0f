"""What the training steps of every learner spend their time on; ``episode_speed --methods`` shows it."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.harness import Arm, interleave, quartiles
from fgsam.engine.config import load_config
from fgsam.engine.config_model import FewShotConfig
from fgsam.engine.data import Data, build_data
from fgsam.engine.evaluate import BankScorer, floor_hits
from fgsam.engine.stopwatch import STAGES, Stopwatch
from fgsam.engine.train import Trainer
from fgsam.graph.graph import Graph
from fgsam.methods import smoothing
from fgsam.nn.gcn import GCN
from fgsam.registry import METHODS, OPTIMIZERS

OPTIMIZED_BY = ("adam", "fgsam", "fgsam_plus")
STEPS = 4
"""Steps in a timed call: whole periods of FGSAM+, whose two steps differ."""

TESTED = 20
"""Test episodes scored in a timed call."""

NOTE = f"""Milliseconds of processor time on one thread, medians: a training step, with a GCN of two layers on
fields, and a test episode, of {TESTED}. Arms take turns. `fit` is a floor's choice of its setting on as many validation
episodes, measured once. Shares of an `fgsam` step:"""

WARM_UP = 2

CLOCK = time.thread_time
"""Processor time of this thread, the only one: it leaves out what other processes take."""

Row = dict[str, Any]


def learner_rows(graph: Graph, names: Sequence[str], setting: dict[str, int], rounds: int) -> list[Row]:
    """Measure every learner: its steps, the stages of an FGSAM step, and a test episode.

    Args:
        graph: What it learns on; a GCN is the encoder throughout.
        names: Entries of the registry.
        setting: Shape of an episode.
        rounds: Calls of each arm that count.
    """
    values = {"episode": setting, "train": {"val_episodes": TESTED}, "evaluate": {"num_episodes": TESTED}}
    config = load_config(values=values)
    assert isinstance(config, FewShotConfig)
    data = build_data(config, graph)
    arms: dict[tuple[str, str], Arm] = {}
    stages: dict[str, list[dict[str, float]]] = {}
    fitting: dict[str, float] = {}
    for name in names:
        if METHODS.load(name).is_trained:
            for optimizer in OPTIMIZED_BY:
                seen = stages.setdefault(name, []) if optimizer == "fgsam" else []
                arms[name, optimizer] = _training(data, name, optimizer, seen)
            arms[name, "score"] = _scoring(data, _made(data, name))
        else:
            arms[name, "score"], fitting[name] = _answering(data, name)
    times = interleave(arms, rounds=rounds, warm_up=WARM_UP, clock=CLOCK)
    return [_row(name, times, stages.get(name, [])[WARM_UP:], fitting.get(name)) for name in names]


def learner_table(rows: list[Row]) -> str:
    """The rows as a table, and what its columns are."""
    heads = ["learner", "adam", "fgsam (quartiles)", "fgsam_plus", *STAGES, "a test episode", "fit"]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for row in rows:
        cells = [""] * (len(OPTIMIZED_BY) + len(STAGES))
        if "fgsam" in row:
            middle = row["fgsam"]
            spread = f"{middle['ms_median']:.1f} ({middle['ms_q25']:.1f} to {middle['ms_q75']:.1f})"
            cells = [f"{row['adam']['ms_median']:.1f}", spread, f"{row['fgsam_plus']['ms_median']:.1f}"]
            cells += [f"{100 * row['share'][stage]:.0f} %" for stage in STAGES]
        fit = "" if row["fit_seconds"] is None else f"{row['fit_seconds']:.1f} s"
        lines.append(f"| {' | '.join([row['method'], *cells, format(row['score']['ms_median'], '.2f'), fit])} |")
    lines += ["", NOTE, "", *(f"- {stage}: {about}" for stage, about in STAGES.items())]
    return "\n".join(lines)


def _row(name: str, times: dict[Any, list[float]], stages: list[dict[str, float]], fit_seconds: float | None) -> Row:
    row: Row = {"method": name, "fit_seconds": fit_seconds}
    for (method, what), found in times.items():
        if method == name:
            row[what] = quartiles([ms / (TESTED if what == "score" else STEPS) for ms in found])
    if stages:
        middle = {stage: statistics.median(seconds.get(stage, 0.0) / STEPS for seconds in stages) for stage in STAGES}
        row["stage_ms"] = {stage: round(1e3 * seconds, 3) for stage, seconds in middle.items()}
        row["share"] = {stage: round(seconds / sum(middle.values()), 4) for stage, seconds in middle.items()}
    return row


def _training(data: Data, name: str, optimizer: str, seen: list[dict[str, float]]) -> Arm:
    """Take some steps, and note what they spent on each stage."""
    learner = _made(data, name)
    watch: Any = Stopwatch(data.task(learner))
    trainer = Trainer(watch, learner, OPTIMIZERS.load(optimizer)(learner, lr=0.005, weight_decay=5e-4, fused=True))
    steps = itertools.count(1)

    def train() -> None:
        with watch.whole():
            for _ in range(STEPS):
                trainer.learn(next(steps))
        seen.append(dict(watch.seconds))

    return train


def _scoring(data: Data, learner: Any) -> Arm:
    return lambda: BankScorer(data.graph, data.test_bank).score(learner)


def _answering(data: Data, name: str) -> tuple[Callable[[], object], float]:
    """Answer the test episodes by a floor, and the seconds that its choice of a setting took."""
    floor = METHODS.load(name)()
    smoothing._cache.clear()  # a floor would find what an earlier one has smoothed
    start = CLOCK()
    floor.fit(data.graph, data.val_bank)
    return lambda: floor_hits(floor, data.test_bank), round(CLOCK() - start, 2)


def _made(data: Data, name: str) -> Any:
    torch.manual_seed(0)
    entry = METHODS.load(name)
    return entry(lambda: GCN(data.graph.num_features), *data.given(entry))
