"""How many hops a module reads, and whether its rows depend on unrelated ones: measured, not guessed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fgsam.checks import check_positive
from fgsam.graph.field import Field
from fgsam.nn.calling import FieldForward, refuse_cached
from fgsam.nn.probing import NUM_UNRELATED, describe, fresh_copy, moved_rows, path_field, seeded_rows

_FIRST_LENGTH = 4


@dataclass(frozen=True)
class Reach:
    """What a module reads to compute one row.

    Attributes:
        num_hops: Largest distance of a node whose features change the row. For a row-coupled module it is measured with
            the culprits bypassed, and None when that is not possible.
        is_row_coupled: In training or in evaluation mode, a row depends on nodes that no path leads to.
        culprits: Names and classes of the innermost submodules that couple rows; empty for others.
    """

    num_hops: int | None
    is_row_coupled: bool
    culprits: tuple[str, ...]

    def __str__(self) -> str:
        """Describe the reach in one line."""
        hops = "unknown" if self.num_hops is None else self.num_hops
        return f"hops: {hops}; row-coupled: {', '.join(self.culprits) if self.is_row_coupled else 'no'}"


def reach(module: nn.Module, num_features: int, *, max_hops: int = 64, forward: FieldForward | None = None) -> Reach:
    """Measure the reach of a module by poisoning one node of a path with NaN and seeing which rows change.

    The module works on copies in training and in evaluation mode: its weights, buffers and mode stay as they are, and
    so does the global random state. A second component of the graph shows whether unrelated rows change too.

    Args:
        module: A module with ``forward(x, edge_index[, edge_weight])`` or ``forward(field)``.
        num_features: Width of the input rows, at least 1.
        max_hops: Longest reach to look for, at least 1.
        forward: Function that calls the module on a field, for modules with other arguments.

    Raises:
        ValueError: If a layer is cached, rows are not one for each node or not finite, or ``max_hops`` is exceeded.

    Example:
        >>> from torch_geometric.nn import GCN
        >>> reach(GCN(8, 16, num_layers=3), num_features=8)
        Reach(num_hops=3, is_row_coupled=False, culprits=())
    """
    check_positive(num_features=num_features, max_hops=max_hops)
    refuse_cached(module)
    probe = _Probe(module, num_features, forward)
    culprits: dict[str, None] = {}
    hops: list[int | None] = []
    for is_training in (False, True):
        found = probe.culprits(is_training)
        culprits.update(dict.fromkeys(found))
        hops.append(probe.num_hops(is_training, max_hops, bypassed=found))
    measured = [value for value in hops if value is not None]
    described = tuple(describe(name, module.get_submodule(name)) for name in culprits)
    return Reach(max(measured) if measured else None, bool(culprits), described)


@dataclass(frozen=True)
class _Call:
    """Row-shaped tensors that went into and came out of one call of a submodule."""

    inputs: tuple[Tensor, ...]
    output: Tensor | None


class _Probe:
    """Runs copies of a module on a path graph with an unrelated component."""

    def __init__(self, module: nn.Module, num_features: int, forward: FieldForward | None) -> None:
        self.module = module
        self.num_features = num_features
        self.forward = forward

    def culprits(self, is_training: bool) -> tuple[str, ...]:
        """Name all innermost submodules that couple rows: a later one shows when the earlier ones are bypassed."""
        found: tuple[str, ...] = ()
        while True:
            fresh = [name for name in self._first_culprits(is_training, found) if name not in found]
            if not fresh:
                return found
            found = (*found, *fresh)

    def _first_culprits(self, is_training: bool, bypassed: tuple[str, ...]) -> tuple[str, ...]:
        """Name the innermost submodules whose outputs on the unrelated rows change while their inputs do not."""
        rows, clean = self._run(self._field(_FIRST_LENGTH), is_training, bypassed)
        if not rows.isfinite().all():
            raise ValueError(
                f"Expected {type(self.module).__name__} to give finite rows on random features (got NaN or infinity). "
                "Check its weights and its layers."
            )
        _, poisoned = self._run(self._field(_FIRST_LENGTH, poisoned=_FIRST_LENGTH), is_training, bypassed)
        unrelated = slice(-NUM_UNRELATED, None)
        found = [name for name in clean if _couples(clean[name], poisoned.get(name, []), unrelated, rtol=0.0)]
        if not is_training:
            # A layer may also read how many rows there are: without the unrelated ones, nothing may change.
            _, alone = self._run(self._field(_FIRST_LENGTH, unrelated=0), is_training, bypassed)
            path = slice(0, 2 * _FIRST_LENGTH + 1)
            found += [name for name in clean if _couples(clean[name], alone.get(name, []), path, rtol=1e-3)]
        return _innermost(found)

    def num_hops(self, is_training: bool, max_hops: int, bypassed: tuple[str, ...]) -> int | None:
        """Find the farthest row that the poisoned centre of the path reaches."""
        length = _FIRST_LENGTH
        while True:
            clean, _ = self._run(self._field(length), is_training, bypassed)
            poisoned, _ = self._run(self._field(length, poisoned=length), is_training, bypassed)
            moved = moved_rows(clean, poisoned).cpu()
            if moved[-NUM_UNRELATED:].any():
                return None
            distance = (torch.arange(len(moved)) - length).abs()
            farthest = int(distance[moved].amax()) if moved.any() else 0
            if farthest < length:
                return farthest
            if length > max_hops:
                raise ValueError(
                    f"Expected 'module' to read at most max_hops={max_hops} hops (got more in "
                    f"{type(self.module).__name__}). Lower its number of layers or raise max_hops."
                )
            length = min(2 * length, max_hops + 1)

    def _field(self, length: int, *, poisoned: int | None = None, unrelated: int = NUM_UNRELATED) -> Field:
        return path_field(self.num_features, length, like=self.module, poisoned=poisoned, unrelated=unrelated)

    def _run(
        self, field: Field, is_training: bool, bypassed: tuple[str, ...] = ()
    ) -> tuple[Tensor, dict[str, list[_Call]]]:
        module = fresh_copy(self.module, field, is_training=is_training, forward=self.forward)
        calls: dict[str, list[_Call]] = {}
        for name, part in module.named_modules():
            if name and name in bypassed:
                part.register_forward_hook(_bypass)
            else:
                _record(part, calls.setdefault(name, []), field.num_nodes)
        with torch.no_grad():
            return seeded_rows(module, field, self.forward), calls


def _record(part: nn.Module, calls: list[_Call], num_nodes: int) -> None:
    def hook(_: nn.Module, args: tuple[object, ...], kwargs: dict[str, object], output: object) -> None:
        given = [_rows_of(value, num_nodes) for value in _tensors((*args, *kwargs.values()))]
        inputs = tuple(rows for rows in given if rows is not None)
        # What was given messages, one row for each edge, mixes rows by right.
        is_rowwise = len(inputs) == len(given)
        calls.append(_Call(inputs, _rows_of(output, num_nodes) if is_rowwise else None))

    part.register_forward_hook(hook, with_kwargs=True)


def _tensors(values: Iterable[object]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Field):
            yield value.dense_x()
        elif isinstance(value, Tensor) and value.is_floating_point():
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _rows_of(value: object, num_nodes: int) -> Tensor | None:
    if isinstance(value, Tensor) and value.dim() > 0 and value.size(0) == num_nodes:
        return value.detach().clone()
    return None


def _bypass(_: nn.Module, args: tuple[object, ...], output: object) -> object:
    if args and isinstance(args[0], Tensor) and isinstance(output, Tensor) and args[0].shape == output.shape:
        return args[0]
    return output


def _couples(before: list[_Call], after: list[_Call], rows: slice, rtol: float) -> bool:
    for old, new in zip(before, after, strict=False):
        if old.output is None or new.output is None or len(old.inputs) != len(new.inputs):
            continue
        is_clean = not any(
            moved_rows(a[rows], b[rows], rtol).any() for a, b in zip(old.inputs, new.inputs, strict=True)
        )
        if is_clean and moved_rows(old.output[rows], new.output[rows], rtol).any():
            return True
    return False


def _innermost(names: list[str]) -> tuple[str, ...]:
    unique = dict.fromkeys(names)
    return tuple(
        name
        for name in unique
        if not any(other != name and (not name or other.startswith(f"{name}.")) for other in unique)
    )
