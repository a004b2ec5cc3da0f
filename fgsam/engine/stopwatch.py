"""Times that can be compared: arms that take turns, and the stages of a training step."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from fgsam.optim.base import SharpnessAware

STAGES = {
    "draw": "the episode or the nodes",
    "field": "building what the GNN pass reads",
    "forward": "the loss of the GNN pass",
    "backward": "its gradient",
    "peer": "the whole peer pass, its field included",
    "update": "the rest: ascent, base step, guards",
}
"""What the time of a training step is divided into."""

Name = TypeVar("Name")
Clock = Callable[[], float]
Work = Callable[[], object]


def fair_clock(device: torch.device) -> Clock:
    """Return the clock that other programs disturb least.

    Processor time leaves out what they take, but it adds up over threads, and work on another device shows only by the
    clock on the wall.
    """
    is_alone = device.type == "cpu" and torch.get_num_threads() == 1
    return time.process_time if is_alone else time.perf_counter


def interleaved(
    arms: Mapping[Name, Work],
    *,
    device: torch.device,
    rounds: int,
    warm_up: int = 1,
    deadline: float = math.inf,
) -> dict[Name, list[float]]:
    """Time each arm once a round, so that a slow moment of the machine falls on all of them.

    Args:
        arms: What to call.
        device: Where the work is done.
        rounds: Calls of each that count, at most.
        warm_up: Calls of each before these.
        deadline: No round but the first begins after it, by ``time.perf_counter()``.

    Returns:
        Milliseconds of every call, by arm; without those of the warm-up, where there are others.
    """
    clock = fair_clock(device)
    last = torch.zeros(1, device=device)
    times: dict[Name, list[float]] = {name: [] for name in arms}
    for turn in range(warm_up + rounds):
        if turn and time.perf_counter() > deadline:
            break
        for name, arm in arms.items():
            start = clock()
            arm()
            last.tolist()  # waits until the device has done all before it
            times[name].append(1e3 * (clock() - start))
    return {name: values[warm_up:] or values for name, values in times.items()}


def period_of(rule: SharpnessAware, num_queries: int) -> int | None:
    """Return the steps from one longest step of a rule to the next; None for a rule that goes by what it meets."""
    longest, shortest = rule.counts(num_queries)
    if longest == shortest:
        return 1
    options = ("refresh_every", "hessian_every", "mask_every")
    return next((int(getattr(rule, option)) for option in options if hasattr(rule, option)), None)


class Stopwatch:
    """A task that notes what the steps of a trainer spend on each stage.

    Work that a device does later than it is asked for does not show.

    Args:
        task: What is watched.
        clock: Gives seconds.

    Attributes:
        seconds: Time of each of ``STAGES`` since :meth:`whole` began; what is in none of them counts as ``"update"``.
    """

    def __init__(self, task: Any, clock: Clock = time.thread_time) -> None:
        self.task = task
        self.clock = clock
        self.seconds: dict[str, float] = defaultdict(float)
        self._is_peer = False
        self._peers: dict[int, bool] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def draw(self, *arguments: Any) -> Any:
        """See ``Task.draw``."""
        with self._stage("draw"):
            return self.task.draw(*arguments)

    def field(self, *arguments: Any, peer: bool) -> Any:
        """See ``Task.field``."""
        with self._stage("peer" if peer else "field"):
            found = self.task.field(*arguments, peer=peer)
        self._peers[id(found)] = peer
        return found

    def loss(self, method: Any, field: Any, batch: Any) -> Any:
        """See ``Task.loss``."""
        self._is_peer = self._peers[id(field)]
        with self._stage("peer" if self._is_peer else "forward"):
            return self.task.loss(method, field, batch)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Time all that happens inside, gradients included."""
        self.seconds.clear()
        backward = torch.autograd.backward

        def timed(*arguments: Any, **options: Any) -> None:
            with self._stage("peer" if self._is_peer else "backward"):
                backward(*arguments, **options)

        start = self.clock()
        torch.autograd.backward = timed
        try:
            yield
        finally:
            torch.autograd.backward = backward
        self.seconds["update"] = self.clock() - start - sum(self.seconds.values())

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        start = self.clock()
        yield
        self.seconds[name] += self.clock() - start
