"""What is left to do, and in which order."""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic

from fgsam.comparison.executors.base import J

SHORTEST_PAUSE = 0.1
LONGEST_PAUSE = 2.0
"""Seconds before a postponed job is asked for again, first and at most."""


@dataclass(order=True)
class Ticket(Generic[J]):
    """A job and what has happened to it.

    Attributes:
        job: The job.
        due: When it may be given out, in seconds of the monotonic clock.
        num_deaths: How many workers have died with it.
        num_pauses: How often it was postponed.
    """

    job: J = field(compare=False)
    due: float = 0.0
    num_deaths: int = field(default=0, compare=False)
    num_pauses: int = field(default=0, compare=False)


class Agenda(Generic[J]):
    """Gives out jobs: first those whose worker died, then new ones in their order, at last the postponed ones.

    Args:
        jobs: The new jobs; each is taken when it is given out, not before.

    Example:
        >>> agenda = Agenda("ab")
        >>> first = agenda.take()
        >>> agenda.postpone(first)
        >>> agenda.take().job, agenda.take(), 0 < agenda.pause() <= 0.1
        ('b', None, True)
    """

    def __init__(self, jobs: Iterable[J]) -> None:
        self._new = iter(jobs)
        self._again: deque[Ticket[J]] = deque()
        self._later: list[Ticket[J]] = []

    def take(self) -> Ticket[J] | None:
        """Return the next job, or None if there is none at this moment."""
        if self._again:
            return self._again.popleft()
        for job in self._new:
            return Ticket(job)
        if self._later and self._later[0].due <= time.monotonic():
            return heapq.heappop(self._later)
        return None

    def pause(self) -> float | None:
        """Return the seconds until ``take`` has a job, after it had none; None if nothing is left."""
        if self._again:
            return 0.0
        return max(0.0, self._later[0].due - time.monotonic()) if self._later else None

    def repeat(self, ticket: Ticket[J]) -> None:
        """Give a job out again as the next one."""
        self._again.append(ticket)

    def postpone(self, ticket: Ticket[J]) -> None:
        """Give a job out again after the others, each time after a longer pause."""
        ticket.due = time.monotonic() + min(LONGEST_PAUSE, SHORTEST_PAUSE * 2**ticket.num_pauses)
        ticket.num_pauses += 1
        heapq.heappush(self._later, ticket)
