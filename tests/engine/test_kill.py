"""Real processes, killed for real; ``benchmarks/kill_resume.py`` is the long form."""

from __future__ import annotations

import json
import os
import random
import signal
import time

import pytest

from tests.engine.killed import INTERRUPTED, OPTIONS, work
from tests.engine.tiny import tiny_run
from tests.processes import CONTEXT


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return tiny_run(tmp_path_factory.mktemp("whole"), **OPTIONS).results


class Worker:
    """One process on the run of a folder."""

    def __init__(self, root):
        self.channel, other = CONTEXT.Pipe(duplex=False)
        self.process = CONTEXT.Process(target=work, args=(root, other))
        self.process.start()
        other.close()

    def first_message(self):
        assert self.channel.poll(60), "no step within a minute"
        return self.channel.recv()

    def messages(self):
        """Everything that the process still has to say, until its end."""
        heard = []
        try:
            while self.channel.poll(60):
                heard.append(self.channel.recv())
        except EOFError:
            pass
        self.process.join(60)
        return heard

    def send(self, number):
        os.kill(self.process.pid, number)


def result_in(root):
    (path,) = root.glob("*/result.json")
    return json.loads(path.read_text())["results"]


def test_a_run_killed_at_random_moments_ends_with_the_same_results(whole, tmp_path):
    rng = random.Random(0)
    first_steps = []
    for _ in range(3):
        worker = Worker(tmp_path)
        first_steps.append(worker.first_message())
        time.sleep(rng.uniform(0.1, 0.3))
        worker.send(signal.SIGKILL)
        worker.process.join(60)
        assert worker.process.exitcode == -signal.SIGKILL
    assert first_steps == sorted(first_steps)
    assert first_steps[-1] > 1  # it did go on from a checkpoint
    assert Worker(tmp_path).messages()[-1] == whole["weights_digest"]
    assert result_in(tmp_path) == whole
    assert not list(tmp_path.glob("*/.*.part"))


def test_sigterm_ends_at_the_next_episode_and_the_run_goes_on_later(whole, tmp_path):
    worker = Worker(tmp_path)
    worker.first_message()
    worker.send(signal.SIGTERM)
    assert "go on from there" in worker.messages()[-1]
    assert worker.process.exitcode == INTERRUPTED
    assert not list(tmp_path.glob("*/result.json"))
    assert Worker(tmp_path).messages()[-1] == whole["weights_digest"]
    assert result_in(tmp_path) == whole


def test_two_processes_on_one_config_compute_it_once(whole, tmp_path):
    workers = [Worker(tmp_path) for _ in range(2)]
    heard = [worker.messages() for worker in workers]
    assert [messages[-1] for messages in heard] == [whole["weights_digest"]] * 2
    assert sorted(len(messages) for messages in heard) == [
        1,
        whole["num_episodes"] + 1,
    ]  # one of them took no step at all
    assert result_in(tmp_path) == whole
