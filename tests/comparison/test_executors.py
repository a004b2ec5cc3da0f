"""The promises of every executor."""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing

import pytest

from fgsam.comparison.executors.cluster import Dask, local_cluster
from fgsam.comparison.executors.inline import Inline
from fgsam.comparison.executors.processes import Processes
from fgsam.registry import EXECUTORS
from tests.comparison import jobs
from tests.comparison.launching import Launcher, is_alive, outcomes, wait_until

OWN = {"inline": Inline, "processes": lambda: Processes(workers=2), "dask": lambda: Dask(workers=2)}


@pytest.fixture(scope="module")
def dask_address():
    """The scheduler of two workers on this machine, for the tests that only need some."""
    with local_cluster(2) as cluster:
        yield cluster.scheduler_address


@pytest.fixture(params=sorted(EXECUTORS))
def executor(request):
    if request.param == "dask":
        return Dask(request.getfixturevalue("dask_address"))
    return OWN[request.param]()


@pytest.fixture(params=["processes", "dask"])
def surviving(request):
    """An executor whose workers are other processes."""
    return Dask(request.getfixturevalue("dask_address")) if request.param == "dask" else OWN[request.param]()


def test_every_listed_executor_is_tested():
    assert set(OWN) == set(EXECUTORS)
    assert [EXECUTORS.load(name) for name in sorted(EXECUTORS)] == [Dask, Inline, Processes]


def test_every_job_is_yielded_once_with_its_result(executor):
    assert outcomes(executor, jobs.double, range(12)) == {number: 2 * number for number in range(12)}


def test_no_jobs_give_nothing(executor):
    assert outcomes(executor, jobs.double, []) == {}


def test_an_exception_is_the_error_of_its_job_alone(executor):
    found = outcomes(executor, jobs.fail_at_three, range(6))
    raised, left = found.pop(3), found.pop(4)
    assert (raised.kind, raised.name, raised.message) == ("raised", "ValueError", "three is not allowed")
    assert "in fail_at_three" in raised.traceback
    assert (left.kind, left.name, left.message) == ("raised", "SystemExit", "four leaves")
    assert found == {number: number for number in (0, 1, 2, 5)}


def test_jobs_are_taken_one_at_a_time_in_their_order(executor):
    taken = []

    def slowly():
        for number in range(8):
            taken.append(number)
            yield number

    for count, _ in enumerate(executor.run(jobs.double, slowly()), start=1):
        assert taken == list(range(len(taken)))
        assert len(taken) - count < 2  # of two workers, the one that is over asks for no more yet


def test_a_postponed_job_is_given_out_until_it_can_be_done(executor, tmp_path):
    given = [(str(tmp_path), number) for number in range(4)]
    assert outcomes(executor, jobs.last_of_four, given) == {entry: entry[1] for entry in given}


def test_a_postponed_job_comes_after_the_others(tmp_path):
    given = [(str(tmp_path), number) for number in range(4)]
    assert [done.result for done in Inline().run(jobs.last_of_four, given)] == [1, 2, 3, 0]


def test_a_postponed_job_is_asked_for_after_growing_pauses(executor, tmp_path):
    assert outcomes(executor, jobs.create_at_third_ask, [str(tmp_path)]) == {str(tmp_path): 2}
    first, second, third = (float((tmp_path / str(ask)).read_text()) for ask in range(3))
    assert second - first >= 0.1
    assert third - second >= 0.2


def test_an_interrupted_job_ends_the_iteration(executor):
    found = outcomes(executor, jobs.interrupt_at_two, range(200))
    assert (found[2].kind, found[2].name, found[2].message) == ("interrupted", "Interrupted", "saved at step 7")
    assert len(found) < 10


def test_large_jobs_and_results_arrive(executor):
    given = ["a" * 2_000_000, "b" * 2_000_000, "c"]
    assert outcomes(executor, jobs.text, given) == {text: text for text in given}


def test_an_error_of_the_jobs_themselves_goes_through(executor):
    def broken():
        yield 1
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        outcomes(executor, jobs.double, broken())


# What executors with other processes promise.


def test_a_killed_job_is_started_again(surviving, tmp_path):
    given = [str(tmp_path / str(number)) for number in range(3)]
    assert outcomes(surviving, jobs.die_at_first, given) == dict.fromkeys(given, "done")


def test_a_job_that_always_kills_its_worker_is_an_error_of_its_own(surviving):
    found = outcomes(surviving, jobs.die_at_two, range(8))
    error = found.pop(2)
    assert (error.kind, error.name) == ("died", "WorkerDied")
    assert error.message.startswith("its worker died 3 times")
    assert found == {number: number for number in (0, 1, 3, 4, 5, 6, 7)}


@pytest.mark.parametrize("name", ["processes", "dask"])
def test_leaving_early_leaves_no_process(name, tmp_path):
    with closing(OWN[name]().run(jobs.note_and_wait, [(str(tmp_path), 0.0), *[(str(tmp_path), 60.0)] * 3])) as results:
        assert next(results).result == 0.0
        wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
        pids = [int(path.name) for path in tmp_path.iterdir()]
        assert all(is_alive(pid) for pid in pids)
        started = time.monotonic()
    assert time.monotonic() - started < 15
    assert not any(is_alive(pid) for pid in pids)


@pytest.mark.parametrize(("kind", "threads"), [(Processes, 1), (Processes, 3), (Dask, 3)])
def test_workers_are_told_their_threads(kind, threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    before = dict(os.environ)
    assert outcomes(kind(workers=1, threads=threads), jobs.environment_of_threads, [0]) == {0: str(threads)}
    assert dict(os.environ) == before


@pytest.mark.parametrize("kind", [Processes, Dask])
def test_bad_numbers_are_refused(kind):
    for name in ("workers", "threads", "max_tries"):
        with pytest.raises(ValueError, match=f"Expected '{name}' to be a whole number, at least 1"):
            kind(**{name: 0})


@pytest.mark.parametrize("name", ["processes", "dask"])
def test_workers_end_with_a_killed_launcher(tmp_path, name):
    launcher = Launcher(tmp_path, name)
    launcher.process.kill()
    assert launcher.end() == -signal.SIGKILL
    wait_until(lambda: not any(is_alive(pid) for pid in launcher.pids))
