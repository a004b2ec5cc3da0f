"""Training without a test: what a search for settings looks at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fgsam.engine.build import Entries
from fgsam.engine.config_model import RunConfig
from fgsam.engine.data import Data
from fgsam.engine.evaluate import floor_scored
from fgsam.engine.inputs import build_inputs
from fgsam.engine.interrupts import Interrupted, Interrupts
from fgsam.engine.record import make_folder
from fgsam.engine.setup import Setup, pinned
from fgsam.functional.intervals import mean_interval
from fgsam.graph.graph import Graph


@dataclass(frozen=True)
class Validated:
    """How a setting did on the validation bank, or the validation nodes.

    Attributes:
        accuracy: What weights are chosen by, between 0 and 1, as in the results of a run of this config: the share of
            right answers, or the area under the ROC curve of nodes of two classes.
        bank: Digest of what it was validated on: of the bank, or of the division of the nodes.
        graph: Digest of the graph.
    """

    accuracy: float
    bank: str
    graph: str


def validate(
    config: RunConfig,
    *,
    graph: Graph | None = None,
    encoder: Any = None,
    method: Any = None,
    optimizer: Any = None,
    bank_folder: Path | None = None,
) -> Validated:
    """Train and choose weights as a run does, and stop there: the test bank is neither drawn nor read.

    Args:
        config: Made by ``load_config``.
        graph: A graph in place of the one that the config names.
        encoder: A module, class or function in place of the encoder that the config names.
        method: A class in place of the method that the config names.
        optimizer: A class in place of the optimizer that the config names.
        bank_folder: Where the validation bank is kept for the next call; None draws it anew.

    Raises:
        ValueError: If something does not fit the graph.
        NonFiniteLossError: If training diverges.
        Interrupted: If Ctrl-C or SIGTERM asked to stop.
    """
    if bank_folder is not None:
        make_folder(bank_folder)
    with pinned(config), Interrupts() as interrupts:
        data = build_inputs(config, graph, bank_folder=bank_folder)
        entries = Entries.load(config, encoder=encoder, method=method, optimizer=optimizer)
        if getattr(entries.method, "is_trained", True):
            trainer = Setup.of(config, data, entries).trainer()
            trainer.fit(lambda: interrupts.requested)
            if interrupts.requested:
                raise Interrupted(f"Stopped after {trainer.unit} {trainer.step} of {trainer.num_steps}.")
            found = trainer.choose()[1]
        else:
            assert isinstance(data, Data)
            floor = entries.method(**config.method.options)
            floor.fit(data.val_graph, data.val_bank)
            found = floor_scored(floor, data.val_bank)
    if not isinstance(data, Data):
        return Validated(found.score, data.split.digest, data.graph.digest)
    accuracy, _ = mean_interval(found.hits.sum(-1).double() / data.val_bank.num_queries)
    return Validated(accuracy, data.val_bank.digest, data.graph.digest)
