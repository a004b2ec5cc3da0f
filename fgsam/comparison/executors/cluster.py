"""Jobs on a cluster, through Dask."""

from __future__ import annotations

import logging
import queue
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from fgsam.checks import check_count
from fgsam.comparison.executors.agenda import Agenda, Ticket
from fgsam.comparison.executors.base import MAX_TRIES, Done, J, JobError, Postponed, R, attempt
from fgsam.comparison.executors.machine import environment, held_signals, num_workers, thread_settings

CONNECT_SECONDS = 10.0
"""How long a scheduler may take to answer."""

LOOK_SECONDS = 1.0
"""How often workers are counted: they may join and leave at any time."""

RESULT_SECONDS = 10.0
"""How long a result may take to arrive from the worker that has it."""

LOST = (
    "Expected the Dask scheduler to stay until all jobs are done (it has left). Start it again, and give the same "
    "command: what is done is kept."
)


class Dask:
    """Runs jobs on the workers of a Dask scheduler, one at a time on each.

    Without an address, a cluster on this machine starts and ends with the iteration; it listens on loopback only.
    Elsewhere, start a scheduler and workers, on machines that share the folders of the jobs and have the same
    packages::

        dask scheduler --host 10.0.0.1
        OMP_NUM_THREADS=1 dask worker tcp://10.0.0.1:8786 --nworkers 8 --nthreads 1

    On Slurm, and likewise on PBS, LSF or SGE, ``dask-jobqueue`` submits the workers and gives the address::

        from dask_jobqueue import SLURMCluster

        cluster = SLURMCluster(cores=8, processes=8, memory="32GB", walltime="12:00:00")
        cluster.scale(jobs=4)
        Dask(cluster.scheduler_address)

    Whoever reaches a scheduler can run any program on its workers: keep it in a trusted network.

    A job whose worker is lost is started again by Dask. Where it gives up, the job has an error: after ``max_tries``
    on a cluster of this machine, elsewhere after as many as the scheduler allows (its setting
    ``distributed.scheduler.allowed-failures``). Dask cannot stop a job that runs on a worker: after Ctrl-C the
    processes of this machine are killed, while a worker elsewhere finishes the job that it has begun.

    Args:
        address: Where the scheduler listens, as in ``tcp://10.0.0.1:8786``; None for a cluster on this machine.
        workers: How many processes on this machine; by default its cores divided by ``threads``.
        threads: Threads of the numerical libraries in each worker of this machine, at least 1.
        max_tries: How often a job is started whose worker dies each time, on this machine, at least 1.

    Raises:
        RuntimeError: If Dask is not installed.
        ValueError: If workers are asked for at an address.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        workers: int | None = None,
        threads: int = 1,
        max_tries: int = MAX_TRIES,
    ) -> None:
        check_count(max_tries=max_tries)
        if address is not None and workers is not None:
            raise ValueError(
                f"Expected 'workers' without 'address', whose scheduler has workers of its own (got workers={workers}, "
                f"address='{address}'). Leave one of them out."
            )
        _import_distributed()
        self.address = address
        self.workers = num_workers(workers, threads)
        self.threads = threads
        self.max_tries = max_tries

    def run(self, function: Callable[[J], R | Postponed], jobs: Iterable[J]) -> Iterator[Done[J, R]]:
        """Call a function with each job, and yield every job once, in the order of finishing; see ``Executor``.

        Raises:
            ConnectionError: If no scheduler answers at the address, or if it leaves while jobs are under way.
            ValueError: If workers have several threads.
        """
        with self._client() as client:
            team = _Team(client, function, jobs)
            try:
                while True:
                    yield from team.hand_out()
                    if team.is_finished:
                        return
                    for done in team.listen():
                        yield done
                        if done.is_interrupted:
                            return
            finally:
                team.stop()

    @contextmanager
    def _client(self) -> Iterator[Any]:
        distributed = _import_distributed()
        with ExitStack() as stack:
            address = self.address
            if address is None:
                cluster = local_cluster(self.workers, threads=self.threads, max_tries=self.max_tries)
                address = stack.enter_context(cluster).scheduler_address
            try:
                client = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
            except (OSError, ValueError) as error:
                raise ConnectionError(
                    f"Expected a Dask scheduler at '{address}' (no answer within {CONNECT_SECONDS:.0f} seconds). Start "
                    "one with 'dask scheduler', or leave the address out for a cluster on this machine."
                ) from error
            yield stack.enter_context(client)


@contextmanager
def local_cluster(workers: int, *, threads: int = 1, max_tries: int = MAX_TRIES) -> Iterator[Any]:
    """Start a scheduler and workers on this machine, which listen on loopback only, and end them on exit.

    Args:
        workers: How many processes.
        threads: Threads of the numerical libraries in each.
        max_tries: How often a job is started whose worker dies each time.
    """
    distributed = _import_distributed()
    import dask.config

    # Dask itself leaves the environment of its workers, and a hash seed, in the one of the launcher.
    variables = {**thread_settings(threads), "PYTHONHASHSEED": "6640"}
    settings = {
        "distributed.nanny.pre-spawn-environ": variables,
        "distributed.scheduler.allowed-failures": max_tries - 1,
        # Dask gives a worker up that restarts just then, which one that dies again and again is likely to do.
        "distributed.deploy.lost-worker-timeout": "365 days",
        "distributed.scheduler.worker-saturation": 1.0,  # no job waits at a worker that another one may kill
    }
    with environment(variables), dask.config.set(settings):
        with held_signals(signal.SIGINT):  # Ctrl-C is for the launcher, which ends the cluster
            cluster = distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                scheduler_kwargs={"dashboard": False},
                memory_limit=0,
                silence_logs=logging.CRITICAL,
            )
        with cluster:
            yield cluster


class _Team:
    """The jobs that are with a scheduler, and what is left for it."""

    def __init__(self, client: Any, function: Callable[[Any], Any], jobs: Iterable[Any]) -> None:
        self.client = client
        self.function = function
        self.agenda = Agenda(jobs)
        self._tickets: dict[Any, Ticket[Any]] = {}
        self._ended: queue.SimpleQueue[Any] = queue.SimpleQueue()

    @property
    def is_finished(self) -> bool:
        return self.agenda.pause() is None and not self._tickets

    def hand_out(self) -> Iterator[Done[Any, Any]]:
        """Give jobs to all workers that are free; yields those that cannot be sent to another process."""
        try:
            threads = self.client.nthreads()
        except OSError as gone:
            raise ConnectionError(LOST) from gone
        for address, num_threads in threads.items():
            if num_threads > 1:
                raise ValueError(
                    f"Expected Dask workers of one thread, since runs in one process share their random state (got "
                    f"{num_threads} threads at {address}). Start them with 'dask worker ... --nthreads 1'."
                )
        # One job at least: a scheduler without workers yet keeps it for the first that comes.
        while len(self._tickets) < max(1, len(threads)) and (ticket := self.agenda.take()) is not None:
            future, error = attempt(self._submit, ticket.job)
            if future is None:
                yield Done(ticket.job, error=error)
                continue
            self._tickets[future] = ticket
            future.add_done_callback(self._ended.put)

    def listen(self) -> Iterator[Done[Any, Any]]:
        """Wait until some job is over, a postponed one is due or workers may have joined; yields what is over."""
        pause = self.agenda.pause()
        try:
            future = self._ended.get(timeout=LOOK_SECONDS if pause is None else min(pause, LOOK_SECONDS))
        except queue.Empty:
            return
        ticket = self._tickets.pop(future)
        try:
            result, error = self._outcome(future)
        except TimeoutError:
            self.agenda.repeat(ticket)  # the worker that had the result died before it was sent: once more
            return
        if isinstance(result, Postponed):
            self.agenda.postpone(ticket)
        else:
            yield Done(ticket.job, result, error)

    def stop(self) -> None:
        """Take back the jobs that no worker has begun."""
        if self._tickets:
            self.client.cancel(list(self._tickets))

    def _submit(self, job: Any) -> Any:
        return self.client.submit(attempt, self.function, job, pure=False)

    def _outcome(self, future: Any) -> tuple[Any, JobError | None]:
        distributed = _import_distributed()
        if future.cancelled():
            raise ConnectionError(LOST)
        if future.status != "error":
            result, error = future.result(timeout=RESULT_SECONDS)
            return result, error
        failure = future.exception(timeout=RESULT_SECONDS)
        if not isinstance(failure, distributed.KilledWorker):
            return None, JobError.of(failure)
        num_deaths = failure.allowed_failures + 1
        times = "once" if num_deaths == 1 else f"{num_deaths} times"
        return None, JobError("died", "WorkerDied", f"its worker died {times}; the log of the worker may tell why")


def _import_distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise RuntimeError(
            "Expected Dask to be installed for the executor 'dask'. Run: pip install 'fgsam[cluster]', or take the "
            "executor 'processes'."
        ) from error
    return distributed
