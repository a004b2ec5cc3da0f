"""What the jobs of ``test_executors`` do; light, so that a worker starts quickly."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import closing
from pathlib import Path

from fgsam.comparison.executors.base import Postponed
from fgsam.engine.interrupts import Interrupted, Interrupts
from fgsam.registry import EXECUTORS


def double(number):
    return 2 * number


def fail_at_three(number):
    if number == 3:
        raise ValueError("three is not allowed")
    if number == 4:
        sys.exit("four leaves")
    return number


def interrupt_at_two(number):
    if number == 2:
        raise Interrupted("saved at step 7")
    return number


def die_at_first(marker):
    """Leave a marker and be killed; where there is one, be done."""
    try:
        Path(marker).touch(exist_ok=False)
    except FileExistsError:
        return "done"
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_two(number):
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def exit_at_two(number):
    if number == 2:
        os._exit(7)
    return number


def slowly(number):
    time.sleep(0.1)
    return number


def last_of_four(entry):
    """Number 0 is postponed until the three others have left their marks."""
    folder, number = entry
    if number == 0 and len(list(Path(folder).iterdir())) < 3:
        return Postponed()
    Path(folder, str(number)).touch()
    return number


def create_at_third_ask(folder):
    """Be postponed twice."""
    count = len(list(Path(folder).iterdir()))
    Path(folder, str(count)).write_text(str(time.monotonic()))
    return count if count == 2 else Postponed()


def own_process(number):
    time.sleep(0.02)
    return os.getpid()


def note_and_wait(entry):
    """Note the process in a folder, and take a while."""
    folder, seconds = entry
    Path(folder, str(os.getpid())).touch()
    time.sleep(seconds)
    return seconds


def environment_of_threads(number):
    return os.environ.get("OMP_NUM_THREADS")


def lambda_at_one(number):
    return (lambda: number) if number == 1 else number


def text(job):
    return str(job)


class Unreadable:
    """Raises where it arrives."""

    def __reduce__(self):
        return int, ("not a number",)


def save_when_asked(folder):
    """Wait for a signal as a run does, and save then."""
    with Interrupts() as interrupts:
        Path(folder, f"begun-{os.getpid()}").touch()
        while not interrupts.requested:
            time.sleep(0.01)
        time.sleep(0.1)
        Path(folder, f"saved-{os.getpid()}").touch()
        raise Interrupted("saved")


def ignore_signals(folder):
    """Work on, whoever asks to stop; without a folder, be done."""
    if not folder:
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    Path(folder, str(os.getpid())).touch()
    time.sleep(60)


def launch(executor, job, output):
    """A launcher of two workers, for tests that end it from outside."""
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT, 0o644)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with closing(EXECUTORS.load(executor)(workers=2).run(save_when_asked, [job, job, job])) as results:
            for _ in results:
                pass
    except KeyboardInterrupt:
        sys.exit(130)
