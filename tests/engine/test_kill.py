"""Real processes, killed for real; ``benchmarks/kill_resume.py`` is the long form."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.engine.tiny import tiny_run

PROGRAM = """
import sys
from fgsam.engine import record
from fgsam.engine.callbacks import Callback
from fgsam.engine.interrupts import Interrupted
from tests.engine.tiny import tiny_run
import time

class Slow(Callback):
    def on_step(self, trainer):
        print(trainer.step, flush=True)
        time.sleep(0.01)

record.SAVE_SECONDS = 0.05
try:
    found = tiny_run(sys.argv[1], method="protonet", optimizer="fgsam_plus", num_episodes=60, callbacks=[Slow()])
except Interrupted as error:
    print(error, file=sys.stderr)
    sys.exit(130)
print(found.results["weights_digest"], flush=True)
"""

OPTIONS = {"method": "protonet", "optimizer": "fgsam_plus", "num_episodes": 60}
CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return tiny_run(tmp_path_factory.mktemp("whole"), **OPTIONS).results


def start(root):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{CHECKOUT}:{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-c", PROGRAM, str(root)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def begin_training(process):
    """Wait for the first step of this process and return its number."""
    line = process.stdout.readline()
    assert line, process.stderr.read()
    return int(line)


def result_in(root):
    (path,) = root.glob("*/result.json")
    return json.loads(path.read_text())["results"]


def test_a_run_killed_at_random_moments_ends_with_the_same_results(whole, tmp_path):
    rng = random.Random(0)
    first_steps = []
    for _ in range(3):
        process = start(tmp_path)
        first_steps.append(begin_training(process))
        time.sleep(rng.uniform(0.1, 0.25))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert first_steps == sorted(first_steps)
    assert first_steps[-1] > 1  # it did go on from checkpoints
    output, errors = start(tmp_path).communicate()
    assert output.splitlines()[-1:] == [whole["weights_digest"]], errors
    assert result_in(tmp_path) == whole
    assert not list(tmp_path.glob("*/.*.part"))


def test_sigterm_ends_at_the_next_episode_and_the_run_goes_on_later(whole, tmp_path):
    process = start(tmp_path)
    begin_training(process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "go on from there" in errors
    assert not list(tmp_path.glob("*/result.json"))
    start(tmp_path).communicate()
    assert result_in(tmp_path) == whole


def test_two_processes_on_one_config_compute_it_once(whole, tmp_path):
    processes = [start(tmp_path) for _ in range(2)]
    outputs = [process.communicate()[0].splitlines() for process in processes]
    assert [lines[-1] for lines in outputs] == [whole["weights_digest"]] * 2
    assert sorted(len(lines) for lines in outputs) == [1, 61]  # one of them took no step at all
    assert result_in(tmp_path) == whole
