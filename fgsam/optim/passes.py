"""Forward and backward passes that leave everything but the gradient as they found it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fgsam.functional.trees import Gradient, Grads, add, divide, norm
from fgsam.optim.backward import Backward, clear_gradients
from fgsam.optim.guards import Autocast, Buffers, RandomState, SavedBuffers
from fgsam.optim.joint import JointStep
from fgsam.optim.ranks import Ranks
from fgsam.optim.scaling import Scaling

if TYPE_CHECKING:
    from fgsam.typing import Closure

Take = Callable[[Tensor], list[Grads]]
"""Turns the loss of a micro-episode, as the closure gave it, into vectors."""

_END = object()

Weigh = Callable[[Tensor], Tensor]
"""From the losses of all queries, detached, shape ``[num_queries]``, to what each counts in the objective."""


class Pass:
    """Runs passes of one closure at the present weights.

    Calling it is what most rules need: forward, backward, gradient. The other methods serve rules that look at single
    queries, at losses alone or at curvature; the closure must then leave ``backward`` to the optimizer.

    Args:
        run: The passes of this step.
        name: What to call the pass in messages.
        closure: Returns the loss; ``None`` where the rule has no such pass.
    """

    def __init__(self, run: Passes, name: str, closure: Closure | None) -> None:
        self._run = run
        self._name = name
        self._closure = closure

    def __call__(self, *, clean: bool = False, weigh: Weigh | None = None) -> Gradient:
        """Run forward and backward, and return the gradient.

        Args:
            clean: Whether the pass may move the model's buffers.
            weigh: Gives each query its weight in the objective, which is the weighted sum; by default the mean.
        """
        if weigh is not None:
            with self._queries(clean) as losses:
                objective = (weigh(losses.detach()) * losses).sum()
                return self._run.recorded(self._name, objective, self._run.backward.once(self._name, objective))
        loss, [grads] = self._run.average(
            self._closure, clean, lambda loss: [self._run.backward.once(self._name, _mean(loss))], num_vectors=1
        )
        return self._run.recorded(self._name, loss, grads)

    def losses(self, *, clean: bool = False) -> Tensor:
        """Run forward alone; return the loss of each query, shape ``[num_queries]``, or the closure's single loss.

        Where ranks share every pass, it is the single mean over all of them.
        """
        seen: list[Tensor] = []

        def see(loss: Tensor) -> list[Grads]:
            seen.append(loss)
            return []

        try:
            mean, _ = self._run.average(self._closure, clean, see, num_vectors=0, grad=False)
        except RuntimeError as error:
            if "does not require grad" not in str(error):
                raise
            raise self._backward_is_not_wanted() from error
        self._run.record(self._name, mean)
        is_single = self._run.is_shared or not all(loss.ndim for loss in seen)
        return mean if is_single else _joined(seen)

    def each(
        self, groups: Iterable[Tensor] | Callable[[int], Iterable[Tensor]], *, clean: bool = False
    ) -> Iterator[Gradient]:
        """Run forward once, and backward for one group of queries after the other.

        Args:
            groups: Indices of the queries of each group, int64, shape ``[size]``; its objective is their mean. Or what
                makes them from the number of queries.
            clean: Whether the pass may move the model's buffers.

        Yields:
            The gradient of each group. Weights must not move, and no other pass run, before the last one.
        """
        with self._queries(clean) as losses:
            for group in groups(len(losses)) if callable(groups) else groups:
                objective = losses[group].mean()
                grads = self._run.backward.once(self._name, objective, keep_graph=True)
                yield self._run.recorded(self._name, objective, grads)

    def with_product(self, probe: Sequence[Tensor], *, clean: bool = False) -> tuple[Gradient, Grads]:
        """Return the gradient, and the product of the Hessian with a vector, both at the present weights.

        Both come from ``torch.autograd.grad``: hooks on parameters do not run in this pass.

        Args:
            probe: The vector, one tensor for each parameter.
            clean: Whether the pass may move the model's buffers.
        """

        def take(loss: Tensor) -> list[Grads]:
            if self._run.backward.is_done():
                raise self._backward_is_not_wanted()
            return self._run.backward.twice(self._name, _mean(loss), probe)

        loss, [grads, product] = self._run.average(self._closure, clean, take, num_vectors=2)
        found = self._run.recorded(self._name, loss, grads)
        # Curvature may be infinite where the slope is not, and what enters an average stays in it.
        self._run.record(f"curvature of the {self._name}", loss, norm(product))
        return found, product

    @contextmanager
    def _queries(self, clean: bool) -> Iterator[Tensor]:
        """Hold the graph of all queries of all micro-episodes; yield their losses, shape ``[num_queries]``."""
        if self._run.is_shared:
            raise TypeError(
                "Expected a rule that looks at whole passes, since ranks share them (got one that weighs queries). "
                "Build the optimizer with data_parallel='per_rank', and declare needs_vectors in the rule."
            )
        with self._run.forward(self._closure, clean) as losses:
            found = _joined([self._vector(loss) for loss in losses])
            self._run.note_loss(found.detach().mean())
            yield found

    def _vector(self, loss: Tensor) -> Tensor:
        if self._run.backward.is_done():
            raise self._backward_is_not_wanted()
        if not loss.ndim:
            raise TypeError(
                f"Expected the {self._name} closure to return one loss a query, for this rule weighs queries (got a "
                "single number). Leave out the mean: reduction='none'."
            )
        return loss.flatten()

    def _backward_is_not_wanted(self) -> TypeError:
        return TypeError(
            f"Expected the {self._name} closure to leave backward to the optimizer, for this rule weighs queries, "
            "looks at losses alone or differentiates twice (got a closure that calls backward itself). "
            "Only return the losses."
        )


class Passes:
    """The passes of one step: one random state, buffers that only clean passes move, and a record of each.

    Args:
        params: Parameters to differentiate for; their ``grad`` is cleared.
        buffers: Buffers to restore.
        closure: Returns the loss of the GNN pass.
        peer_closure: Returns the loss of the peer pass, if there is one.
        scaling: Scales the losses before backward.
        ranks: The processes that take the step together, if it is not this one alone.
        is_shared: Whether they share every pass, each of which is then a mean over ranks.

    Attributes:
        gnn: Runs the closure.
        peer: Runs the peer closure.
        scaling: As given, or one that scales nothing.
        backward: Differentiates what the closures return.
        joint: What the ranks do together, ``None`` for a process alone.
    """

    def __init__(
        self,
        params: Sequence[Tensor],
        buffers: Buffers,
        closure: Closure,
        peer_closure: Closure | None,
        *,
        scaling: Scaling | None = None,
        ranks: Ranks | None = None,
        is_shared: bool = False,
    ) -> None:
        self.gnn = Pass(self, "GNN", closure)
        self.peer = Pass(self, "peer", peer_closure)
        self.scaling = scaling or Scaling()
        self.backward = Backward(params, self.scaling)
        self.joint = None if ranks is None else JointStep(ranks, params, self._values, is_shared=is_shared)
        self._params = params
        self._buffers = buffers
        devices = {p.device for p in params}
        self._random = RandomState(devices)
        self._autocast = Autocast(devices)
        self._before_clean: SavedBuffers | None = None
        self._records: list[tuple[str, Tensor, Tensor | None]] = []
        self._loss: Tensor | None = None
        self._start: bytes | None = None

    @property
    def is_shared(self) -> bool:
        """Whether each pass is a mean over ranks."""
        return self.joint is not None and self.joint.is_shared

    @property
    def loss(self) -> Tensor:
        """Loss of the first pass, the mean over its queries whatever the rule made of them, without dimensions."""
        assert self._loss is not None
        return self._loss

    def note_loss(self, mean: Tensor) -> None:
        """Keep the loss of the first pass."""
        if self._loss is None:
            self._loss = mean

    def generator(self, *keys: int) -> torch.Generator:
        """Make a generator on the CPU whose numbers depend on the random state before the step, and on ``keys``."""
        if self._start is None:
            start = self._random.start
            if self.joint is not None and self.is_shared:
                start = self.joint.start_of_first(start)
            self._start = start.numpy().tobytes()
        content = hashlib.sha256(self._start + repr(keys).encode())
        return torch.Generator().manual_seed(int.from_bytes(content.digest()[:8], "little", signed=True))

    def is_finite(self) -> bool:
        """Whether all losses and gradients so far are finite."""
        # One question for all passes together: on an accelerator every answer waits for the device.
        values = self._values()
        return values is None or all(map(math.isfinite, values.tolist()))

    def agree(self, direction: Grads | None, failure: Exception | None) -> bool:
        """Tell, with all ranks of one mind, whether all losses and gradients are finite; see ``JointStep.agree``."""
        if self.joint is not None:
            return self.joint.agree(direction, failure)
        is_finite = self.is_finite()
        if is_finite and failure is not None:
            raise failure
        return is_finite

    def report(self) -> str:
        """Name the loss and the norm of the gradient of each pass."""
        parts = [
            f"{name} loss {float(loss):.4g}, gradient norm {0.0 if length is None else float(length):.4g}"
            for name, loss, length in self._records
        ]
        return "; ".join(parts) + (" on this rank" if self.joint is not None and not self.is_shared else "")

    def _values(self) -> Tensor | None:
        """Losses and norms of all passes so far, shape ``[num_values]``; None before the first."""
        device = self._params[0].device
        dtype = torch.float32 if device.type == "mps" else torch.float64
        values = [value.to(device, dtype) for _, *pair in self._records for value in pair if value is not None]
        return torch.stack(values) if values else None

    def restore_buffers(self) -> None:
        """Put the buffers back to where the step found them."""
        if self._before_clean is not None:
            self._buffers.restore(self._before_clean)

    def close(self) -> None:
        """Leave the random state where the first pass left it, and autocast as it was."""
        self._random.close()
        self._autocast.close()

    def average(
        self, closure: Closure | None, clean: bool, take: Take, *, num_vectors: int, grad: bool = True
    ) -> tuple[Tensor, list[Grads]]:
        """Return the mean loss of a pass and the means of what is taken of it, over micro-episodes and ranks.

        Args:
            closure: Returns the loss, or an iterator over the losses of micro-episodes.
            clean: Whether the pass may move the model's buffers.
            take: Turns the loss of each micro-episode into vectors.
            num_vectors: How many of them.
            grad: Whether to record a graph.
        """

        def here() -> tuple[Tensor, list[Grads]]:
            with self.forward(closure, clean, grad=grad) as losses:
                return _mean_of(losses, take)

        if self.joint is not None and self.joint.is_shared:
            loss, vectors = self.joint.average(here, num_vectors)
        else:
            loss, vectors = here()
        self.note_loss(loss)
        return loss, vectors

    @contextmanager
    def forward(self, closure: Closure | None, clean: bool, *, grad: bool = True) -> Iterator[Iterator[Tensor]]:
        """Call the closure in the state that every pass begins with; what follows within may differentiate its losses.

        Args:
            closure: Returns the loss, or an iterator over the losses of micro-episodes; may call ``backward`` itself.
            clean: Whether the buffers may stay as the pass leaves them; they never do if something raises.
            grad: Whether to record a graph.

        Yields:
            The losses of the micro-episodes, each computed when it is asked for.
        """
        assert closure is not None
        self._random.begin_pass()
        self._autocast.begin_pass()
        saved = self._buffers.save()
        if clean and self._before_clean is None:
            self._before_clean = saved
        clear_gradients(self._params)
        is_whole = False
        try:
            with torch.set_grad_enabled(grad):
                yield self._micro_episodes(closure)
            is_whole = True
        finally:
            if not (clean and is_whole):
                self._buffers.restore(saved)

    def record(self, name: str, loss: Tensor, length: Tensor | None = None) -> None:
        """Note the loss of a pass, and the norm of its gradient if it has one."""
        self._records.append((name, loss.detach(), length))

    def recorded(self, name: str, loss: Tensor, grads: Grads) -> Gradient:
        """Note a pass, and return its gradient."""
        gradient = Gradient(grads)
        gradient.loss = loss.detach()
        self.record(name, loss, gradient.length)
        return gradient

    def _micro_episodes(self, closure: Closure) -> Iterator[Tensor]:
        with self._autocast.within_closure():
            found = closure()
        if not isinstance(found, Iterator):
            yield _as_tensor(found)
            return
        count = 0
        while (loss := self._next(found)) is not _END:
            count += 1
            yield _as_tensor(loss)
        if not count:
            raise ValueError(
                "Expected the closure to yield a loss for each micro-episode (got an iterator without any). Yield at "
                "least one, or return the loss itself."
            )

    def _next(self, losses: Iterator[Tensor]) -> Any:
        with self._autocast.within_closure():
            return next(losses, _END)


def _as_tensor(loss: Tensor | float | None) -> Tensor:
    if loss is None:
        raise TypeError("Expected the closure to return its loss (got None). End it with: return loss.")
    # A plain number, from a closure that calls backward itself, keeps its precision.
    return loss if isinstance(loss, Tensor) else torch.tensor(loss, dtype=torch.float64)


def _mean(loss: Tensor) -> Tensor:
    return loss.mean() if loss.ndim else loss


def _mean_of(losses: Iterator[Tensor], take: Take) -> tuple[Tensor, list[Grads]]:
    """Average over micro-episodes, one after the other: the graph of each is gone before the next one is built."""
    total, count = torch.zeros(()), 0
    vectors: list[Grads] = []
    for loss in losses:
        new, mean, count = take(loss), _mean(loss).detach(), count + 1
        vectors = new if count == 1 else [add(old, one) for old, one in zip(vectors, new, strict=True)]
        total = mean if count == 1 else total + mean
    return (total, vectors) if count == 1 else (total / count, [divide(vector, count) for vector in vectors])


def _joined(losses: list[Tensor]) -> Tensor:
    return losses[0].flatten() if len(losses) == 1 else torch.cat([loss.flatten() for loss in losses])
