"""What an executor takes and gives; it knows nothing about what its jobs compute."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeAlias, TypeVar

from fgsam.engine.interrupts import Interrupted

J = TypeVar("J")
R = TypeVar("R")

MAX_TRIES = 3
"""How often a job is started whose worker dies each time."""


@dataclass(frozen=True)
class Postponed:
    """What a function returns for a job that cannot be done now: it is given out again after the others."""


@dataclass(frozen=True)
class JobError:
    """Why a job has no result.

    Attributes:
        kind: ``"raised"`` by the function; ``"died"`` where the worker ended at every try; ``"interrupted"`` where the
            job was asked to stop, and may have saved what it had.
        name: Class of the exception, ``WorkerDied`` where there was none.
        message: Its text.
        traceback: Where it was raised; empty where the worker died.
    """

    kind: Literal["raised", "died", "interrupted"]
    name: str
    message: str
    traceback: str = ""

    @classmethod
    def of(cls, error: BaseException) -> JobError:
        """Describe an exception in plain text, which goes from one process to another whatever its class.

        Example:
            >>> error = JobError.of(ValueError("no such graph"))
            >>> error.kind, error.name, error.message
            ('raised', 'ValueError', 'no such graph')
        """
        is_stop = isinstance(error, Interrupted | KeyboardInterrupt)
        text = "".join(traceback.format_exception(error))
        return cls("interrupted" if is_stop else "raised", type(error).__name__, str(error), text)


@dataclass(frozen=True)
class Done(Generic[J, R]):
    """A job that is over.

    Attributes:
        job: The job, as it was given.
        result: What the function returned; None after an error.
        error: Why there is no result; None where there is one.
    """

    job: J
    result: R | None = None
    error: JobError | None = None

    @property
    def is_interrupted(self) -> bool:
        """Whether the job was asked to stop; the executor then stops as a whole."""
        return self.error is not None and self.error.kind == "interrupted"


class Executor(Protocol):
    """Runs many jobs that do not need each other."""

    def run(self, function: Callable[[J], R | Postponed], jobs: Iterable[J]) -> Iterator[Done[J, R]]:
        """Call a function with each job, and yield every job once, in the order of finishing.

        A job is taken from ``jobs`` when a worker is free for it, so that jobs start in their order and the iterator
        may decide late. An exception becomes the error of its job and stops no other. A job for which the function
        returns ``Postponed`` is given out again after the others, after a pause that grows from 0.1 to 2 seconds.
        After an interrupted job the others are asked to stop too, and the iteration ends.

        Leaving the iteration early stops the workers: write ``with contextlib.closing(executor.run(...)) as results``
        so that this happens at once.

        Args:
            function: A function of a module; it, the jobs and the results must be picklable for other processes.
            jobs: The jobs, at any pace.

        Raises:
            KeyboardInterrupt: If a signal comes that no job has turned into ``Interrupted``.
        """
        ...


Outcome: TypeAlias = tuple[R | None, JobError | None]


def attempt(function: Callable[[J], R], argument: J) -> Outcome[R]:
    """Return what a function gives and no error, or None and the error; Ctrl-C alone goes through.

    Example:
        >>> attempt(int, "7")
        (7, None)
        >>> attempt(int, "seven")[1].name
        'ValueError'
    """
    try:
        return function(argument), None
    # A job that leaves through sys.exit must not take the launcher with it.
    except (Exception, SystemExit) as error:
        return None, JobError.of(error)
