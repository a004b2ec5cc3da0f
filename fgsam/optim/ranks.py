"""Steps that several processes take together."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fgsam.functional.trees import Grads

DataParallel = Literal["global", "per_rank"]
"""Whether ranks share every pass, or only the direction of the step."""


class LostRankError(RuntimeError):
    """A rank no longer answers; nothing more can be agreed on."""


class FailedRankError(RuntimeError):
    """Another rank has raised an error of its own; all have left the step as it began."""


class Ranks:
    """The processes of a group, which all call the same methods in the same order.

    Args:
        group: A process group, by default that of all processes.

    Raises:
        RuntimeError: If there is no process group.
    """

    def __init__(self, group: Any = None) -> None:
        if not (dist.is_available() and dist.is_initialized()):
            raise RuntimeError(
                "Expected an initialised process group for 'data_parallel' (got none). Call "
                "torch.distributed.init_process_group() before the optimizer is built, in a job started by torchrun."
            )
        self._group = group
        self.rank = dist.get_rank(group)
        self.size = dist.get_world_size(group)

    def mean(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Average tensors over ranks: their sum, divided by the number of ranks.

        Args:
            tensors: Of the same shapes and types on all ranks.

        Returns:
            New tensors, equal bit for bit on all ranks.
        """
        return self._flat(tensors, lambda flat: self._sum_(flat).div_(self.size))

    def largest(self, numbers: Tensor) -> list[float]:
        """Read the largest value of each number over ranks, shape ``[num_numbers]``."""
        self._together(lambda: dist.all_reduce(numbers, dist.ReduceOp.MAX, group=self._group))
        found: list[float] = numbers.tolist()
        return found

    def of_first(self, value: Any) -> Any:
        """Return the value that rank 0 gives, a plain one; what the others give does not matter."""
        found = [value]
        self._together(lambda: dist.broadcast_object_list(found, group=self._group, group_src=0))
        return found[0]

    def gathered(self, value: Any) -> list[Any]:
        """Return what each rank gives, of plain values and tensors on the CPU, in the order of ranks."""
        found: list[Any] = [None] * self.size
        self._together(lambda: dist.all_gather_object(found, value, group=self._group))
        return found

    @torch.no_grad()
    def copy_from_first_(self, tensors: Iterable[Tensor]) -> None:
        """Write the values of rank 0 into tensors."""
        tensors = [tensor.detach() for tensor in tensors if tensor.layout == torch.strided]
        for tensor, values in zip(tensors, self._flat(tensors, self._broadcast_), strict=True):
            tensor.copy_(values)

    def _flat(self, tensors: Sequence[Tensor], act: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """Join tensors of one type and device, act on them together, and cut them apart again."""
        places: defaultdict[tuple[torch.dtype, torch.device], list[int]] = defaultdict(list)
        for i, tensor in enumerate(tensors):
            places[tensor.dtype, tensor.device].append(i)
        found = list(tensors)
        for where in places.values():
            flat = act(torch.cat([tensors[i].detach().reshape(-1) for i in where]))
            parts = torch.split(flat, [tensors[i].numel() for i in where])
            for i, part in zip(where, parts, strict=True):
                found[i] = part.view(tensors[i].shape)
        return found

    def _sum_(self, flat: Tensor) -> Tensor:
        self._together(lambda: dist.all_reduce(flat, group=self._group))
        return flat

    def _broadcast_(self, flat: Tensor) -> Tensor:
        self._together(lambda: dist.broadcast(flat, group=self._group, group_src=0))
        return flat

    def _together(self, act: Callable[[], object]) -> None:
        try:
            act()
        except RuntimeError as error:
            text = str(error).strip() or type(error).__name__
            reason = text.splitlines()[0].partition(". This is typically")[0]
            raise LostRankError(
                f"Expected all {self.size} ranks to take part in the step (rank lost: {reason}). Look at the output of "
                "the other ranks, and start the job again from its last checkpoint."
            ) from error


def check_data_parallel(
    data_parallel: DataParallel | None, model: nn.Module | None, *, needs_vectors: bool, needs_graph: bool
) -> None:
    """Raise ``ValueError`` for a rule or a model that cannot be trained so.

    Args:
        data_parallel: What the ranks share.
        model: The model, if it is known.
        needs_vectors: Whether the rule weighs single queries.
        needs_graph: Whether it differentiates twice.
    """
    if data_parallel not in (None, "global", "per_rank"):
        raise ValueError(f"Expected 'data_parallel' to be None, 'global' or 'per_rank' (got {data_parallel!r})")
    if data_parallel == "global" and needs_vectors:
        raise ValueError(
            "Expected data_parallel='per_rank' for a rule that weighs single queries, which no rank has all of (got "
            "'global'). With 'per_rank' each rank runs the rule on its own queries."
        )
    wrapper = nn.parallel.DistributedDataParallel
    if model is None or not any(isinstance(module, wrapper) for module in model.modules()):
        return
    if data_parallel is None and needs_graph:
        raise ValueError(
            "Expected a bare model for a rule that differentiates twice (got one within DistributedDataParallel, which "
            "averages gradients only, so that ranks would drift apart). Give the model itself and "
            "data_parallel='global'."
        )
    if data_parallel is not None:
        raise ValueError(
            f"Expected a bare model with 'data_parallel' (got data_parallel='{data_parallel}' and a model within "
            "DistributedDataParallel, so that gradients would be averaged twice). Give the model itself, or leave out "
            "data_parallel: with DistributedDataParallel every pass is shared, as with 'global'."
        )


def fingerprint(patterns: Iterable[Grads]) -> int:
    """Return a number that tells which entries are missing, for ranks to compare."""
    return zlib.crc32(bytes(entry is None for grads in patterns for entry in grads))
