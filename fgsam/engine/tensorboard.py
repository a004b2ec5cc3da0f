"""Loss and validation score as TensorBoard curves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgsam.engine.callbacks import Callback

if TYPE_CHECKING:
    from fgsam.engine.train import Trainer


class TensorBoard(Callback):
    """Writes a run's curves where ``tensorboard --logdir`` finds them.

    Args:
        directory: Where the event files go; by default the folder ``tensorboard`` of the run directory.
        every: Steps between two points of the loss curve, at least 1.

    Raises:
        RuntimeError: On start, if TensorBoard is not installed or there is no directory to write to.
    """

    def __init__(self, directory: str | Path | None = None, *, every: int = 1) -> None:
        if every < 1:
            raise ValueError(f"Expected 'every' to be at least 1 (got every={every})")
        self.directory = directory
        self.every = every
        self._writer: Any = None

    def on_start(self, trainer: Trainer) -> None:
        """Open the event file; what an interrupted run wrote beyond its checkpoint is hidden."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise RuntimeError(
                "Expected TensorBoard to be installed for the callback 'tensorboard'. "
                "Run: pip install 'fgsam[track]', or leave the callback out."
            ) from error
        place = self.directory or (trainer.directory and trainer.directory / "tensorboard")
        if place is None:
            raise RuntimeError("Expected a run directory for the event files. Write TensorBoard(directory=...).")
        self._writer = SummaryWriter(str(place), purge_step=trainer.step + 1 if trainer.step else None)

    def on_step(self, trainer: Trainer) -> None:
        """Add a point to the loss curve."""
        if trainer.step % self.every == 0:
            self._writer.add_scalar("train/loss", trainer.loss, trainer.step)

    def on_validation(self, trainer: Trainer) -> None:
        """Add a point to the curve of the validation score, which is named by its metric."""
        self._writer.add_scalar(f"validation/{trainer.task.metric}", trainer.history[-1].score, trainer.step)

    def on_end(self, trainer: Trainer) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
