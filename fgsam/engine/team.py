"""The processes that work on one run: a single one, or the ranks of a job that torchrun has started."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import torch

from fgsam.engine.config_model import EpisodeTrainConfig, RunConfig
from fgsam.engine.job import num_ranks
from fgsam.optim.ranks import FailedRankError, Ranks

LONGEST_WAIT = timedelta(days=30)
"""How long a rank waits for another one that lives: one may test, or wait for a lock, while the others stand still."""

T = TypeVar("T")


class RankError(RuntimeError):
    """An error of this rank alone, which the first one cannot tell."""


class Team:
    """Decides and writes as one: what the first rank finds counts for all.

    All members call the same methods in the same order.

    Args:
        ranks: The processes; None for one alone.

    Attributes:
        rank: The number of this process, from 0.
        size: How many there are.

    Example:
        >>> list(Team().share(3)), Team().any(False, True), Team().of_first(lambda: 5)
        ([0, 1, 2], [False, True], 5)
    """

    def __init__(self, ranks: Ranks | None = None) -> None:
        self._ranks = ranks
        self.rank, self.size = (0, 1) if ranks is None else (ranks.rank, ranks.size)

    @property
    def is_first(self) -> bool:
        """Whether this process writes, and tells how the run goes."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Return which of ``count`` things are this rank's."""
        return range(count)[self.rank :: self.size]

    def any(self, *flags: bool) -> list[bool]:
        """Return for each flag whether it is raised on some rank."""
        if self._ranks is None:
            return list(flags)
        return [found > 0 for found in self._ranks.largest(torch.tensor(flags, dtype=torch.float64))]

    def of_first(self, find: Callable[[], T]) -> T:
        """Let the first rank find out something, a plain value, and tell the others.

        Raises:
            Exception: On the first rank, what ``find`` raises.
            FailedRankError: On the others, if it raises there.
        """
        if self._ranks is None:
            return find()
        found: T | None = None
        failure: Exception | None = None
        if self.is_first:
            try:
                found = find()
            except Exception as error:
                failure = error
        found, has_failed = self._ranks.of_first((found, failure is not None))
        if failure is not None:
            raise failure
        if has_failed:
            raise FailedRankError("Expected rank 0 to go on (it raised an error, which its output tells)")
        return found

    def gathered(self, value: T) -> list[T]:
        """Return what each rank gives, of plain values and tensors on the CPU, in the order of ranks."""
        return [value] if self._ranks is None else self._ranks.gathered(value)

    def together(self, act: Callable[[], T]) -> T:
        """Do something that may go wrong on some ranks; the first one raises for all.

        Raises:
            Exception: What ``act`` raises here.
            FailedRankError: If it raises on other ranks only.
        """
        try:
            found = act()
        except Exception as error:
            self.gathered(str(error))
            raise
        texts = self.gathered("")
        if any(texts):
            failed = "; ".join(f"rank {rank}: {text}" for rank, text in enumerate(texts) if text)
            raise FailedRankError(f"Expected all {self.size} ranks to begin ({failed})")
        return found


def check_ranks(config: RunConfig) -> None:
    """Raise ``ValueError`` if a run cannot be divided among the ranks of this job."""
    size, train = num_ranks(), config.train
    if not isinstance(train, EpisodeTrainConfig):
        if size > 1:
            raise ValueError(
                f"Expected task=few_shot with several ranks, among which the episodes of a step are divided (got "
                f"task={config.task}, {size} ranks). Start it without torchrun."
            )
        return
    if train.episodes_per_step % size:
        raise ValueError(
            f"Expected 'train.episodes_per_step' to be a multiple of the number of ranks (got episodes_per_step="
            f"{train.episodes_per_step}, {size} ranks). Set train.episodes_per_step={size}."
        )
    if train.perturbation == "per_rank" and size == 1:
        raise ValueError(
            "Expected several ranks with 'train.perturbation=per_rank' (got one process). Start it with "
            "torchrun --nproc-per-node 2 -m fgsam run ..., or set train.perturbation=global."
        )
    if size > 1 and config.run.device not in ("cpu", "cuda"):
        raise ValueError(
            f"Expected 'run.device' to be cpu or cuda with {size} ranks, each of which takes a GPU of its own (got "
            f"run.device={config.run.device}). Set run.device=cuda."
        )


def ranks_that_count(config: RunConfig, *, has_buffers: bool) -> int:
    """Return the number of ranks where it changes the bits of a run, else 1.

    It does not if two ranks have an episode each and share every pass: one process adds the same two gradients. Among
    more, sums are rounded in another order; with a perturbation of each rank's own, the step is another one; and
    buffers are those of the first rank.

    Args:
        config: The run.
        has_buffers: Whether the nets may have buffers that move.
    """
    size, train = num_ranks(), config.train
    if not config.is_trained or not isinstance(train, EpisodeTrainConfig):
        return 1
    is_same = size == train.episodes_per_step == 2 and train.perturbation == "global" and not has_buffers
    return 1 if is_same else size


def form_team(config: RunConfig) -> Team:
    """Join the other ranks of this job, if there are any and the run is trained.

    The process group stays for further runs, and ends with the process. One that is there already is used.

    Raises:
        ValueError: If the run cannot be divided among the ranks.
        RuntimeError: If the other ranks cannot be found.
    """
    if not config.is_trained:
        return Team()
    check_ranks(config)
    if num_ranks() == 1:
        return Team()
    if config.run.device == "cuda":
        _take_gpu(int(os.environ.get("LOCAL_RANK", "0")))
    dist = torch.distributed
    if not dist.is_initialized():
        try:
            # Named, since torch by itself would take that of a GPU alone; flags and scores travel on the CPU.
            backend = "cpu:gloo,cuda:nccl" if config.run.device == "cuda" else "cpu:gloo"
            dist.init_process_group(backend, timeout=LONGEST_WAIT)
        except (ValueError, RuntimeError) as error:
            raise RuntimeError(
                f"Expected to join the {num_ranks()} ranks that WORLD_SIZE announces (got {error}). Start them with "
                "torchrun --nproc-per-node 2 -m fgsam run ..., or unset WORLD_SIZE."
            ) from error
        atexit.register(dist.destroy_process_group)
    return Team(Ranks())


def _take_gpu(number: int) -> None:
    if number >= torch.cuda.device_count():
        raise ValueError(
            f"Expected a GPU for each rank of this machine (got {torch.cuda.device_count()} GPUs, rank {number}). "
            "Lower --nproc-per-node, or set run.device=cpu."
        )
    torch.cuda.set_device(number)
