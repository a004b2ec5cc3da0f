"""Sharpness-aware minimization with an ascent for each part of the queries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor

from fgsam.checks import check_count
from fgsam.functional.ascent import sam_factor
from fgsam.functional.trees import Grads, add_
from fgsam.optim.base import Counts, ModelOrParams, Nonfinite, SharpnessAware
from fgsam.optim.passes import Pass


class MicroBatchSAM(SharpnessAware):
    r"""Minimise the mean, over parts of the queries, of the largest loss within a small ball (m-SAM).

    .. math:: w \leftarrow \mathrm{Opt}\Big(w, \sum_j \frac{n_j}{n} \nabla L_j\big(w + \rho \, g_j / \lVert g_j
              \rVert\big)\Big), \quad g_j = \nabla L_j(w)

    ``L_j`` is the mean loss of the ``n_j`` queries of shard ``j``. Query ``i`` belongs to shard ``i mod num_shards``,
    so that queries sorted by class are spread over the shards. Each shard's norm is over all parameters together. One
    shard is SAM, as many shards as queries are SAM query by query. The number in the literature's "m" is that of the
    shards for some authors and their size for others; here it is their number.

    Cost: one forward pass for all ascents and one for each shard, for a closure evaluates all queries, and two backward
    passes for each shard. State: none that lasts; the gradients of all shards during the step. Use it for the effect of
    small batches on the ascent, with few shards.

    Args:
        model_or_params: The model, its parameters or parameter groups; a group may set its own ``rho``.
        base: Class of the optimizer that makes the step.
        rho: Radius of the ball, at least 0. The default 0.05 is SAM's.
        num_shards: Number of parts, at least 1; 1 gives SAM. With fewer queries than that, each query is a shard. The
            default 2 is ours, the least that differs from SAM.
        nonfinite: ``"raise"``, ``"skip"`` or ``"allow"``, see ``SharpnessAware``.
        **base_options: Arguments of the base optimizer.

    Example:
        >>> w = torch.tensor([1.0], requires_grad=True)
        >>> optimizer = MicroBatchSAM([w], torch.optim.SGD, rho=0.5, num_shards=2, lr=0.25)
        >>> optimizer.step(lambda: torch.cat([w**2, (w - 2) ** 2]))
        tensor(1.)
        >>> w.detach()  # the two ascents went opposite ways
        tensor([1.])

    Source:
        Behdin et al., mSAM: Micro-Batch-Averaged Sharpness-Aware Minimization, 2023, Algorithm 1; m-sharpness: Foret et
        al., Sharpness-Aware Minimization for Efficiently Improving Generalization, 2021.
    """

    rule = "micro_batch_sam"
    needs_vectors = True
    neutral: ClassVar[dict[str, float] | None] = {"rho": 0.0, "num_shards": 1}
    passes = "1 + num_shards GNN"

    def __init__(
        self,
        model_or_params: ModelOrParams,
        base: type[torch.optim.Optimizer] = torch.optim.Adam,
        *,
        rho: float = 0.05,
        num_shards: int = 2,
        nonfinite: Nonfinite = "raise",
        **base_options: Any,
    ) -> None:
        check_count(num_shards=num_shards)
        self.num_shards = num_shards
        super().__init__(model_or_params, base, nonfinite=nonfinite, group_options={"rho": rho}, **base_options)

    def direction(self, gnn: Pass, peer: Pass) -> Grads:
        """Return the mean of the shards' gradients, each at the top of the shard's own ascent."""
        shards: list[Tensor] = []

        def split(num_queries: int) -> Iterable[Tensor]:
            places = torch.arange(num_queries)
            shards.extend(places[start :: self.num_shards] for start in range(min(self.num_shards, num_queries)))
            return shards

        ascents = list(gnn.each(split, clean=True))
        radii = self.options_of_params("rho")
        num_queries = sum(map(len, shards))
        total: Grads = [None] * len(radii)
        for shard, g in zip(shards, ascents, strict=True):
            with self.displaced(g, sam_factor(g, radii)):
                [g_s] = gnn.each([shard])
            total = add_(total, g_s, alpha=len(shard) / num_queries)
        return total

    def counts(self, num_queries: int) -> tuple[Counts, Counts]:
        """Count the passes, which are the same in every step."""
        num_shards = min(self.num_shards, num_queries)
        always = Counts(1 + num_shards, 2 * num_shards)
        return always, always
