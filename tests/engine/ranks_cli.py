"""The command line as each rank of ``test_ranks`` runs it: with a checkpoint after every step, and a way to be hurt.

``HURT`` holds a step and what the second rank does in it: ``kill`` itself, or ``stop`` torchrun by SIGTERM.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import Any

from fgsam.cli import main
from fgsam.engine import record
from fgsam.engine.episode_task import EpisodeTask

draw = EpisodeTask.draw


def hurt(task: EpisodeTask, stream: Sequence[str | int], step: int) -> Any:
    at, what = os.environ.get("HURT", "0 none").split()
    if step == int(at) and os.environ.get("RANK") == "1":
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        os.kill(os.getppid(), signal.SIGTERM)
    return draw(task, stream, step)


if __name__ == "__main__":
    record.SAVE_SECONDS = 0.0
    EpisodeTask.draw = hurt  # type: ignore[method-assign]
    main()
