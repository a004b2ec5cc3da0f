"""Which layers have a well-defined peer MLP: the same weights on rows that see only themselves."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from fgsam.graph.field import Field
from fgsam.nn.calling import FieldForward, refuse_cached
from fgsam.nn.encoders import KEEP_IDENTITY, is_built_in
from fgsam.nn.probing import describe, fresh_copy, moved_rows, path_field, rows_field, seeded_rows
from fgsam.nn.reach import reach

_NUM_ROWS = 64
_PATH_LENGTH = 8
_NUM_SIGNS = 4
"""Signs of the weights that are tried before a parameter counts as one that nothing moves."""

_IDENTITY = ("GCNConv", "SGConv", "SSGConv", "APPNP", "ClusterGCNConv", "GCN2Conv", "MixHopConv", "EGConv", "PDNConv")
_ATTENTION = ("GATConv", "GATv2Conv", "SuperGATConv", "AGNNConv", "FeaStConv")
_TWO_READINGS = (
    "SAGEConv", "GINConv", "TransformerConv", "GraphConv", "TAGConv", "ARMAConv", "LEConv", "ResGatedGraphConv",
    "PNAConv", "GENConv", "GatedGraphConv", "HypergraphConv", "LGConv", "GeneralConv", "CGConv", "FiLMConv",
    "SimpleConv", "WLConvContinuous",
)  # fmt: skip
_FINDS_NEIGHBOURS = "It finds neighbours by itself and reads no edges: choose a layer that takes edge_index."
_NOT_TO_BE_RUN = {
    "DynamicEdgeConv": _FINDS_NEIGHBOURS,
    "GravNetConv": _FINDS_NEIGHBOURS,
    "XConv": _FINDS_NEIGHBOURS,
    "MeshCNNConv": "It reads exactly four edges of every row: choose a layer for any number of neighbours.",
    "SparseLinear": "Its weights belong to the nodes of one graph, and a field renumbers nodes: use shared weights.",
}
"""Layers that are refused without running them: rows and edges alone do not say what they compute."""
_WITHOUT_PEER = {
    **_NOT_TO_BE_RUN,
    "EdgeConv": "Its messages are differences of rows, zero on a self-loop: use SAGEConv or GraphConv.",
    "MFConv": "Its weights belong to degrees, and of these a self-loop trains those of degree 1 alone: use GraphConv.",
}

_KEEP_SELF_LOOPS = "Nothing: rows see themselves through a self-loop, so that all weights stay alive."
_GNN_TERM = "Nothing: the graph's term of the gradient alone moves these parameters."
_BY_ITSELF = (
    "Normalise each row by itself, as torch.nn.LayerNorm does, and leave out attention and pooling over the whole graph"
)


@dataclass(frozen=True)
class PeerLayer:
    """What becomes of one layer in the peer.

    Attributes:
        name: Name of the submodule; empty for the module itself.
        kind: Its class.
        verdict: ``"defined"``: propagation becomes the identity. ``"self-loop"``: no edges and self-loops give two
            different peers, of which the self-loops are taken. ``"chosen"``: it leaves self-loops out, and an option
            names its peer. ``"measured"``: a class without a rule, whose rows were found to be independent.
            ``"row-wise"``: it never looked at edges. ``"row-coupled"``: its rows depend on each other.
            ``"undefined"``: there is no peer.
        dead: Parameters that get a gradient on a graph, but none in the peer.
        advice: What to do about it.
    """

    name: str
    kind: str
    verdict: str
    dead: tuple[str, ...]
    advice: str


@dataclass(frozen=True)
class PeerReport:
    """The layers of a module and their peers.

    Attributes:
        layers: One entry for each layer with edges or parameters.
        coupled: Submodules that make peer rows depend on each other.
    """

    layers: tuple[PeerLayer, ...]
    coupled: tuple[str, ...]

    @property
    def undefined(self) -> tuple[PeerLayer, ...]:
        """Layers without a peer."""
        return tuple(layer for layer in self.layers if layer.verdict == "undefined")

    @property
    def is_defined(self) -> bool:
        """Whether every layer has a peer and no row depends on another."""
        return not self.undefined and not self.coupled

    def __str__(self) -> str:
        """Lay the report out as a table."""
        rows = [("layer", "class", "verdict", "no gradient in the peer", "what to do")]
        rows += [(e.name or "(module)", e.kind, e.verdict, ", ".join(e.dead) or "-", e.advice) for e in self.layers]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = [
            "  ".join((*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4])) for row in rows
        ]
        if self.coupled:
            lines.append(f"Rows depend on each other through {', '.join(self.coupled)}. {_BY_ITSELF}.")
        return "\n".join(lines)


def peer_report(
    module: nn.Module, num_features: int | None = None, *, forward: FieldForward | None = None
) -> PeerReport:
    """Tell which layers of a module have a well-defined peer and which parameters get no gradient in it.

    The peer is the module itself on rows that each have one self-loop of weight 1. Classes with known rules are judged
    by these; independence of the rows and missing gradients are measured on copies.

    Args:
        module: An encoder, or a module with ``forward(x, edge_index[, edge_weight])`` or ``forward(field)``.
        num_features: Width of the input rows; by default the ``num_features`` or ``in_channels`` of the module.
        forward: Function that calls the module on a field, for modules with other arguments.

    Raises:
        ValueError: If ``num_features`` is neither given nor known, or a layer is cached.

    Example:
        >>> from torch_geometric.nn import GATConv
        >>> report = peer_report(GATConv(8, 4))
        >>> report.is_defined, report.layers[0].verdict, report.layers[0].dead
        (True, 'defined', ('att_dst', 'att_src'))

    Source:
        Yang et al., Graph Neural Networks are Inherently Good Generalizers, 2023, section 3.
    """
    refuse_cached(module)
    width = _width(module, num_features)
    names = _layer_names(module)
    parts = {name: module.get_submodule(name) for name in names}
    if any(_class_in(part, tuple(_NOT_TO_BE_RUN)) for part in parts.values()):
        return PeerReport(tuple(_judge(name, part, (), None, ()) for name, part in parts.items()), ())
    peer = _peer_field(module, width)
    path = path_field(width, _PATH_LENGTH, like=module)
    # Of few neighbours and these weights attention may not depend on a parameter that moves it with others.
    never = set.intersection(*(_without_gradient(module, path, forward, signs) for signs in range(_NUM_SIGNS)))
    dead = _without_gradient(module, peer, forward) - never
    messages = _count_messages(module, peer, forward)
    coupled = _coupled(module, width, forward)
    layers = [_judge(name, part, _own(dead, name, names), messages.get(name), coupled) for name, part in parts.items()]
    return PeerReport(tuple(layers), coupled)


def check_peer(
    module: nn.Module,
    num_features: int | None = None,
    *,
    allow_inexact: bool = False,
    forward: FieldForward | None = None,
) -> PeerReport:
    """Raise if a module has no well-defined peer, as FGSAM needs.

    Args:
        module: An encoder, or a module with ``forward(x, edge_index[, edge_weight])`` or ``forward(field)``.
        num_features: Width of the input rows; by default the ``num_features`` or ``in_channels`` of the module.
        allow_inexact: Accept rows that depend on each other.
        forward: Function that calls the module on a field, for modules with other arguments.

    Returns:
        The report, for the record.

    Raises:
        ValueError: If a layer has no peer, is cached, or couples rows; the message names it and the way out.
    """
    report = peer_report(module, num_features, forward=forward)
    if report.undefined:
        layer = report.undefined[0]
        raise ValueError(
            f"Expected an encoder with a well-defined peer MLP (got '{layer.name or 'module'}', a {layer.kind}). "
            f"{layer.advice} Or train with an optimizer that needs no peer: adam, sam."
        )
    if report.coupled and not (allow_inexact or getattr(module, "allow_inexact", False)):
        raise ValueError(
            f"Expected peer rows that do not depend on each other (got {', '.join(report.coupled)}). {_BY_ITSELF}, "
            "or pass allow_inexact=True."
        )
    return report


def _width(module: nn.Module, num_features: int | None) -> int:
    for value in (num_features, getattr(module, "num_features", None), getattr(module, "in_channels", None)):
        if isinstance(value, int) and value > 0:
            return value
    raise ValueError(
        f"Expected 'num_features' for {type(module).__name__} (got {num_features}). Pass the width of its input rows."
    )


def _peer_field(module: nn.Module, num_features: int, num_poisoned: int = 0) -> Field:
    x = torch.randn(_NUM_ROWS, num_features, generator=torch.Generator().manual_seed(0))
    return rows_field(x, torch.zeros(2, 0, dtype=torch.int64), 0, like=module, poisoned=range(num_poisoned))


def _layer_names(module: nn.Module) -> list[str]:
    """Name the layers that read edges, and outside of them whatever holds parameters of its own."""
    names: list[str] = []
    for name, part in module.named_modules():
        is_inside = any(_holds(outer, name) and _reads_edges(module.get_submodule(outer)) for outer in names)
        has_own = any(True for _ in part.parameters(recurse=False))
        if not is_inside and (_reads_edges(part) or has_own):
            names.append(name)
    return names


def _reads_edges(part: nn.Module) -> bool:
    return is_built_in(part) or isinstance(part, MessagePassing)


def _holds(outer: str, name: str) -> bool:
    return not outer or name.startswith(f"{outer}.")


def _own(dead: set[str], name: str, names: list[str]) -> tuple[str, ...]:
    """Keep the parameters whose innermost listed layer is this one, without its prefix."""
    mine = []
    for parameter in sorted(dead):
        owner = max((other for other in names if not other or parameter.startswith(f"{other}.")), key=len)
        if owner == name:
            mine.append(parameter.removeprefix(f"{name}.") if name else parameter)
    return tuple(mine)


def _without_gradient(
    module: nn.Module, field: Field, forward: FieldForward | None, signs: int | None = None
) -> set[str]:
    """Name the parameters that a random loss on the field does not move.

    Args:
        module: It is copied.
        field: Where it runs.
        forward: Calls it.
        signs: Seed by which the entries of weights change their signs; 0 and None for none.
    """
    copied = fresh_copy(module, field, is_training=False, forward=forward)
    if signs:
        _flip(copied, torch.Generator().manual_seed(signs))
    named = {name: value for name, value in copied.named_parameters() if value.requires_grad}
    rows = seeded_rows(copied, field, forward)
    if not rows.requires_grad:
        return set(named)
    noise = torch.randn(rows.shape, generator=torch.Generator().manual_seed(1)).to(rows)
    gradients = torch.autograd.grad((rows * noise).sum(), list(named.values()), allow_unused=True)
    sizes = [0.0 if gradient is None else float(gradient.abs().max()) for gradient in gradients]
    if signs and not all(map(math.isfinite, sizes)):
        return set(named)  # a module that needs its signs tells nothing without them
    # A softmax over one neighbour may leave rounding errors where the gradient is zero.
    smallest = 100 * torch.finfo(rows.dtype).eps * max(sizes, default=0.0)
    return {name for name, size in zip(named, sizes, strict=True) if size <= smallest}


def _flip(module: nn.Module, rng: torch.Generator) -> None:
    """Change the sign of about half of the entries of the weights."""
    with torch.no_grad():
        for param in module.parameters():
            param.mul_(torch.randint(0, 2, param.shape, generator=rng).mul_(2).sub_(1).to(param))


def _count_messages(module: nn.Module, field: Field, forward: FieldForward | None) -> dict[str, int]:
    """Count the messages that each message-passing layer sends on the field, the fewest of its calls."""
    copied = fresh_copy(module, field, is_training=False, forward=forward)
    counts: dict[str, int] = {}

    def counter(name: str) -> Callable[..., None]:
        def hook(layer: MessagePassing, _: object, messages: object) -> None:
            if isinstance(messages, Tensor):
                counts[name] = min(counts.get(name, field.num_nodes), messages.size(layer.node_dim))

        return hook

    for name, part in copied.named_modules():
        if isinstance(part, MessagePassing):
            part.register_message_forward_hook(counter(name))
    with torch.no_grad():
        seeded_rows(copied, field, forward)
    return counts


def _coupled(module: nn.Module, num_features: int, forward: FieldForward | None) -> tuple[str, ...]:
    """Name what makes peer rows depend on each other in training or evaluation mode."""
    for is_training in (False, True):
        # Half of them, since pooling may have kept a single row in any case.
        clean, poisoned = (
            _peer_rows(module, num_features, forward, is_training, count) for count in (0, _NUM_ROWS // 2)
        )
        if moved_rows(clean, poisoned)[_NUM_ROWS // 2 :].any():
            return reach(module, num_features, forward=forward).culprits or (type(module).__name__,)
    return ()


def _peer_rows(
    module: nn.Module, num_features: int, forward: FieldForward | None, is_training: bool, num_poisoned: int
) -> Tensor:
    field = _peer_field(module, num_features, num_poisoned)
    with torch.no_grad():
        return seeded_rows(fresh_copy(module, field, is_training=is_training, forward=forward), field, forward)


def _judge(
    name: str, part: nn.Module, dead: tuple[str, ...], num_messages: int | None, coupled: tuple[str, ...]
) -> PeerLayer:
    verdict, advice = _verdict(part, num_messages)
    if describe(name, part) in coupled:
        verdict, advice = "row-coupled", f"{_BY_ITSELF}."
    if dead and verdict in ("defined", "self-loop", "row-wise"):
        advice = _GNN_TERM
    return PeerLayer(name, type(part).__name__, verdict, dead, advice)


def _verdict(part: nn.Module, num_messages: int | None) -> tuple[str, str]:
    """Judge a layer by its class, or by what was measured when its class has no rule."""
    for kind, advice in _WITHOUT_PEER.items():
        if _class_in(part, (kind,)):
            return "undefined", advice
    if _class_in(part, ("ChebConv",)) and len(part.lins) >= 3:  # type: ignore[arg-type]
        return "undefined", "It strips self-loops and its peer is an alternating sum: use K=1, TAGConv or GCNConv."
    if is_built_in(part):
        return part.peer_rule
    if _class_in(part, (*_IDENTITY, *_ATTENTION, "ChebConv")):
        adds_loops = getattr(part, "add_self_loops", True)
        return ("defined", KEEP_IDENTITY) if adds_loops else ("self-loop", _KEEP_SELF_LOOPS)
    if _class_in(part, ("FAConv",)):
        return "defined", "Nothing: on a self-loop every row is gated by itself."
    if num_messages == 0:
        return "undefined", "It leaves self-loops out, so rows send no messages: keep them, or use GCNConv or SAGEConv."
    if _class_in(part, _TWO_READINGS):
        return "self-loop", _KEEP_SELF_LOOPS
    if not isinstance(part, MessagePassing) and type(part).__module__.startswith(("torch.", "torch_geometric.")):
        return "row-wise", "Nothing."
    return "measured", "Read its equations: is it meant to be used on rows that see only themselves?"


def _class_in(part: nn.Module, names: tuple[str, ...]) -> bool:
    """Whether a layer is one of PyTorch Geometric's classes, or derived from it."""
    return any(kind.__name__ in names and kind.__module__.startswith("torch_geometric.") for kind in type(part).__mro__)
