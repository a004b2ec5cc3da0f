"""Jobs one after another, in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from fgsam.comparison.executors.agenda import Agenda
from fgsam.comparison.executors.base import Done, J, Postponed, R, attempt


class Inline:
    """Runs jobs in this process: nothing needs to be picklable, and what kills a job kills the launcher.

    Example:
        >>> [done.result for done in Inline().run(len, ["one", "three"])]
        [3, 5]
    """

    def run(self, function: Callable[[J], R | Postponed], jobs: Iterable[J]) -> Iterator[Done[J, R]]:
        """Call a function with each job, and yield every job once, in the order of finishing; see ``Executor``."""
        agenda = Agenda(jobs)
        while True:
            ticket = agenda.take()
            if ticket is None:
                pause = agenda.pause()
                if pause is None:
                    return
                time.sleep(pause)
                continue
            result, error = attempt(function, ticket.job)
            if isinstance(result, Postponed):
                agenda.postpone(ticket)
                continue
            done = Done(ticket.job, result, error)
            yield done
            if done.is_interrupted:
                return
