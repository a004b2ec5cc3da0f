"""From a config to a learner, and to the trainer that teaches it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import threadpoolctl
import torch

from fgsam.engine.build import Entries, build_method, build_optimizer, check_encoders
from fgsam.engine.config_model import RunConfig
from fgsam.engine.data import Data
from fgsam.engine.node_data import NodeData
from fgsam.engine.train import Trainer
from fgsam.episodes.streams import generator
from fgsam.optim.base import SharpnessAware


@dataclass(frozen=True)
class Setup:
    """A learner with its initial weights, and all that teaches it.

    Attributes:
        config: What was asked for.
        task: What is minimised, and weights are chosen by.
        learner: The nets.
        optimizer: Moves their weights.
        stream: What the random numbers depend on: the digest of the split and the seed.
        encoder_checks: What was found about encoders of the user's.
    """

    config: RunConfig
    task: Any
    learner: Any
    optimizer: SharpnessAware
    stream: tuple[str, int]
    encoder_checks: list[dict[str, Any]]

    @classmethod
    def of(cls, config: RunConfig, data: Data | NodeData, entries: Entries, *, num_ranks: int = 1) -> Setup:
        """Make the learner of a config.

        Args:
            config: Options of all parts.
            data: What it learns from; its test bank is left alone.
            entries: Encoder, method and optimizer.
            num_ranks: Processes that share a step.

        Raises:
            ValueError: If an option is out of range, or something does not fit the graph.
        """
        graph, stream = data.train_graph, (data.split.digest, config.train.seed)
        learner = build_method(config, graph, entries, *stream, given=data.given(entries.method))
        data_parallel = getattr(config.train, "perturbation", None) if num_ranks > 1 else None
        optimizer = build_optimizer(config, learner, entries, data_parallel=data_parallel)
        checks = check_encoders(learner, graph, optimizer=optimizer, rng=generator("check", *stream))
        task: Any = data.task(learner)  # type: ignore[arg-type]
        return cls(config, task, learner, optimizer, stream, checks)

    @property
    def num_steps(self) -> int:
        """Steps of training at most: as the config says, or fewer where the task has no more batches."""
        train, num_batches = self.config.train, self.task.max_batches
        limit = train.max_steps if num_batches is None else max(1, num_batches // train.batches_per_step)
        return min(train.max_steps, limit)

    def trainer(self, **options: Any) -> Trainer:
        """Make the trainer; ``options`` are those of ``Trainer`` that no config names."""
        train = self.config.train
        return Trainer(
            self.task,
            self.learner,
            self.optimizer,
            stream=self.stream,
            num_steps=self.num_steps,
            val_every=train.val_every,
            patience=train.patience,
            max_seconds=train.max_seconds,
            peer_dropout=train.peer_dropout,
            batches_per_step=train.batches_per_step,
            **options,
        )


@contextmanager
def pinned(config: RunConfig) -> Iterator[None]:
    """Set the threads of a config, and whether operations must be deterministic, for a while."""
    num_threads, strictness = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    try:
        with threadpoolctl.threadpool_limits(config.run.threads):
            torch.set_num_threads(config.run.threads)
            torch.use_deterministic_algorithms(config.run.deterministic)
            yield
    finally:
        torch.set_num_threads(num_threads)
        torch.set_deterministic_debug_mode(strictness)
