"""How far a run is: a live line on a terminal and in a notebook, sparse log lines elsewhere."""

from __future__ import annotations

import importlib
import logging
import sys
import time
from typing import TYPE_CHECKING, Any, Literal

from fgsam.checks import check_choice
from fgsam.engine.callbacks import Callback

if TYPE_CHECKING:
    from fgsam.engine.train import Trainer

ProgressKind = Literal["auto", "bar", "notebook", "lines", "none"]

REDRAW_SECONDS = 0.2
LINE_SECONDS = 10.0

logger = logging.getLogger(__name__)


def make_progress(kind: ProgressKind = "auto") -> list[Callback]:
    """Return the callback that shows progress where this process runs.

    Args:
        kind: ``"bar"`` for a terminal, ``"notebook"``, ``"lines"`` through ``logging``, ``"none"``, or ``"auto"`` to
            find out.

    Raises:
        ValueError: If the kind is unknown.
    """
    kinds: dict[str, list[type[Callback]]] = {
        "auto": [],
        "bar": [ProgressBar],
        "notebook": [NotebookProgress],
        "lines": [ProgressLines],
        "none": [],
    }
    check_choice(kinds, progress=kind)
    chosen = _surroundings() if kind == "auto" else kind
    return [made() for made in kinds[chosen]]


class _Meter(Callback):
    """Measures speed from the first step of this process on."""

    def on_start(self, trainer: Trainer) -> None:
        self._first_step = trainer.step
        self._started = time.perf_counter()
        self._is_running = True

    def on_end(self, trainer: Trainer) -> None:
        self._is_running = False

    def _rate(self, trainer: Trainer) -> float:
        elapsed = time.perf_counter() - self._started
        return (trainer.step - self._first_step) / elapsed if elapsed else 0.0

    def _facts(self, trainer: Trainer) -> str:
        """Speed, loss, validation and, while it runs, the time left, on one line."""
        rate = self._rate(trainer)
        left = (trainer.num_steps - trainer.step) / rate if rate else 0.0
        facts = [f"{rate:.0f} {trainer.unit}s/s", f"loss {trainer.loss:.3f}"]
        if trainer.best is not None:
            last = trainer.history[-1].score
            facts.append(f"validation {100 * last:.1f} % (best {100 * trainer.best.score:.1f} %)")
        return ", ".join([*facts, f"at most {_minutes(left)} left"] if self._is_running else facts)


class ProgressLines(_Meter):
    """Writes a line to the log after a validation, at most every few seconds, and one at the end."""

    def on_start(self, trainer: Trainer) -> None:
        """Say where training begins."""
        super().on_start(trainer)
        self._written = self._started
        unit = trainer.unit
        logger.info("Training %d %ss, from %s %d on", trainer.num_steps, unit, unit, trainer.step + 1)

    def on_validation(self, trainer: Trainer) -> None:
        """Write a line if the last one is long ago."""
        if time.perf_counter() - self._written >= LINE_SECONDS:
            self._written = time.perf_counter()
            name = trainer.unit.capitalize()
            logger.info("%s %d of %d: %s", name, trainer.step, trainer.num_steps, self._facts(trainer))

    def on_end(self, trainer: Trainer) -> None:
        """Write the last line."""
        super().on_end(trainer)
        logger.info("Training ended after %d %ss: %s", trainer.step, trainer.unit, self._facts(trainer))


class ProgressBar(_Meter):
    """Draws a live bar on standard error."""

    def on_start(self, trainer: Trainer) -> None:
        """Start the bar."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        super().on_start(trainer)
        columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.description}"))
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task("", total=trainer.num_steps, completed=trainer.step)
        self._drawn = 0.0
        self._bar.start()

    def on_step(self, trainer: Trainer) -> None:
        """Move the bar, a few times a second."""
        if (now := time.perf_counter()) - self._drawn >= REDRAW_SECONDS:
            self._drawn = now
            self._bar.update(self._task, completed=trainer.step, description=self._facts(trainer))

    def on_end(self, trainer: Trainer) -> None:
        """Remove the bar."""
        super().on_end(trainer)
        self._bar.stop()


class NotebookProgress(_Meter):
    """Updates one line of output below a notebook cell; needs no widgets."""

    def on_start(self, trainer: Trainer) -> None:
        """Make the line."""
        super().on_start(trainer)
        shown: Any = importlib.import_module("IPython.display")  # there, since this is a notebook
        self._pretty = shown.Pretty
        self._handle = shown.display(shown.Pretty(""), display_id=True)
        self._drawn = 0.0

    def on_step(self, trainer: Trainer) -> None:
        """Rewrite the line, a few times a second."""
        if (now := time.perf_counter()) - self._drawn >= REDRAW_SECONDS:
            self._drawn = now
            self._show(trainer)

    def on_end(self, trainer: Trainer) -> None:
        """Leave the last state."""
        super().on_end(trainer)
        self._show(trainer)

    def _show(self, trainer: Trainer) -> None:
        done = round(24 * trainer.step / trainer.num_steps)
        bar = "█" * done + "░" * (24 - done)
        self._handle.update(self._pretty(f"{bar} {trainer.step}/{trainer.num_steps} {self._facts(trainer)}"))


def _surroundings() -> str:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None and type(shell).__name__ == "ZMQInteractiveShell":
        return "notebook"
    return "bar" if sys.stderr.isatty() else "lines"


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
