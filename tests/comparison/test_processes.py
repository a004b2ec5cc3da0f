from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest

from fgsam.comparison.executors import processes
from fgsam.comparison.executors.processes import Processes
from tests.comparison import jobs
from tests.comparison.launching import Launcher, is_alive, outcomes, wait_until, workers


def test_twenty_kills_lose_and_repeat_no_result():
    rng = random.Random(0)
    killed = []

    def kill():
        while len(killed) < 20:
            time.sleep(rng.uniform(0.02, 0.1))
            if found := workers():
                killed.append(rng.choice(found))
                killed[-1].kill()

    killer = threading.Thread(target=kill)
    executor = Processes(workers=2, max_tries=20)
    results = []
    for done in executor.run(jobs.slowly, range(40)):
        if not results:
            killer.start()
        results.append((done.job, done.result, done.error))
        has_kills_left = killer.is_alive()
    assert not has_kills_left, "the jobs were over before the kills"
    assert sorted(results) == [(number, number, None) for number in range(40)]


def test_workers_stay_alive_from_job_to_job():
    pids = set(outcomes(Processes(workers=2), jobs.own_process, range(10)).values())
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_by_default_the_cores_of_this_process_are_divided_by_threads(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert [Processes(threads=threads).workers for threads in (1, 3, 16)] == [8, 2, 1]


def test_one_job_starts_one_worker(tmp_path):
    with closing(Processes(workers=8).run(jobs.note_and_wait, [(str(tmp_path), 0.2)])) as results:
        next(results)
        assert len(workers()) == 1
    assert workers() == []


def test_how_a_worker_died_is_told():
    killed = outcomes(Processes(workers=1, max_tries=1), jobs.die_at_two, [2])[2]
    assert killed.message.startswith("its worker died once, with signal 9: it was killed, most often because memory")
    left = outcomes(Processes(workers=1), jobs.exit_at_two, [2])[2]
    assert left.message == "its worker died 3 times, last with exit code 7"


def test_a_result_that_cannot_be_sent_is_the_error_of_its_job():
    found = outcomes(Processes(workers=1), jobs.lambda_at_one, [0, 1, 2])
    assert "lambda" in found[1].message
    assert (found[0], found[2]) == (0, 2)


def test_a_job_that_cannot_be_sent_or_read_stops_no_other():
    given = [lambda: 0, jobs.Unreadable(), "fine"]
    found = [done.error and done.error.name for done in Processes(workers=1).run(jobs.text, given)]
    assert found[1:] == ["ValueError", None]
    assert found[0] in ("PicklingError", "AttributeError")


def test_a_signal_lets_running_jobs_save_and_ends_the_iteration(tmp_path):
    threading.Thread(target=lambda: (wait_until(lambda: len(begun(tmp_path)) == 2), terminate_one(tmp_path))).start()
    found = [done.error for done in Processes(workers=2).run(jobs.save_when_asked, [str(tmp_path)] * 5)]
    assert [error.kind for error in found] == ["interrupted"] * 2
    assert len(list(tmp_path.glob("saved-*"))) == 2
    assert workers() == []


def begun(folder):
    return [int(path.name.removeprefix("begun-")) for path in folder.glob("begun-*")]


def terminate_one(folder):
    os.kill(begun(folder)[0], signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_launcher_that_is_stopped_lets_its_jobs_save_and_prints_nothing(tmp_path, number):
    launcher = Launcher(tmp_path, "processes")
    os.killpg(launcher.process.pid, number)  # as a terminal does: all processes of the group
    assert launcher.end() == 130
    assert len(list((tmp_path / "jobs").glob("saved-*"))) == 2
    assert not any(is_alive(pid) for pid in launcher.pids)
    assert launcher.output.read_text() == ""


def test_a_worker_that_does_not_stop_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "STOP_SECONDS", 0.3)
    with closing(Processes(workers=2).run(jobs.ignore_signals, ["", str(tmp_path)])) as results:
        next(results)
        wait_until(lambda: list(tmp_path.iterdir()))
    assert workers() == []


def test_a_script_without_a_guard_is_told_so(tmp_path):
    program = """
from fgsam.comparison.executors.processes import Processes
from tests.comparison.jobs import double
try:
    list(Processes(workers=1).run(double, [1]))
except RuntimeError as error:
    if "Expected" in str(error):
        print(error)
    raise
"""
    script = tmp_path / "script.py"
    script.write_text(program)
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.getcwd()}
    )
    assert "Expected a worker process to start (it ended with exit code 1 before its first job" in done.stdout
    assert 'if __name__ == "__main__":' in done.stdout
