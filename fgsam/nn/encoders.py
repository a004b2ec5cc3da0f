"""What an encoder is: it declares the field it needs, and embeds that field's targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

from torch import Tensor, nn

from fgsam.graph.field import Field
from fgsam.typing import Boundary, EdgeKind

if TYPE_CHECKING:
    from fgsam.graph.graph import Graph
    from fgsam.typing import NodeIds

KEEP_IDENTITY = "Nothing: on a self-loop the propagation is the identity."


class Encoder(nn.Module):
    """What an encoder declares, and what it owes: one row for each target of a field.

    Attributes:
        edges: The weights it wants: the graph's own (``"raw"``) or full-graph ones with self-loops.
        boundary: The width of field on which it is exact.
        folds_first_hop: Whether it begins with ``A @ (X @ W)`` and can use kept rows of ``A @ X``.
        uses_weights: Whether the graph's own edge weights enter.
        densifies: Whether it writes out the zeros of sparse feature rows, which costs memory.
        stacks: Whether it also embeds :class:`fgsam.graph.stacked.StackedFields`, with a set of weights for each.
        num_hops: How far it reads.
        dim: Length of an embedding.
        peer_rule: For a built-in encoder, verdict and advice of :func:`fgsam.nn.peer.peer_report`.
    """

    edges: EdgeKind = "raw"
    boundary: Boundary = "narrow"
    folds_first_hop: bool = False
    uses_weights: bool = True
    densifies: bool = False
    stacks: bool = False
    num_hops: int
    dim: int
    peer_rule: tuple[str, str] = ("defined", KEEP_IDENTITY)

    def forward(self, field: Field) -> Tensor:
        """Embed the targets of a field, shape ``[field.num_targets, dim]``."""
        raise NotImplementedError(f"{type(self).__name__} has to define forward(field)")


class NoEncoder(Encoder):
    """Embeds nothing, for a learner that reads features itself."""

    num_hops = 0
    dim = 0

    def forward(self, field: Field) -> Tensor:
        """Give rows without entries, shape ``[field.num_targets, 0]``."""
        return field.dense_x()[: field.num_targets, :0]


def is_built_in(module: nn.Module) -> TypeGuard[Encoder]:
    """Whether a module is one of this package's own encoders, which are exact and have a peer by construction."""
    return isinstance(module, Encoder) and type(module).__module__.startswith("fgsam.nn.") and not module.densifies


def field_of(encoder: Encoder, graph: Graph, nodes: NodeIds, *, peer: bool = False, kept: bool = True) -> Field:
    """Build the field that an encoder declares.

    Args:
        encoder: Anything with the attributes of :class:`Encoder`.
        graph: Where to look.
        nodes: Target nodes, without repetition.
        peer: Build the field of zero hops, on which the encoder is its own peer MLP.
        kept: Whether kept rows of ``A @ X`` may stand for the edges of the last hop.

    Raises:
        ValueError: If the graph has edge weights and the encoder takes none, or a node is out of range.
    """
    if graph.is_weighted and not encoder.uses_weights:
        raise ValueError(
            f"Expected an encoder that takes edge weights, since graph '{graph.name}' has them "
            f"(got {type(encoder).__name__}, which would drop them). Use gcn, sgc, sage, gin, appnp, "
            "gcnii or gprgnn, or build the graph without edge_weight."
        )
    hops = 0 if peer else encoder.num_hops
    is_folded = kept and encoder.folds_first_hop and hops > 0
    return graph.field(nodes, hops, edges=encoder.edges, boundary=encoder.boundary, kept=is_folded)
