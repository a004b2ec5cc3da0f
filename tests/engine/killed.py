"""What the processes of ``test_kill`` do: one slow run that tells its steps."""

from __future__ import annotations

import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fgsam.engine import record
from fgsam.engine.callbacks import Callback
from fgsam.engine.interrupts import Interrupted
from tests.engine.tiny import tiny_run

OPTIONS: dict[str, Any] = {"method": "protonet", "optimizer": "fgsam_plus", "num_episodes": 60, "patience": 60}
INTERRUPTED = 130


class Slow(Callback):
    """Sends the number of each step, and waits a moment."""

    def __init__(self, channel: Connection) -> None:
        self.channel = channel

    def on_step(self, trainer: Any) -> None:
        self.channel.send(trainer.step)
        time.sleep(0.01)


def work(root: Path, channel: Connection) -> None:
    record.SAVE_SECONDS = 0.05
    try:
        found = tiny_run(root, **OPTIONS, callbacks=[Slow(channel)])
    except Interrupted as error:
        channel.send(str(error))
        sys.exit(INTERRUPTED)
    channel.send(found.results["weights_digest"])
