"""Any PyTorch Geometric module as an encoder on receptive fields."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fgsam.checks import check_choice, check_positive
from fgsam.graph.field import Field
from fgsam.graph.graph import Graph
from fgsam.nn.calling import FieldForward, call, calling_of, is_lazy, refuse_cached
from fgsam.nn.encoders import Encoder, field_of
from fgsam.nn.probing import fresh_copy, path_field, seeded_rows
from fgsam.nn.reach import Reach, reach
from fgsam.nn.weights import weight_faults

_TOLERANCE = 1e-4
_PATH_LENGTH = 4


class ModuleEncoder(Encoder):
    """Wraps a user's module, so that it embeds the targets of a field as it would on the full graph.

    The module takes ``forward(x, edge_index[, edge_weight])`` or ``forward(field)``. It may declare ``edges``,
    ``boundary`` and ``num_hops`` as :class:`Encoder` does; otherwise it gets the graph's own edges and the closed
    field, on which layers that count degrees themselves are exact, and its reach is measured.

    Args:
        module: The module; it becomes the submodule ``module``. Lazy channels are set by one forward pass.
        num_features: Width of the input rows, at least 1.
        num_hops: How far it reads; by default what it declares, or else what is measured.
        allow_inexact: Accept layers that couple rows; :attr:`inexact` then says what is not exact.
        forward: Function ``forward(module, field)`` that calls a module with other arguments and returns the rows of
            the targets.

    Attributes:
        module: The wrapped module.
        reach: What was measured.
        inexact: Reasons why a field may differ from the full graph; empty for an exact module.

    Raises:
        ValueError: If layers couple rows or are cached, drop or re-normalise the weights they get, or read farther
            than ``num_hops``.
        TypeError: If ``module`` is not a module or its ``forward`` takes other arguments.

    Example:
        >>> from torch_geometric.nn import GraphSAGE
        >>> encoder = ModuleEncoder(GraphSAGE(8, 32, num_layers=2, out_channels=16), num_features=8)
        >>> encoder.num_hops, encoder.dim, encoder.boundary
        (2, 16, 'closed')
    """

    def __init__(
        self,
        module: nn.Module,
        num_features: int,
        *,
        num_hops: int | None = None,
        allow_inexact: bool = False,
        forward: FieldForward | None = None,
    ) -> None:
        super().__init__()
        check_positive(num_features=num_features)
        if not isinstance(module, nn.Module):
            raise TypeError(f"Expected 'module' to be a torch.nn.Module (got {type(module).__name__})")
        refuse_cached(module)
        self.num_features = num_features
        self.allow_inexact = allow_inexact
        self.module = module
        self._call = forward
        self.edges = getattr(module, "edges", "raw")
        self.boundary = getattr(module, "boundary", "closed")
        check_choice(("raw", "row", "sym"), edges=self.edges)
        check_choice(("narrow", "closed"), boundary=self.boundary)
        if is_lazy(module):
            _initialise(module, num_features, forward)
        self.reach = reach(module, num_features, forward=forward)
        declared = num_hops if num_hops is not None else getattr(module, "num_hops", None)
        self.inexact = _refuse_or_record(self.reach, declared, allow_inexact)
        self.num_hops = _chosen_hops(self.reach, declared)
        self.densifies = True
        self.uses_weights = _takes_weights(module, num_features, forward)
        if self.edges != "raw":
            _check_declared_weights(module, num_features, forward)
        self.dim = _width(module, num_features, forward)

    def forward(self, field: Field) -> Tensor:
        """Embed the targets of a field, shape ``[field.num_targets, dim]``.

        Raises:
            ValueError: If the graph has weights of its own and the module takes none, the features have another
                width than declared, or the module does not return one row for each node.
        """
        if field.x.shape[1] != self.num_features:
            raise ValueError(
                f"Expected features of width num_features={self.num_features} (got {field.x.shape[1]}). "
                f"Build the {type(self.module).__name__} for the graph it runs on."
            )
        if field.edge_weight is not None and not self.uses_weights:
            raise ValueError(
                f"Expected a module that takes the edge weights of the graph (got {type(self.module).__name__}, which "
                "would drop them). Use layers that take edge_weight, or build the graph without it."
            )
        return self._targets(call(self.module, field, self._call), field)

    def extra_repr(self) -> str:
        """Show what the encoder declares."""
        return f"edges='{self.edges}', boundary='{self.boundary}', num_hops={self.num_hops}, dim={self.dim}"

    def _targets(self, rows: object, field: Field) -> Tensor:
        is_by_target = self._call is not None or calling_of(self.module).takes_field
        expected = field.num_targets if is_by_target else field.num_nodes
        if not isinstance(rows, Tensor) or rows.shape != (expected, self.dim):
            got = list(rows.shape) if isinstance(rows, Tensor) else type(rows).__name__
            raise ValueError(
                f"Expected {type(self.module).__name__} to return {'target' if is_by_target else 'node'} rows of shape "
                f"[{expected}, {self.dim}] (got {got}). {_way_out(rows, field, is_by_target)}"
            )
        return rows[: field.num_targets]


def wrap(
    module: nn.Module,
    num_features: int,
    *,
    num_hops: int | None = None,
    allow_inexact: bool = False,
    forward: FieldForward | None = None,
) -> Encoder:
    """Return an encoder as it is and wrap any other module, see :class:`ModuleEncoder`.

    Args:
        module: An encoder or a user's module.
        num_features: Width of the input rows, at least 1.
        num_hops: How far a user's module reads; by default what it declares or what is measured.
        allow_inexact: Accept layers that couple rows.
        forward: Function that calls a user's module on a field, for modules with other arguments.
    """
    if isinstance(module, Encoder):
        return module
    return ModuleEncoder(module, num_features, num_hops=num_hops, allow_inexact=allow_inexact, forward=forward)


@dataclass(frozen=True)
class FieldCheck:
    """How far an encoder on a field is from the same encoder on more of the graph.

    Attributes:
        error: Norm of the difference, relative to the norm of the reference rows.
        reference: ``"full pass"``, or ``"closed field of L hops"`` where the features do not fit in memory.
        num_targets: How many rows were compared.
    """

    error: float
    reference: str
    num_targets: int


def check_field_equals_full(
    encoder: Encoder, graph: Graph, *, num_targets: int = 64, generator: np.random.Generator
) -> FieldCheck:
    """Compare random targets, field against full pass, in evaluation mode.

    A pass of a user's module over the whole graph needs dense features. Where these exceed ``graph.memory_mb``, the
    reference is a closed field with one more hop, of as many targets as fit.

    Args:
        encoder: The encoder as it will be trained.
        graph: The graph on which it will be trained.
        num_targets: How many nodes to compare, at least 1.
        generator: Draws the nodes.

    Returns:
        The error and what it refers to; the record of an encoder with ``allow_inexact``.

    Raises:
        ValueError: If the relative error exceeds 1e-4 and the encoder does not allow it.
    """
    check_positive(num_targets=num_targets)
    nodes = torch.from_numpy(generator.permutation(graph.num_nodes)[:num_targets])
    is_training = encoder.training
    encoder.eval()
    try:
        with torch.no_grad():
            wanted, nodes, reference = _reference_rows(encoder, graph, nodes)
            found = encoder(field_of(encoder, graph, nodes))
    finally:
        encoder.train(is_training)
    error = float((found - wanted).norm() / wanted.norm().clamp_min(torch.finfo(wanted.dtype).tiny))
    if not error <= _TOLERANCE and not getattr(encoder, "allow_inexact", False):
        raise ValueError(
            f"Expected {_name(encoder)} to give the same rows on a field as by a {reference} "
            f"(got a relative error of {error:.1e} on {len(nodes)} targets, num_hops={encoder.num_hops}, "
            f"boundary='{encoder.boundary}'). Declare boundary='closed' or a larger num_hops, replace layers that look "
            "at the whole graph, or pass allow_inexact=True."
        )
    return FieldCheck(error, reference, len(nodes))


def _reference_rows(encoder: Encoder, graph: Graph, nodes: Tensor) -> tuple[Tensor, Tensor, str]:
    row_bytes = graph.num_features * torch.finfo(graph.dtype).bits // 8
    most_rows = graph.memory_mb * 2**20 / row_bytes
    if not isinstance(encoder, ModuleEncoder) or graph.num_nodes <= most_rows:
        everything = graph.field(
            torch.arange(graph.num_nodes), encoder.num_hops, edges=encoder.edges, boundary=encoder.boundary
        )
        return encoder(everything)[nodes.to(everything.node_ids.device)], nodes, "full pass"
    hops = encoder.num_hops + 1
    field = graph.field(nodes, hops, edges=encoder.edges, boundary="closed")
    while field.num_nodes > most_rows and len(nodes) > 1:
        nodes = nodes[: len(nodes) // 2]
        field = graph.field(nodes, hops, edges=encoder.edges, boundary="closed")
    return encoder(field), nodes, f"closed field of {hops} hops"


def _way_out(rows: object, field: Field, is_by_target: bool) -> str:
    if is_by_target and isinstance(rows, Tensor) and len(rows) == field.num_nodes:
        return "The targets come first: return rows[: field.num_targets]."
    return "Its width must not depend on the graph."


def _name(encoder: Encoder) -> str:
    return type(encoder.module if isinstance(encoder, ModuleEncoder) else encoder).__name__


def _initialise(module: nn.Module, num_features: int, forward: FieldForward | None) -> None:
    """Give lazy channels their shape, without moving buffers; weights come from the global generator, as any do."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            call(module, path_field(num_features, _PATH_LENGTH, like=module), forward)
    finally:
        for part, is_training in modes.items():
            part.training = is_training


