"""What may be told about a training loop while it runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from fgsam.registry import CALLBACKS

if TYPE_CHECKING:
    from fgsam.engine.train import Trainer


class Callback:
    """Hears of every event of a training loop; subclasses override what they need.

    The trainer is given as it stands after the event: its ``step``, ``loss``, ``history``, ``seconds`` and
    ``directory`` may be read. A callback must not change it, nor draw from the global random generators.

    Example:
        >>> class PrintLoss(Callback):
        ...     def on_step(self, trainer):
        ...         print(trainer.step, trainer.loss)
    """

    def on_start(self, trainer: Trainer) -> None:
        """Called once before the first step, also when a run goes on from a checkpoint."""

    def on_step(self, trainer: Trainer) -> None:
        """Called after every training step, after the validation that may belong to it."""

    def on_validation(self, trainer: Trainer) -> None:
        """Called after every validation; the newest one is ``trainer.history[-1]``."""

    def on_end(self, trainer: Trainer) -> None:
        """Called once when training stops for whatever reason, errors included, if ``on_start`` went well."""


def make_callbacks(callbacks: Iterable[Callback | str]) -> list[Callback]:
    """Return callbacks, with names of the table replaced by what they stand for.

    Raises:
        ValueError: If a name is unknown.
        TypeError: If something is neither a name nor a callback.
    """
    if isinstance(callbacks, str | Callback):
        raise TypeError("Expected 'callbacks' to be a list (got a single one). Write callbacks=[...].")
    made = [CALLBACKS.load(callback)() if isinstance(callback, str) else callback for callback in callbacks]
    for callback in made:
        if not isinstance(callback, Callback):
            raise TypeError(
                f"Expected 'callbacks' to hold names or Callback objects (got {type(callback).__name__}). "
                "Subclass fgsam.engine.callbacks.Callback."
            )
    return made
