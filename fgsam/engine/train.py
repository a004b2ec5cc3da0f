"""The training loop: a task in, the best weights out."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from fgsam.checks import check_non_negative, check_positive
from fgsam.engine.callbacks import Callback
from fgsam.engine.seeding import own_random_state, seed_global
from fgsam.engine.task import Scored, Task
from fgsam.engine.team import Team
from fgsam.functional.trees import Grads, norm
from fgsam.graph.field import Field
from fgsam.graph.graph import Graph
from fgsam.optim.base import SharpnessAware

if TYPE_CHECKING:
    from fgsam.typing import Closure

NUM_CANDIDATES = 3
"""How many weights the whole validation chooses from."""

TIMED_STEPS = 20
"""Steps that are timed together."""


@dataclass(frozen=True)
class Validation:
    """One look at the validation nodes.

    Attributes:
        step: Training steps done before it.
        score: What weights are chosen by, between 0 and 1.
        accuracy: Share of right answers, between 0 and 1; the same as the score, unless the task has another one.
        seconds: Training time up to here.
    """

    step: int
    score: float
    accuracy: float
    seconds: float


@dataclass(frozen=True)
class Candidate:
    """Weights that may be the best ones, with their score in the midst of training."""

    step: int
    score: float
    weights: dict[str, Tensor]


class NonFiniteLossError(RuntimeError):
    """A loss or gradient became NaN or infinite, and training stopped there."""


class Trainer:
    """Minimises the loss of a task and keeps the weights with the best validation score.

    It needs nothing but objects, so that it works without configs and run directories. The optimizer decides how many
    passes a step takes; fields are built when a pass first asks for one, so a step that never looks at the graph
    never touches it. What step ``t`` learns from and the state of the global generator in it depend on ``stream`` and
    ``t`` alone: training goes on after a restart without any saved random state, and two optimizers see the same
    episodes. A step of several batches minimises the mean of their losses, one after the other; each has random
    numbers of its own, whichever process computes it.

    Args:
        task: Gives batches, losses and scores.
        method: The nets; their weights are trained in place.
        optimizer: Made for the weights of ``method``.
        stream: What the random numbers depend on: the digest of a split and a seed.
        num_steps: Training steps, at least 1.
        val_every: Steps between two validations, at least 1.
        patience: Validations without improvement before training stops, at least 1.
        max_seconds: Training time after which it stops; None for no limit.
        peer_dropout: Keep dropout in the peer pass.
        batches_per_step: Batches that a step learns from, at least 1 and a multiple of the team's size.
        team: The processes that share the batches of a step; the optimizer must be made with ``data_parallel`` then.
            The first of them validates. Only this process when not given.
        callbacks: Told about every event.
        directory: Where callbacks may write.

    Attributes:
        step: Training steps done.
        loss: Loss of the newest step; NaN before the first, and where the optimizer skipped a step.
        history: The validations so far, as ``Validation``.
        seconds: Training time so far, restarts included.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> import torch
        >>> from fgsam.engine.episode_task import EpisodeTask
        >>> from fgsam.episodes.bank import EpisodeBank
        >>> from fgsam.episodes.sampler import EpisodeSampler
        >>> from fgsam.episodes.streams import generator
        >>> from fgsam.methods.protonet import ProtoNet
        >>> from fgsam.nn.sgc import SGC
        >>> from fgsam.optim.sam import SAM
        >>> labels = torch.arange(6).repeat_interleave(6)
        >>> ring = torch.stack([torch.arange(36), torch.arange(36).roll(-1)])
        >>> graph = Graph.from_arrays(torch.eye(6)[labels], ring, labels, directed=False)
        >>> sizes = {"n_way": 2, "k_shot": 1, "num_query": 2}
        >>> bank = EpisodeBank.draw(EpisodeSampler(labels, [2, 3], **sizes), 4, generator("bank"))
        >>> task = EpisodeTask(graph, EpisodeSampler(labels, [0, 1], **sizes), bank)
        >>> method = ProtoNet(lambda: SGC(graph.num_features, dim=4))
        >>> trainer = Trainer(task, method, SAM(method, rho=0.05, lr=0.1), num_steps=4, val_every=2)
        >>> trainer.fit()
        'num_episodes'
        >>> best, scored = trainer.choose()
        >>> len(trainer.history), scored.hits.shape
        (2, torch.Size([4, 4]))
    """

    def __init__(
        self,
        task: Task[Any],
        method: nn.Module,
        optimizer: SharpnessAware,
        *,
        stream: Sequence[str | int] = (0,),
        num_steps: int = 1000,
        val_every: int = 50,
        patience: int = 6,
        max_seconds: float | None = None,
        peer_dropout: bool = False,
        batches_per_step: int = 1,
        team: Team | None = None,
        callbacks: Sequence[Callback] = (),
        directory: Path | None = None,
    ) -> None:
        check_positive(num_steps=num_steps, val_every=val_every, patience=patience, batches_per_step=batches_per_step)
        if max_seconds is not None:
            check_non_negative(max_seconds=max_seconds)
        self.task, self.method, self.optimizer, self.stream = task, method, optimizer, tuple(stream)
        self.num_steps, self.val_every, self.patience = num_steps, val_every, patience
        self.max_seconds, self.peer_dropout = max_seconds, peer_dropout
        self.batches_per_step, self.team = batches_per_step, Team() if team is None else team
        self.callbacks, self.directory = list(callbacks), directory
        self.step = 0
        self.loss = float("nan")
        self.history: list[Validation] = []
        self.candidates: list[Candidate] = []
        self.num_stale = 0
        self.seconds = 0.0
        self.step_seconds: list[float] = []
        self._modules = list(method.modules())
        self._device = task.graph.device

    @property
    def graph(self) -> Graph:
        """The graph that training sees."""
        return self.task.graph

    @property
    def unit(self) -> str:
        """What a step is called: ``"episode"`` where it has one, else ``"step"``."""
        return self.task.unit if self.batches_per_step == 1 else "step"

    def fit(self, should_stop: Callable[[], bool] | None = None) -> str:
        """Train until the steps, the patience or the time are used up.

        Args:
            should_stop: Asked after every step; True ends training there, and a later ``fit`` goes on.

        Returns:
            What ended training: ``"num_episodes"`` or ``"num_steps"``, after the task's unit, ``"patience"``,
            ``"max_seconds"`` or ``"stopped"``.

        Raises:
            NonFiniteLossError: If a loss or gradient is NaN or infinite.
        """
        started: list[Callback] = []
        with own_random_state(self._device):
            try:
                for callback in self.callbacks:
                    callback.on_start(self)
                    started.append(callback)
                while not (reason := self._stop_reason(should_stop)):
                    self._advance()
            finally:
                # One that never started cannot end, and its complaint would hide what went wrong.
                for callback in started:
                    callback.on_end(self)
        return reason

    def choose(self) -> tuple[int, Scored]:
        """Score the candidates on the whole validation and load the best into the method.

        Returns:
            The step of the best weights, and how they did.
        """
        candidates = list(self.candidates)
        if not self.history or self.history[-1].step != self.step:
            # Training was cut short between two validations; its last weights deserve a look too.
            with self.optimizer.deployed():
                candidates.append(Candidate(self.step, 0.0, _copied(self.method)))
        best, best_scored = candidates[0], None
        for candidate in sorted(candidates, key=lambda candidate: candidate.step):
            self.method.load_state_dict(candidate.weights)
            scored = self.task.validate(self.method)
            if best_scored is None or scored.score > best_scored.score:
                best, best_scored = candidate, scored
        self.method.load_state_dict(best.weights)
        assert best_scored is not None
        return best.step, best_scored

    @property
    def best(self) -> Validation | None:
        """The best validation so far, the earliest among equals; None before the first."""
        return max(self.history, key=lambda validation: validation.score, default=None)

    @property
    def ms_per_step(self) -> float:
        """Time of a training step, without validation, in milliseconds; NaN before the first.

        The median over blocks of 20 steps of their mean: robust against a busy machine, and fair to rules whose steps
        differ in cost.
        """
        times = self.step_seconds
        blocks = [times[i : i + TIMED_STEPS] for i in range(0, len(times) - TIMED_STEPS + 1, TIMED_STEPS)] or [times]
        return 1e3 * statistics.median(map(statistics.mean, blocks)) if times else float("nan")

    def state_dict(self) -> dict[str, Any]:
        """Return everything that is needed to go on exactly: tensors and plain values only."""
        return {
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "loss": self.loss,
            "history": [vars(validation) for validation in self.history],
            "candidates": [vars(candidate) for candidate in self.candidates],
            "num_stale": self.num_stale,
            "seconds": self.seconds,
            "step_seconds": self.step_seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what ``state_dict`` returned."""
        self.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.loss = state["step"], state["loss"]
        self.history = [Validation(**values) for values in state["history"]]
        self.candidates = [Candidate(**values) for values in state["candidates"]]
        self.num_stale, self.seconds = state["num_stale"], state["seconds"]
        self.step_seconds = list(state["step_seconds"])

    def _stop_reason(self, should_stop: Callable[[], bool] | None) -> str:
        if self.step >= self.num_steps:
            return f"num_{self.task.unit}s"
        if self.num_stale >= self.patience:
            return "patience"
        is_over = self.max_seconds is not None and self.seconds >= self.max_seconds
        is_over, is_stopped = self.team.any(is_over, should_stop is not None and should_stop())
        return "max_seconds" if is_over else "stopped" if is_stopped else ""

    def _advance(self) -> None:
        """One training step, and the validation that may follow it."""
        start = time.perf_counter()
        self.learn(self.step + 1)
        self.step += 1
        self.step_seconds.append(time.perf_counter() - start)
        is_validation = self.step % self.val_every == 0 or self.step == self.num_steps
        if is_validation:
            self._validate(self.seconds + time.perf_counter() - start)
        self.seconds += time.perf_counter() - start
        if is_validation:
            self._tell("on_validation")
        self._tell("on_step")

    def learn(self, step: int) -> None:
        """Take the optimizer's step ``step``, without counting it or validating after it.

        Raises:
            NonFiniteLossError: If a loss or gradient is NaN or infinite.
        """
        self._seed(step, 0)
        batches = {i: self.task.draw(self._stream(i), step) for i in self.team.share(self.batches_per_step)}
        self.method.train()
        try:
            self.loss = float(self.optimizer.step(*self._closures(step, batches)))
        except FloatingPointError as error:
            raise self._non_finite(step, batches, error) from error
        self.task.stepped(self.method)

    def _stream(self, index: int) -> tuple[str | int, ...]:
        """What the random numbers of one batch of a step depend on beside the step."""
        return (*self.stream, index) if index else self.stream

    def _seed(self, step: int, index: int) -> None:
        seed_global(self._device, "step", *self._stream(index), step)

    def _closures(self, step: int, batches: Mapping[int, Any]) -> tuple[Closure, Closure | None]:
        """Make the losses of the graph pass and, where the optimizer wants one, of the peer pass."""
        task, method = self.task, self.method
        fields: dict[tuple[int, bool], Field] = {}

        def loss(index: int, peer: bool) -> Tensor:
            # Built by the first pass that asks, then shared by all passes of the step.
            if (index, peer) not in fields:
                fields[index, peer] = task.field(method, batches[index], peer=peer)
            self._seed(step, index)
            return task.loss(method, fields[index, peer], batches[index])

        def peer_loss(index: int) -> Tensor:
            _set_training(self._modules, self.peer_dropout)
            try:
                return loss(index, peer=True)
            finally:
                _set_training(self._modules, True)

        def closure() -> Iterator[Tensor]:
            return (loss(index, peer=False) for index in batches)

        def peer_closure() -> Iterator[Tensor]:
            return (peer_loss(index) for index in batches)

        return closure, peer_closure if self.optimizer.peer == "required" else None

    def _validate(self, seconds: float) -> None:
        with self.optimizer.deployed():
            self._compare(seconds)

    def _compare(self, seconds: float) -> None:
        """Score the present weights, and keep a copy of them if they are among the best."""
        score, accuracy = self.team.of_first(self._glance)
        improves = self.best is None or score > self.best.score
        self.num_stale = 0 if improves else self.num_stale + 1
        self.history.append(Validation(self.step, score, accuracy, seconds))
        ranked = [*self.candidates, Candidate(self.step, score, {})]
        kept = sorted(ranked, key=lambda candidate: (-candidate.score, candidate.step))[:NUM_CANDIDATES]
        self.candidates = [
            candidate if candidate.weights else Candidate(self.step, score, _copied(self.method)) for candidate in kept
        ]

    def _glance(self) -> tuple[float, float]:
        scored = self.task.glance(self.method)
        return scored.score, scored.accuracy

    def _non_finite(self, step: int, batches: Mapping[int, Any], error: FloatingPointError) -> NonFiniteLossError:
        params: Grads = [param.detach() for param in self.method.parameters()]
        saved = self.directory / "checkpoint.fgsam" if self.directory is not None else None
        good = "" if saved is None else " No checkpoint was saved before."
        if saved is not None and saved.is_file():
            good = f" The last good checkpoint is {saved}."
        special = "".join(self.task.describe(batch) for batch in batches.values())
        inner = " Inner steps may be too long, too: lower inner_lr." if getattr(self.method, "adapts", False) else ""
        return NonFiniteLossError(
            f"Stopped in {self.unit} {step} ({special}weight norm {float(norm(params)):.4g}): {error}{inner}{good}"
        )

    def _tell(self, event: str) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self)


def _set_training(modules: Sequence[nn.Module], is_training: bool) -> None:
    # What Module.train does, without its walk over the tree: twice a peer pass, that walk would show.
    for module in modules:
        module.__dict__["training"] = is_training


def _copied(method: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in method.state_dict().items()}
