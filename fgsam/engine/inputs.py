"""What a run of either task works on."""

from __future__ import annotations

from pathlib import Path

from fgsam.engine.config_model import FewShotConfig, NodeConfig, RunConfig
from fgsam.engine.data import Data, build_data
from fgsam.engine.node_data import NodeData, build_node_data
from fgsam.graph.graph import Graph


def build_inputs(config: RunConfig, graph: Graph | None = None, *, bank_folder: Path | None = None) -> Data | NodeData:
    """Load the graph of a run, and divide its classes and draw its banks, or divide its nodes.

    Args:
        config: What to load.
        graph: A graph to use instead of the one that is named.
        bank_folder: Where banks are kept for the next run; None draws them anew.

    Raises:
        ValueError: If something does not fit the graph, or the device is not there.
        FileNotFoundError: If raw files are missing.
    """
    if isinstance(config, FewShotConfig):
        return build_data(config, graph, bank_folder=bank_folder)
    assert isinstance(config, NodeConfig)
    return build_node_data(config, graph)
