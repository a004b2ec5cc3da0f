"""Loads a graph by name or from a file."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fgsam.checks import suggest
from fgsam.data import own
from fgsam.data.convert import FORMATS
from fgsam.data.features import with_features
from fgsam.graph.graph import Graph
from fgsam.registry import DATASETS

_log = logging.getLogger(__name__)


def load_graph(
    name_or_path: str | Path, root: str | Path | None = None, *, features: str | None = None, **options: Any
) -> Graph:
    """Load a named graph, or an own one from an npz file.

    Args:
        name_or_path: A name such as ``"coauthor_cs"``, ``package.module:load`` for a loader of the user's own, or the
            path of an npz file (see ``fgsam.data.own``).
        root: Folder of raw files; by default those of ``fgsam.data.folders.data_folders``.
        features: Replace the features by ``"degree"``, ``"one_hot"`` or ``"random_walk"``, see
            ``fgsam.data.features``. A graph without features gets its degrees if nothing is said.
        **options: Options of the loader, among them ``symmetrise``.

    Raises:
        FileNotFoundError: If the raw files or the npz file are missing.
        ValueError: If the name is unknown, or the content is faulty or differs from the known one.
        TypeError: If the loader has no such option, or an own one returns something else than a graph.

    Example:
        >>> load_graph("synthetic", num_nodes=300, num_features=200, num_classes=10, words_per_node=20).num_nodes
        300
    """
    graph = _loaded(name_or_path, root, options)
    if features is None and not graph.num_features:
        _log.info("'%s' has no features: each node gets its degree. dataset.features has other choices.", name_or_path)
        features = "degree"
    return graph if features is None else with_features(graph, features)


def _loaded(name_or_path: str | Path, root: str | Path | None, options: Mapping[str, Any]) -> Graph:
    if isinstance(name_or_path, Path) or (name_or_path not in DATASETS and _is_path(name_or_path)):
        _check_format(Path(name_or_path))
        _check_options(str(name_or_path), own.load, options)
        return own.load(name_or_path, **options)
    load = DATASETS.load(name_or_path)
    _check_options(name_or_path, load, options)
    graph = load(None if root is None else Path(root), **options)
    if not isinstance(graph, Graph):
        raise TypeError(
            f"Expected '{name_or_path}' to return a fgsam.Graph (got {type(graph).__name__}). "
            "Make one with Graph.from_arrays, Graph.from_pyg or Graph.from_networkx."
        )
    return graph


def _check_format(path: Path) -> None:
    if path.is_dir() or (path.suffix in FORMATS and path.suffix != ".npz"):
        raise ValueError(
            f"Expected the npz file of a graph (got '{path}'). "
            f"Convert it first: fgsam data convert {path} {path.with_suffix('.npz').name}"
        )


def _check_options(name: str, load: Callable[..., Graph], options: Mapping[str, Any]) -> None:
    parameters = inspect.signature(load).parameters.values()
    known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY or p.kind is p.POSITIONAL_OR_KEYWORD][1:]
    unknown = [key for key in options if key not in known]
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in parameters):
        raise TypeError(f"Expected an option of graph '{name}' (got '{unknown[0]}'). {suggest(unknown[0], known)}")


def _is_path(name: str) -> bool:
    # A colon in the last part means a loader, package.module:load, unless such a file lies here.
    path = Path(name)
    return path.is_file() or (":" not in path.name and (path.suffix in FORMATS or len(path.parts) > 1))