def _refuse_or_record(measured: Reach, declared: int | None, allow_inexact: bool) -> tuple[str, ...]:
    reasons = []
    if measured.is_row_coupled:
        reasons.append(f"rows depend on unrelated ones through {', '.join(measured.culprits)}")
    if declared is not None and measured.num_hops is not None and declared < measured.num_hops:
        reasons.append(f"num_hops={declared} is less than the measured {measured.num_hops}")
    if reasons and not allow_inexact:
        raise ValueError(
            f"Expected a module that a field can serve exactly (got: {'; '.join(reasons)}). Normalise each row by "
            "itself (torch.nn.LayerNorm, torch_geometric.nn.LayerNorm(mode='node')), leave num_hops to measurement, "
            "or pass allow_inexact=True, which is recorded in the results."
        )
    return tuple(reasons)


def _chosen_hops(measured: Reach, declared: int | None) -> int:
    hops = measured.num_hops if declared is None else declared
    if hops is None:
        raise ValueError(
            f"Expected 'num_hops', since it cannot be measured past {', '.join(measured.culprits)} (got None). "
            "Pass the number of hops that the module reads."
        )
    return max(hops, 1)  # a field of zero hops is the peer's


def _takes_weights(module: nn.Module, num_features: int, forward: FieldForward | None) -> bool:
    if forward is not None or calling_of(module).takes_field:
        return True
    return calling_of(module).takes_weights and not weight_faults(module, num_features).dropping


