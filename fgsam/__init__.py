"""Few-shot node classification on graphs with sharpness-aware optimizers."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fgsam.advice.advise import advise
    from fgsam.data.load import load_graph
    from fgsam.engine.callbacks import Callback
    from fgsam.engine.config import RunConfig, load_config
    from fgsam.engine.run import Run, load_run, run
    from fgsam.engine.train import Trainer
    from fgsam.episodes.bank import EpisodeBank
    from fgsam.episodes.sampler import EpisodeSampler
    from fgsam.episodes.split import ClassSplit
    from fgsam.graph.field import Field
    from fgsam.graph.graph import Graph
    from fgsam.nn.peer import peer_report
    from fgsam.nn.reach import reach
    from fgsam.optim.asam import ASAM
    from fgsam.optim.fgsam import FGSAM
    from fgsam.optim.fgsam_plus import FGSAMPlus
    from fgsam.optim.sam import SAM
    from fgsam.report.compare import compare
    from fgsam.report.comparison import Comparison, load_comparison

__version__ = "0.1.0"

_PLACES = {
    "ASAM": "fgsam.optim.asam",
    "Callback": "fgsam.engine.callbacks",
    "ClassSplit": "fgsam.episodes.split",
    "Comparison": "fgsam.report.comparison",
    "EpisodeBank": "fgsam.episodes.bank",
    "EpisodeSampler": "fgsam.episodes.sampler",
    "FGSAM": "fgsam.optim.fgsam",
    "FGSAMPlus": "fgsam.optim.fgsam_plus",
    "Field": "fgsam.graph.field",
    "Graph": "fgsam.graph.graph",
    "Run": "fgsam.engine.run",
    "RunConfig": "fgsam.engine.config",
    "SAM": "fgsam.optim.sam",
    "Trainer": "fgsam.engine.train",
    "advise": "fgsam.advice.advise",
    "compare": "fgsam.report.compare",
    "load_comparison": "fgsam.report.comparison",
    "load_config": "fgsam.engine.config",
    "load_graph": "fgsam.data.load",
    "load_run": "fgsam.engine.run",
    "peer_report": "fgsam.nn.peer",
    "reach": "fgsam.nn.reach",
    "run": "fgsam.engine.run",
}

__all__ = [
    "ASAM",
    "FGSAM",
    "SAM",
    "Callback",
    "ClassSplit",
    "Comparison",
    "EpisodeBank",
    "EpisodeSampler",
    "FGSAMPlus",
    "Field",
    "Graph",
    "Run",
    "RunConfig",
    "Trainer",
    "advise",
    "compare",
    "load_comparison",
    "load_config",
    "load_graph",
    "load_run",
    "peer_report",
    "reach",
    "run",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that importing the package alone costs nothing."""
    if name not in _PLACES:
        raise AttributeError(f"module 'fgsam' has no attribute '{name}'")
    value = getattr(importlib.import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
