"""What each of two ranks does for ``test_ranks``, with the environment that torchrun gives; findings go to a file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

from fgsam.engine import record
from fgsam.engine.callbacks import Callback
from fgsam.engine.episode_task import EpisodeTask
from fgsam.engine.interrupts import Interrupted
from fgsam.engine.run import Run
from tests.engine.tiny import tiny_graph, tiny_run

OPTIONS: dict[str, Any] = {"method": "gpn", "encoder": {"name": "gcn", "dropout": 0.5}}
JOINT: dict[str, Any] = {**OPTIONS, "episodes_per_step": 2}


def facts(found: Run) -> dict[str, Any]:
    """What ranks, and one process, are compared by."""
    return {
        "name": found.directory.name,
        "digest": found.results["weights_digest"],
        "test": found.results["test_accuracy"],
        "log": found.history,
    }


class Stop(Callback):
    """Asks the run to stop after a step, on the rank that it is made on."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, trainer: Any) -> None:
        if trainer.step == self.step:
            os.kill(os.getpid(), 15)


def failure(folder: Path, **options: Any) -> str:
    """How a run ends that cannot be finished."""
    try:
        tiny_run(folder, **options)
    except (Interrupted, RuntimeError, ValueError, OSError, ZeroDivisionError) as error:
        return f"{type(error).__name__}: {error}"
    return "finished"


def with_an_error_on_the_second_rank(folder: Path) -> str:
    """How a run ends in which one rank cannot draw an episode."""
    draw = EpisodeTask.draw

    def faulty(task: EpisodeTask, stream: Any, step: int) -> Any:
        episode = draw(task, stream, step)
        return None if step == 3 and os.environ["RANK"] == "1" else episode

    EpisodeTask.draw = faulty  # type: ignore[method-assign]
    try:
        return failure(folder, optimizer="sam", **JOINT)
    finally:
        EpisodeTask.draw = draw  # type: ignore[method-assign]


def main(folder: Path) -> None:
    """Run everything, in the same order on both ranks."""
    torch.set_num_threads(1)
    record.SAVE_SECONDS = 0.0
    by_rank = {**JOINT, "optimizer": "fgsam_plus", "perturbation": "per_rank"}
    found: dict[str, Any] = {"rank": os.environ["RANK"]}
    for optimizer in ("sam", "fgsam_plus"):
        found[optimizer] = facts(tiny_run(folder / "global", optimizer=optimizer, **JOINT))
    found["four episodes"] = facts(tiny_run(folder / "four", optimizer="sam", **{**JOINT, "episodes_per_step": 4}))
    found["per_rank"] = facts(tiny_run(folder / "by rank", **by_rank))
    found["stopped"] = failure(folder / "stopped", callbacks=[Stop(5)], **by_rank)
    found["resumed"] = facts(tiny_run(folder / "stopped", **by_rank))
    found["one fails"] = with_an_error_on_the_second_rank(folder / "failing")
    found["odd"] = failure(folder / "odd", optimizer="sam", **{**OPTIONS, "episodes_per_step": 5})
    found["weighing"] = failure(folder / "weighing", optimizer="esam", **JOINT)
    graph = tiny_graph() if os.environ["RANK"] == "0" else "none.npz"
    found["no graph"] = failure(folder / "none", **JOINT, graph=graph)
    (folder / f"{os.environ['RANK']}.json").write_text(json.dumps(found))
