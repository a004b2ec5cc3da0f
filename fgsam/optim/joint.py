"""One step of several ranks: means over them, and one answer of all to the question how it ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fgsam.functional.trees import Grads
from fgsam.optim.ranks import FailedRankError, LostRankError, Ranks, fingerprint

Values = Callable[[], "Tensor | None"]
"""All losses and norms recorded so far on this rank, shape ``[num_values]``; ``None`` before the first."""


class JointStep:
    """What ranks do together in a step, beside the passes that each runs by itself.

    Args:
        ranks: The processes.
        params: The parameters, the same on all ranks.
        values: Tells what this rank has recorded.
        is_shared: Whether each pass is a mean over ranks.
    """

    def __init__(self, ranks: Ranks, params: Sequence[Tensor], values: Values, *, is_shared: bool) -> None:
        self.is_shared = is_shared
        self._ranks = ranks
        self._params = params
        self._values = values
        self._device = params[0].device
        self._patterns: list[Grads] = []
        self._failure: tuple[Exception, Tensor] | None = None

    def average(self, here: Callable[[], tuple[Tensor, list[Grads]]], num_vectors: int) -> tuple[Tensor, list[Grads]]:
        """Run a pass on every rank, and average its loss and its vectors.

        An error on one rank must not leave the others waiting: it stays beside them until the end of the step, and
        what it hands in is not a number, so that all see the same values and go the same way.

        Args:
            here: Runs the pass on this rank.
            num_vectors: How many vectors it returns.
        """
        loss = torch.full((), math.nan, dtype=torch.float64, device=self._device)
        vectors: list[Grads] = [self._unknown() for _ in range(num_vectors)]
        if self._failure is None:
            try:
                loss, vectors = here()
            except LostRankError:
                raise
            except Exception as error:
                self._failure = error, self._is_bad()
        self._patterns += vectors
        # With the gradients it travels in one piece, but for half precision, which is too coarse for a loss.
        wide = torch.promote_types(self._params[0].dtype.to_real(), torch.float32)
        filled = [
            torch.zeros_like(p) if entry is None else entry
            for vector in vectors
            for entry, p in zip(vector, self._params, strict=True)
            if p.requires_grad
        ]
        *means, mean = self._ranks.mean([*filled, loss.to(self._device, wide)])
        remaining = iter(means)
        averaged: list[Grads] = []
        for vector in vectors:
            entries = [next(remaining) if p.requires_grad else None for p in self._params]
            averaged.append([None if old is None else new for old, new in zip(vector, entries, strict=True)])
        return mean.to(loss.dtype), averaged

    def agree(self, direction: Grads | None, failure: Exception | None) -> bool:
        """Settle how the step ends: whether all losses and gradients are finite on all ranks.

        Args:
            direction: What the rule returned on this rank, if it did.
            failure: What it raised, if anything.

        Raises:
            Exception: What was raised on this rank, unless something was not finite before.
            FailedRankError: If another rank has raised, or ranks reach different parameters.
        """
        failure, is_bad = self._failure or (failure, self._is_bad())
        # An error counts unless something was not finite before it, and numbers were perhaps the cause.
        raised = (1 - is_bad) * (0 if failure is None else self._ranks.rank + 1)
        pattern = torch.full_like(is_bad, fingerprint([*self._patterns, direction or []]))
        bad, rank, most, least = self._ranks.largest(torch.stack([is_bad, raised, pattern, -pattern]))
        if rank and failure is not None:
            raise failure
        if rank:
            raise FailedRankError(
                f"Expected all {self._ranks.size} ranks to finish the step (rank {int(rank) - 1} raised an error). "
                "Weights and state are as before the step; the output of that rank says why."
            )
        if not bad and most != -least:
            raise FailedRankError(
                f"Expected the losses of all {self._ranks.size} ranks to depend on the same parameters (got parameters "
                "that only some ranks reach). Let each rank's closure use the whole model."
            )
        return not bad

    def average_vector(self, vector: Grads) -> Grads:
        """Average one tensor for each parameter, missing on all ranks or on none."""
        means = iter(self._ranks.mean([entry for entry in vector if entry is not None]))
        return [None if entry is None else next(means) for entry in vector]

    def start_of_first(self, start: Tensor) -> Tensor:
        """Return the random state that rank 0 began with, bytes, shape ``[size]``, on the CPU."""
        shared = start.to(self._device, copy=True)
        self._ranks.copy_from_first_([shared])
        return shared.cpu()

    def _is_bad(self) -> Tensor:
        """One if something recorded here is not finite, else zero."""
        values = self._values()
        is_bad = torch.zeros((), device=self._device) if values is None else 1 - values.isfinite().all().float()
        return is_bad.double()

    def _unknown(self) -> Grads:
        return [torch.full_like(p.detach(), math.nan) if p.requires_grad else None for p in self._params]