def _check_declared_weights(module: nn.Module, num_features: int, forward: FieldForward | None) -> None:
    if forward is not None or calling_of(module).takes_field:
        return  # it decides by itself what to do with the weights of a field
    faults = weight_faults(module, num_features)
    if faults.dropping or not calling_of(module).takes_weights:
        raise ValueError(
            f"Expected layers that use the weights of edges='{module.edges}' "
            f"(got {', '.join(faults.dropping) or type(module).__name__}, which drops them). "
            "Declare edges='raw', or use layers that take edge_weight."
        )
    if faults.renormalising:
        raise ValueError(
            f"Expected layers that use the weights of edges='{module.edges}' as they are "
            f"(got {', '.join(faults.renormalising)}, which normalises them a second time). "
            "Build it with normalize=False, or declare edges='raw' and leave the weights to the layer."
        )


def _width(module: nn.Module, num_features: int, forward: FieldForward | None) -> int:
    field = path_field(num_features, _PATH_LENGTH, like=module)
    with torch.no_grad():
        rows = seeded_rows(fresh_copy(module, field, is_training=False, forward=forward), field, forward)
    if rows.dim() != 2:
        raise ValueError(
            f"Expected {type(module).__name__} to return rows of shape [num_nodes, dim] (got {list(rows.shape)}). "
            "Flatten what it returns."
        )
    return rows.size(1)
