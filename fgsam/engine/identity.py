"""Digests of what decides about a run and stands neither in its config nor in the package."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Mapping
from types import CellType, FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fgsam.engine.build import Entries, build_encoder, entry_label, is_ours
from fgsam.engine.checkpoint import weights_digest
from fgsam.engine.config_model import RunConfig
from fgsam.engine.seeding import seeded
from fgsam.graph.graph import Graph

_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_OF_VERSIONS = ("fgsam", "torch", "torch_geometric")
"""Packages whose versions are recorded, so that their source text need not enter."""


def code_digests(config: RunConfig, graph: Graph, entries: Entries) -> dict[str, str]:
    """Return digests of what is not part of the package: the source text of classes, the whole state of modules.

    A config names such things only by their place, so that two of the same name would count as the same run.
    """
    digests = {}
    if not is_ours(entries.method):
        digests["method"] = source_digest(entries.method)
    if not getattr(entries.method, "is_trained", True):
        return digests
    if not is_ours(entries.optimizer):
        digests["optimizer"] = source_digest(entries.optimizer)
    if not is_ours(entries.encoder):
        with seeded(graph.device, "digest"):
            module = build_encoder(config, graph, entries)
        digests["encoder"] = _digest(_source(entries.encoder) + module_digest(module))
    return digests


def source_digest(entry: Any) -> str:
    """Return the sha256 of the source text of a class or function, or of its name where there is none."""
    return _digest(_source(entry))


def module_digest(module: nn.Module) -> str:
    """Return the sha256 of all that a module computes with: weights, attributes, and source text of foreign classes.

    Neither ``repr`` nor the weights show, for one, the dropout of a module of PyTorch Geometric.

    Example:
        >>> module_digest(nn.Dropout(0.1)) == module_digest(nn.Dropout(0.2))
        False
    """
    # Buffers once more, because a state_dict leaves out those that are not to be saved.
    parts = [f"{module!r}", weights_digest({**module.state_dict(), **dict(module.named_buffers())})]
    for name, part in module.named_modules():
        attributes = {key: value for key, value in vars(part).items() if key not in _OF_EVERY_MODULE}
        parts += [name, _class(type(part)), _text(attributes, depth=6)]
    return _digest("\n".join(parts))


def _text(value: Any, depth: int) -> str:
    """Write a value so that equal ones have equal texts in every process, addresses and the like left out."""
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, Tensor) and value.layout == torch.strided:
        return weights_digest({"": value})
    if isinstance(value, np.ndarray | np.generic) and value.dtype != object:
        return f"{value.dtype}|{value.shape}|{value.tobytes().hex()}"
    if depth == 0:
        return type(value).__name__
    if isinstance(value, Mapping):
        return "{" + ",".join(sorted(f"{key}:{_text(item, depth - 1)}" for key, item in value.items())) + "}"
    if isinstance(value, list | tuple | set | frozenset):
        texts = [_text(item, depth - 1) for item in value]
        return str(texts if isinstance(value, list | tuple) else sorted(texts))
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or () if cell != CellType()]
        return f"{_source(value)}{_text([value.__defaults__, value.__kwdefaults__, cells], depth - 1)}"
    return _class(value if isinstance(value, type) else type(value))


def _class(kind: type[Any]) -> str:
    return entry_label(kind) if _package(kind) in _OF_VERSIONS else _source(kind)


def _source(entry: Any) -> str:
    """Return the source text of a class with that of the foreign classes that it inherits from, or of a function."""
    named = entry if hasattr(entry, "__qualname__") else type(entry)
    bases = named.__mro__[1:] if isinstance(named, type) else ()
    known = {*_OF_VERSIONS, *sys.stdlib_module_names}
    return "".join(map(_own_source, [named, *(base for base in bases if _package(base) not in known)]))


def _package(kind: type[Any]) -> str:
    return kind.__module__.partition(".")[0]


def _own_source(named: Any) -> str:
    try:
        return inspect.getsource(named)
    except (OSError, TypeError):  # typed at a prompt, or compiled
        return entry_label(named)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
