"""How a user's module wants to be called, and calling it that way."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.parameter import is_lazy as is_uninitialised

from fgsam.checks import check_not_cached
from fgsam.graph.field import Field

FieldForward = Callable[[nn.Module, Field], Tensor]
"""A function of a module and a field that returns one row for each target."""


@dataclass(frozen=True)
class Calling:
    """What the ``forward`` of a module takes.

    Attributes:
        takes_field: It takes a field alone and returns the rows of the targets.
        takes_weights: It takes ``edge_weight`` after ``x`` and ``edge_index``.
        needs_weights: ``edge_weight`` has no default.
    """

    takes_field: bool
    takes_weights: bool
    needs_weights: bool


def calling_of(module: nn.Module) -> Calling:
    """Read from the signature how a module is called.

    Args:
        module: A module with ``forward(x, edge_index[, edge_weight])`` or ``forward(field)``.

    Raises:
        TypeError: If its ``forward`` has neither form.
    """
    parameters = list(inspect.signature(module.forward).parameters.values())
    named = {parameter.name: parameter for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD}
    required = [name for name, parameter in named.items() if _is_required(parameter)]
    if parameters and _is_field(parameters[0]) and len(required) == 1:
        return Calling(takes_field=True, takes_weights=False, needs_weights=False)
    if len(parameters) < 2 or len([name for name in required if name != "edge_weight"]) > 2:
        raise TypeError(
            f"Expected the forward of {type(module).__name__} to be forward(x, edge_index[, edge_weight]) or "
            f"forward(field) (got forward{inspect.signature(module.forward)}). Give the function that calls it: "
            "ModuleEncoder(module, num_features, forward=lambda module, field: ...)."
        )
    return Calling(takes_field=False, takes_weights="edge_weight" in named, needs_weights="edge_weight" in required)


def call(module: nn.Module, field: Field, forward: FieldForward | None = None, *, weights: bool = True) -> Tensor:
    """Run a module on a field and return what it gives, unchecked.

    Args:
        module: A module of either form.
        field: The rows and edges to run it on.
        forward: Function that calls the module on a field, for modules with other arguments.
        weights: Hand over the edge weights of the field, if it has any and the module takes them.

    Returns:
        One row for each node of the field for ``forward(x, edge_index)``, else one for each target.
    """
    if forward is not None:
        return forward(module, field)
    style = calling_of(module)
    if style.takes_field:
        return module(field)  # type: ignore[no-any-return]
    x = field.dense_x()
    if style.takes_weights and weights and field.edge_weight is not None:
        return module(x, field.edge_index, edge_weight=field.edge_weight)  # type: ignore[no-any-return]
    if style.needs_weights:
        return module(x, field.edge_index, edge_weight=x.new_ones(field.edge_index.size(1)))  # type: ignore[no-any-return]
    return module(x, field.edge_index)  # type: ignore[no-any-return]


def is_lazy(module: nn.Module) -> bool:
    """Whether some parameter waits for a first forward pass to learn its shape."""
    return any(is_uninitialised(parameter) for parameter in module.parameters())


def refuse_cached(module: nn.Module) -> None:
    """Raise if some layer keeps the normalised edges or features of the first graph it sees.

    Raises:
        ValueError: If a submodule was built with ``cached=True``: on the next field it would use the edges of the last.
        TypeError: If it is no module.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"Expected 'module' to be a torch.nn.Module (got {type(module).__name__})")
    check_not_cached(module)


def _is_required(parameter: inspect.Parameter) -> bool:
    positional = (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    return parameter.default is parameter.empty and parameter.kind in positional


def _is_field(parameter: inspect.Parameter) -> bool:
    annotation = parameter.annotation
    name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return parameter.name == "field" or name.split(".")[-1] == "Field"
