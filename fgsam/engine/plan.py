"""What a run would be, found out without writing anything."""

from __future__ import annotations

from pathlib import Path

from fgsam.engine.build import Entries, build_method, build_optimizer, check_encoders
from fgsam.engine.config_model import RunConfig
from fgsam.engine.inputs import build_inputs
from fgsam.engine.run import run_name
from fgsam.engine.team import check_ranks
from fgsam.episodes.streams import generator


def plan(config: RunConfig) -> Path:
    """Return the directory of a run after making all that it needs, as a trial.

    Raises:
        ValueError: If something does not fit the graph, or an option is out of range.
        FileNotFoundError: If raw files are missing.
    """
    entries = Entries.load(config)
    data = build_inputs(config)
    if config.is_trained:
        check_ranks(config)
        stream = (data.split.digest, config.train.seed)
        method = build_method(config, data.train_graph, entries, *stream, given=data.given(entries.method))
        optimizer = build_optimizer(config, method, entries)
        check_encoders(method, data.train_graph, optimizer=optimizer, rng=generator("check", *stream))
        data.task(method)  # type: ignore[arg-type]  # the method of the same config
    name, _ = run_name(config, data, entries)
    return Path(config.run.root) / name
