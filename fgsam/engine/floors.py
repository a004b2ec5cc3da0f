"""Methods without training beside a learner, on the same test episodes."""

from __future__ import annotations

from collections.abc import Callable

import torch

from fgsam.engine.config import load_config
from fgsam.engine.config_model import FewShotConfig, RunConfig
from fgsam.engine.outcome import Run, Score

FLOORS = ("raw_lr", "sgc_lr", "sgc_prototype")


def run_floors(config: FewShotConfig, execute: Callable[[RunConfig], Run]) -> dict[str, Run]:
    """Run every floor on the graph, class split and banks of a config.

    Args:
        config: The learner's config; nothing is returned for a floor that is the learner itself.
        execute: Does one run.
    """
    return {name: execute(floor_config(config, name)) for name in FLOORS if name != config.method.name}


def floor_config(config: FewShotConfig, name: str) -> RunConfig:
    """Return the config of a floor that sees the same graph and episodes.

    Args:
        config: The learner's config; its graph is one that a config can name.
        name: The floor.
    """
    parts = config.resolved()
    values = {section: parts[section] for section in ("dataset", "graph", "episode", "evaluate", "run")}
    return load_config(
        values={**values, "train": {"val_episodes": config.train.val_episodes}, "method": {"name": name}}
    )


def difference(run: Run, other: Run) -> Score:
    """Compare two runs on the same test episodes, episode by episode.

    Returns:
        The first run's accuracy less the second's, with the 95 % interval over episodes of the difference.

    Raises:
        ValueError: If the two were tested on different episodes.
    """
    if run.results["digests"]["test_bank"] != other.results["digests"]["test_bank"]:
        raise ValueError(f"Expected two runs with the same test episodes (got {run.directory} and {other.directory})")
    correct = torch.tensor(run.results["test_correct"]) - torch.tensor(other.results["test_correct"])
    return Score.of(correct, torch.tensor(run.results["num_queries"]))
