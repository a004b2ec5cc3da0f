"""Jobs side by side in processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, Generic

from fgsam.checks import check_count
from fgsam.comparison.executors.agenda import Agenda, Ticket
from fgsam.comparison.executors.base import MAX_TRIES, Done, J, JobError, Postponed, R, attempt
from fgsam.comparison.executors.machine import environment, held_signals, num_workers, thread_settings

STOP_SECONDS = 30.0
"""How long a worker that is told to stop may take to save its work."""

HANG_UP_SECONDS = 5.0
"""How long a process may take to end after its pipe has closed."""

CONTEXT = multiprocessing.get_context("spawn")
"""Fresh processes: a fork would share locks and thread pools of libraries that are loaded already."""

READY = b"ready"


class Processes:
    """Runs jobs in processes that stay alive from job to job, so that libraries are imported once in each.

    A job whose worker dies, killed or out of memory, is started again on a fresh one. Ctrl-C reaches the launcher
    alone; it tells its workers by SIGTERM, gives them 30 seconds and kills what is left then. Workers whose launcher
    dies end at once. As with every module that starts processes, a script must start its work under
    ``if __name__ == "__main__":``.

    Args:
        workers: How many processes; by default the cores of this process divided by ``threads``.
        threads: Threads of the numerical libraries in each worker, at least 1.
        max_tries: How often a job is started whose worker dies each time, at least 1.
    """

    def __init__(self, *, workers: int | None = None, threads: int = 1, max_tries: int = MAX_TRIES) -> None:
        check_count(max_tries=max_tries)
        self.workers = num_workers(workers, threads)
        self.threads = threads
        self.max_tries = max_tries

    def run(self, function: Callable[[J], R | Postponed], jobs: Iterable[J]) -> Iterator[Done[J, R]]:
        """Call a function with each job, and yield every job once, in the order of finishing; see ``Executor``.

        Raises:
            RuntimeError: If workers cannot start.
        """
        team = _Team(self, function, jobs)
        try:
            while True:
                yield from team.hand_out()
                if team.is_finished:
                    return
                for done in team.listen():
                    yield done
                    if done.is_interrupted:
                        yield from team.last_words()
                        return
        finally:
            team.stop()


class _Worker(Generic[J]):
    """One process, seen from the launcher."""

    def __init__(self, threads: int) -> None:
        self.ticket: Ticket[J] | None = None
        self.is_ready = False
        self.connection, other = CONTEXT.Pipe()
        with other, held_signals(signal.SIGINT, signal.SIGTERM), environment(thread_settings(threads)):
            self.process = CONTEXT.Process(target=_work, args=(other,), name="fgsam worker")
            self.process.start()

    def give(self, ticket: Ticket[J], message: bytes) -> None:
        self.ticket = ticket
        with suppress(OSError):  # that it has died is heard where it is listened to
            self.connection.send_bytes(message)

    def exit_code(self) -> int:
        """Wait for the end of a worker that has hung up."""
        self.process.join(HANG_UP_SECONDS)
        self.process.kill()
        self.process.join()
        return int(self.process.exitcode or 0)


class _Team(Generic[J, R]):
    """The workers of one call of ``run``, and what is left for them."""

    def __init__(self, settings: Processes, function: Callable[[J], R | Postponed], jobs: Iterable[J]) -> None:
        self.settings = settings
        self.function = function
        self.agenda = Agenda(jobs)
        self.workers: list[_Worker[J]] = []

    @property
    def has_room(self) -> bool:
        """Whether some worker is free, or one more may be started."""
        return len(self.workers) < self.settings.workers or any(worker.ticket is None for worker in self.workers)

    @property
    def is_finished(self) -> bool:
        return self.agenda.pause() is None and all(worker.ticket is None for worker in self.workers)

    def hand_out(self) -> Iterator[Done[J, R]]:
        """Give jobs to all workers that are free; yields those that cannot be sent to another process."""
        while self.has_room and (ticket := self.agenda.take()) is not None:
            message, error = attempt(pickle.dumps, (self.function, ticket.job))
            if message is None:
                yield Done(ticket.job, error=error)
                continue
            free = next((worker for worker in self.workers if worker.ticket is None), None)
            if free is None:
                free = _Worker(self.settings.threads)
                self.workers.append(free)
            free.give(ticket, message)

    def listen(self, timeout: float | None = None) -> Iterator[Done[J, R]]:
        """Wait until some worker has something to say, or a postponed job is due; yields the jobs that are over."""
        if timeout is None and self.has_room:
            timeout = self.agenda.pause()
        speaking = wait([worker.connection for worker in self.workers], timeout)
        for worker in [worker for worker in self.workers if worker.connection in speaking]:
            try:
                message = worker.connection.recv_bytes()
            except (EOFError, OSError):
                yield from self._replace(worker)
                continue
            if worker.is_ready:
                yield from self._hear(worker, message)
            worker.is_ready = True

    def last_words(self) -> Iterator[Done[J, R]]:
        """Tell all workers to stop; yields the jobs that end by that."""
        deadline = time.monotonic() + STOP_SECONDS
        for worker in self.workers:
            if worker.ticket is not None:
                worker.process.terminate()
        while any(worker.ticket is not None for worker in self.workers) and time.monotonic() < deadline:
            yield from self.listen(timeout=deadline - time.monotonic())

    def stop(self) -> None:
        """End all workers: those with a job get time to save it."""
        try:
            for worker in self.workers:
                worker.connection.close()
                if worker.ticket is not None:
                    worker.process.terminate()
            deadline = time.monotonic() + STOP_SECONDS
            for worker in self.workers:
                worker.process.join(max(0.0, deadline - time.monotonic()))
        finally:  # also when Ctrl-C comes a second time
            for worker in self.workers:
                worker.process.kill()
            for worker in self.workers:
                worker.process.join()

    def _hear(self, worker: _Worker[J], message: bytes) -> Iterator[Done[J, R]]:
        ticket, worker.ticket = worker.ticket, None
        assert ticket is not None
        outcome, unread = attempt(pickle.loads, message)
        result, error = outcome or (None, unread)
        if isinstance(result, Postponed):
            self.agenda.postpone(ticket)
        else:
            yield Done(ticket.job, result, error)

    def _replace(self, worker: _Worker[J]) -> Iterator[Done[J, R]]:
        """Leave a dead worker out; its job is given out again, or yielded where that was tried often enough."""
        self.workers.remove(worker)
        worker.connection.close()
        exit_code, ticket = worker.exit_code(), worker.ticket
        if not worker.is_ready and exit_code > 0:
            raise RuntimeError(
                f"Expected a worker process to start (it ended with exit code {exit_code} before its first job; its "
                "output tells why). In a script, put what starts the work under 'if __name__ == \"__main__\":'."
            )
        if ticket is None:
            return
        ticket.num_deaths += 1
        if ticket.num_deaths < self.settings.max_tries:
            self.agenda.repeat(ticket)
        else:
            yield Done(ticket.job, error=_death(ticket.num_deaths, exit_code))


def _death(num_deaths: int, exit_code: int) -> JobError:
    if exit_code == -signal.SIGKILL:
        cause = "signal 9: it was killed, most often because memory ran out. Try fewer workers"
    elif exit_code < 0:
        cause = f"signal {-exit_code}: {signal.strsignal(-exit_code)}"
    else:
        cause = f"exit code {exit_code}"
    times = "once," if num_deaths == 1 else f"{num_deaths} times, last"
    return JobError("died", "WorkerDied", f"its worker died {times} with {cause}")


def _work(connection: Connection) -> None:
    """What a worker does: one job after another, until its launcher hangs up or tells it to stop."""
    os.setpgid(0, 0)  # so that Ctrl-C on a terminal does not come here, beside the word of the launcher
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # and what has come already is forgotten
    with suppress(EOFError, OSError, KeyboardInterrupt):
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        threading.Thread(target=_end_with_launcher, daemon=True).start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
        connection.send_bytes(READY)
        while True:
            connection.send_bytes(_answer(connection.recv_bytes()))


def _answer(message: bytes) -> bytes:
    """Do the job of a message; what goes wrong on the way, in reading it or in sending the result, is its error."""
    try:
        outcome = attempt(_call, message)
    except KeyboardInterrupt as stop:
        outcome = None, JobError.of(stop)
    packed, unsent = attempt(pickle.dumps, outcome)
    return packed or pickle.dumps((None, unsent))


def _call(message: bytes) -> Any:
    function, job = pickle.loads(message)
    return function(job)


def _end_with_launcher() -> None:
    launcher = multiprocessing.parent_process()
    assert launcher is not None
    launcher.join()
    os._exit(1)
