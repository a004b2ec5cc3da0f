"""Small grids for tests."""

from __future__ import annotations

from typing import Any

from fgsam.comparison.grid import Grid
from fgsam.comparison.grid_source import grid_of_call
from fgsam.data.load import load_graph
from fgsam.graph.graph import Graph

SMALL = {"name": "synthetic", "num_nodes": 300, "num_classes": 9, "num_features": 40, "words_per_node": 10}

SHORT = {
    "episode": {"n_way": 2, "k_shot": 1, "num_query": 4},
    "encoder": {"name": "gcn", "hidden": 4, "dim": 4},
    "train": {"num_episodes": 4, "val_every": 2, "val_episodes": 6},
    "evaluate": {"num_episodes": 12},
}


def own_graph(*, seed: int = 0) -> Graph:
    """A graph that no config can name."""
    graph = load_graph("synthetic", **{key: value for key, value in SMALL.items() if key != "name"}, seed=seed)
    graph.name = "own"
    return graph


def small_grid(**changes: Any) -> Grid:
    """A grid of runs that take a moment each: two optimizers and a floor on three class splits."""
    common = {**SHORT, **changes.pop("common", {})}
    arms = [{"method": "gpn", "optimizer": ["adam", "sam"]}, {"method": "raw_lr"}]
    return grid_of_call(**{"graphs": [SMALL], "arms": arms, "splits": 3, "common": common, **changes})
