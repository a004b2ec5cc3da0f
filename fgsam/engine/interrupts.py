"""Ctrl-C and SIGTERM as a wish to stop, not as a crash."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from fgsam.engine.job import num_ranks

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(RuntimeError):
    """A run that was asked to stop, has saved its state and can go on later."""


class Interrupts:
    """Turns SIGINT and SIGTERM into a flag while it is entered.

    A second signal raises ``KeyboardInterrupt`` at once, for the impatient. Outside the main thread, where Python
    allows no handlers, it does nothing. The former handlers come back on exit; but where a rank of several leaves with
    an error, SIGTERM is ignored from then on: torchrun sends it when another one is lost, and it must not cut off what
    this one has to tell.

    Attributes:
        requested: Whether a signal has come.
        is_immediate: Raise ``KeyboardInterrupt`` at the first signal already, for work that cannot be stopped halfway.

    Example:
        >>> with Interrupts() as interrupts:
        ...     signal.raise_signal(signal.SIGTERM)
        ...     interrupts.requested
        True
    """

    def __init__(self) -> None:
        self.requested = False
        self.is_immediate = False
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._former[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._former.items():
            # None stands for a handler that was not installed from Python and cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if self._former and kind is not None and num_ranks() > 1:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self._former.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        was_requested, self.requested = self.requested, True
        if was_requested or self.is_immediate:
            raise KeyboardInterrupt
