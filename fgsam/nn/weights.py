"""Which layers drop the edge weights they are given, or normalise them a second time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from fgsam.nn.probing import describe, fresh_copy, path_field, seeded_rows


@dataclass(frozen=True)
class WeightFaults:
    """Layers that do not use edge weights as they get them.

    Attributes:
        dropping: Their output does not depend on the weights.
        renormalising: Their output stays the same when all weights are doubled.
    """

    dropping: tuple[str, ...]
    renormalising: tuple[str, ...]


def weight_faults(module: nn.Module, num_features: int) -> WeightFaults:
    """Call each message-passing layer again with other weights and see what changes.

    Args:
        module: A module with ``forward(x, edge_index[, edge_weight])``; it is measured on a copy.
        num_features: Width of the input rows.

    Returns:
        Names and classes of the layers at fault.
    """
    field = path_field(num_features, 4, like=module, is_weighted=True)
    copied = fresh_copy(module, field, is_training=False)
    calls: dict[str, tuple[tuple[Any, ...], dict[str, Any], Any]] = {}

    def recorder(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            calls[name] = (args, kwargs, output)

        return hook

    layers = {name: part for name, part in copied.named_modules() if isinstance(part, MessagePassing)}
    hooks = [part.register_forward_hook(recorder(name), with_kwargs=True) for name, part in layers.items()]
    with torch.no_grad():
        seeded_rows(copied, field)
    for hook in hooks:
        hook.remove()
    dropping, renormalising = [], []
    for name, (args, kwargs, output) in calls.items():
        described = describe(name, layers[name])
        shuffled, doubled = (_again(layers[name], args, kwargs, change) for change in (_uneven, _double))
        if shuffled is None or torch.allclose(shuffled, output):
            dropping.append(described)
        elif doubled is not None and torch.allclose(doubled, output, rtol=1e-4, atol=1e-5):
            renormalising.append(described)
    return WeightFaults(tuple(dropping), tuple(renormalising))


def _again(
    layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], change: Callable[[Tensor], Tensor]
) -> Tensor | None:
    """Run a layer with changed weights; None if it was given none."""
    values = [*args, *kwargs.values()]
    counts = {value.size(1) for value in values if isinstance(value, Tensor) and not value.is_floating_point()}
    places = [i for i, value in enumerate(values) if _is_weight(value, counts)]
    for i in places:
        values[i] = change(values[i])
    if not places:
        return None
    with torch.no_grad():
        return layer(*values[: len(args)], **dict(zip(kwargs, values[len(args) :], strict=True)))  # type: ignore[no-any-return]


def _is_weight(value: Any, edge_counts: set[int]) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.dim() == 1 and value.numel() in edge_counts


def _uneven(weight: Tensor) -> Tensor:
    return weight * torch.linspace(0.5, 3.0, weight.numel(), dtype=weight.dtype, device=weight.device)


def _double(weight: Tensor) -> Tensor:
    return 2 * weight
