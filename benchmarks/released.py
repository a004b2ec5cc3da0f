"""FGSAM and FGSAM+ with one departure of the released code at a time, as rules that a grid can name.

``form="code"`` of the package's rules has those of the update rule at once. Here each stands alone, so that a
comparison shows what it does; the held scorer and the hybrid gradient are in no ``form``.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from fgsam.functional.ascent import inverse, sam_factor
from fgsam.functional.projection import orthogonal_part, orthogonal_part_each, unit_each
from fgsam.functional.trees import Grads, add, add_scaled, norm, norms, scale
from fgsam.optim.base import Counts
from fgsam.optim.fgsam import FGSAM
from fgsam.optim.fgsam_plus import FGSAMPlus
from fgsam.optim.passes import Pass


class NoDeparture(FGSAMPlus):
    """FGSAM+ as in the paper, written so that a subclass can change one thing."""

    is_per_tensor: ClassVar[bool] = False
    is_mixed: ClassVar[bool] = False
    has_topology: ClassVar[bool] = True

    def _exact(self, gnn: Pass, peer: Pass) -> Grads:
        g_gnn = gnn(clean=True)
        g_mlp = peer()
        with self.displaced(g_gnn, sam_factor(g_gnn, self.options_of_params("rho"))):
            g_s = peer()
        g = add(g_s, g_gnn, alpha=self.lam)
        flatness = self._across(g if self.is_mixed else g_s, g_mlp)
        if self.has_topology:
            self.keep("shift", add(scale(flatness, self.alpha), self._across(g_gnn, g_mlp), alpha=self.lam))
        else:
            self.keep("shift", scale(flatness, self.alpha * (1 + self.lam)))
        return g

    def _cheap(self, peer: Pass) -> Grads:
        g_mlp = peer()
        lengths = norms(g_mlp) if self.is_per_tensor else norm(g_mlp)
        return add_scaled(scale(g_mlp, 1 + self.lam), self.kept("shift"), lengths)

    def _across(self, vector: Grads, direction: Grads) -> Grads:
        """The part of a vector across a direction, of length one; tensor by tensor, or all together."""
        if self.is_per_tensor:
            return unit_each(orthogonal_part_each(vector, direction))
        part = orthogonal_part(vector, direction)
        return scale(part, inverse(norm(part)))


class PerTensor(NoDeparture):
    """Lengths and projections of cheap steps are taken tensor by tensor."""

    is_per_tensor = True


class MixedFlatness(NoDeparture):
    """The flatness vector is taken from the weighted sum with the GNN gradient."""

    is_mixed = True


class NoTopology(NoDeparture):
    """Cheap steps lack the topology term, and are the peer's gradient with the flatness vector alone.

    They keep the length that they have beside exact steps in the release, ``1 + lam`` times the bare sum.
    """

    has_topology = False


class ScorerHeld(FGSAMPlus):
    """The scorer of a GPN stays where it is in the ascent, and otherwise takes the steps of the paper.

    The length of the ascent is that of the gradient of all weights, so that the encoder moves by less than ``rho``.

    Args:
        model: A GPN.
        base: As in ``FGSAMPlus``.
        rho: As in ``FGSAMPlus``.
        **options: As in ``FGSAMPlus``.
    """

    def __init__(
        self,
        model: nn.Module,
        base: type[torch.optim.Optimizer] = torch.optim.Adam,
        *,
        rho: float = 0.1,
        **options: Any,
    ) -> None:
        held = list(model.get_submodule("valuator").parameters())
        ids = {id(param) for param in held}
        others = [param for param in model.parameters() if id(param) not in ids]
        groups: list[dict[str, Any]] = [{"params": others}, {"params": held, "rho": 0.0}]
        super().__init__(groups, base, rho=rho, **options)
        self.guard_buffers(model)


class HybridGradient(FGSAM):
    """FGSAM whose GNN gradient is taken a second time, through kept activations, when the weights have moved.

    The release writes to ``p.data`` between two backward passes of one graph, which autograd does not see: activations
    are those of the old weights, the weights met on the way back are the moved ones.
    """

    needs_vectors = True

    def counts(self, num_queries: int) -> tuple[Counts, Counts]:
        """Count a backward pass more than FGSAM has."""
        return Counts(1, 2, peer=1), Counts(1, 2, peer=1)

    def direction(self, gnn: Pass, peer: Pass) -> Grads:
        """Return the weighted sum of the peer's gradient at the top of the ascent and the hybrid one."""
        passes = gnn.each(lambda num_queries: [torch.arange(num_queries)] * 2, clean=True)
        g_gnn = next(passes)
        params = self._params()
        kept = [param.detach().clone() for param in params]
        moves = scale(g_gnn, sam_factor(g_gnn, self.options_of_params("rho")))
        try:
            for param, move in zip(params, moves, strict=True):
                if move is not None:
                    param.data.add_(move)
            hybrid = next(passes)
            next(passes, None)  # ends the pass, which keeps what it did to buffers
            g_s = peer()
        finally:
            for param, old in zip(params, kept, strict=True):
                param.data.copy_(old)
        return add(g_s, hybrid, alpha=self.lam)
