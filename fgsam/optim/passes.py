"""Forward and backward passes that leave everything but the gradient as they found it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fgsam.functional.trees import Gradient, Grads, norm
from fgsam.optim.guards import Buffers, RandomState, SavedBuffers

if TYPE_CHECKING:
    from fgsam.typing import Closure

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
        with self._run.forward(self._closure, clean) as loss:
            if weigh is None:
                return self._run.differentiate(self._name, _mean(loss))
            losses = self._vector(loss)
            return self._run.differentiate(self._name, (weigh(losses.detach()) * losses).sum())

    def losses(self, *, clean: bool = False) -> Tensor:
        """Run forward alone; return the loss of each query, shape ``[num_queries]``, or the closure's single loss."""
        try:
            with self._run.forward(self._closure, clean, grad=False) as loss:
                self._run.record(self._name, _mean(loss))
                return loss.flatten() if loss.ndim else loss
        except RuntimeError as error:
            if "does not require grad" not in str(error):
                raise
            raise self._backward_is_not_wanted() from error

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
        with self._run.forward(self._closure, clean) as loss:
            losses = self._vector(loss)
            for group in groups(len(losses)) if callable(groups) else groups:
                yield self._run.differentiate(self._name, losses[group].mean(), keep_graph=True)

    def with_product(self, probe: Sequence[Tensor], *, clean: bool = False) -> tuple[Gradient, Grads]:
        """Return the gradient, and the product of the Hessian with a vector, both at the present weights.

        Both come from ``torch.autograd.grad``: hooks on parameters do not run in this pass.

        Args:
            probe: The vector, one tensor for each parameter.
            clean: Whether the pass may move the model's buffers.
        """
        with self._run.forward(self._closure, clean) as loss:
            if self._run.has_gradients():
                raise self._backward_is_not_wanted()
            return self._run.differentiate_twice(self._name, _mean(loss), probe)

    def _vector(self, loss: Tensor) -> Tensor:
        if self._run.has_gradients():
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

    Attributes:
        gnn: Runs the closure.
        peer: Runs the peer closure.
    """

    def __init__(
        self, params: Sequence[Tensor], buffers: Buffers, closure: Closure, peer_closure: Closure | None
    ) -> None:
        self.gnn = Pass(self, "GNN", closure)
        self.peer = Pass(self, "peer", peer_closure)
        self._params = params
        self._trainable = [p for p in params if p.requires_grad]
        self._buffers = buffers
        self._random = RandomState({p.device for p in params})
        self._before_clean: SavedBuffers | None = None
        self._records: list[tuple[str, Tensor, Tensor]] = []
        self._loss: Tensor | None = None

    @property
    def loss(self) -> Tensor:
        """Loss of the first pass, the mean over its queries whatever the rule made of them, without dimensions."""
        assert self._loss is not None
        return self._loss

    def generator(self, *keys: int) -> torch.Generator:
        """Make a generator on the CPU whose numbers depend on the random state before the step, and on ``keys``."""
        content = hashlib.sha256(self._random.start.numpy().tobytes() + repr(keys).encode())
        return torch.Generator().manual_seed(int.from_bytes(content.digest()[:8], "little", signed=True))

    def has_gradients(self) -> bool:
        """Whether the closure of the present pass has put gradients into ``grad`` itself."""
        return any(p.grad is not None for p in self._trainable)

    def is_finite(self) -> bool:
        """Whether all losses and gradients so far are finite."""
        # One question for all passes together: on an accelerator every answer waits for the device.
        device = self._params[0].device
        dtype = torch.float32 if device.type == "mps" else torch.float64
        values = [value.to(device, dtype) for _, *pair in self._records for value in pair]
        return not values or all(map(math.isfinite, torch.stack(values).tolist()))

    def report(self) -> str:
        """Name the loss and the norm of the gradient of each pass."""
        parts = [
            f"{name} loss {float(loss):.4g}, gradient norm {float(length):.4g}" for name, loss, length in self._records
        ]
        return "; ".join(parts)

    def restore_buffers(self) -> None:
        """Put the buffers back to where the step found them."""
        if self._before_clean is not None:
            self._buffers.restore(self._before_clean)

    def close(self) -> None:
        """Leave the random state where the first pass left it."""
        self._random.close()

    @contextmanager
    def forward(self, closure: Closure | None, clean: bool, *, grad: bool = True) -> Iterator[Tensor]:
        """Call the closure in the state that every pass begins with; what follows within may differentiate its loss.

        Args:
            closure: Returns the loss; it may call ``backward`` itself.
            clean: Whether the buffers may stay as the pass leaves them; they never do if something raises.
            grad: Whether to record a graph.
        """
        assert closure is not None
        self._random.begin_pass()
        saved = self._buffers.save()
        if clean and self._before_clean is None:
            self._before_clean = saved
        clear_gradients(self._params)
        is_whole = False
        try:
            with torch.set_grad_enabled(grad):
                loss = _as_tensor(closure())
                if self._loss is None:
                    self._loss = _mean(loss.detach())
                yield loss
            is_whole = True
        finally:
            if not (clean and is_whole):
                self._buffers.restore(saved)

    def differentiate(self, name: str, objective: Tensor, *, keep_graph: bool = False) -> Gradient:
        """Return the gradient of a scalar, or what the closure has put into ``grad`` itself."""
        is_lent = not keep_graph and self.has_gradients()
        if not is_lent:
            self._check_graph(name, objective)
            # Unlike autograd.grad this runs the hooks of parameters, and the reduction of distributed training.
            torch.autograd.backward(objective, inputs=self._trainable, retain_graph=keep_graph)
        return self._recorded(name, objective, self._take_gradients(is_lent))

    def differentiate_twice(self, name: str, objective: Tensor, probe: Sequence[Tensor]) -> tuple[Gradient, Grads]:
        """Return the gradient of a scalar, and the product of its Hessian with a vector."""
        self._check_graph(name, objective)
        where = [i for i, p in enumerate(self._params) if p.requires_grad]
        slopes = torch.autograd.grad(objective, self._trainable, create_graph=True, allow_unused=True)
        # A slope that does not depend on the weights, as that of a linear loss, has no graph and no curvature.
        curved = [
            (slope, probe[i]) for slope, i in zip(slopes, where, strict=True) if slope is not None and slope.grad_fn
        ]
        products: Sequence[Tensor | None] = [None] * len(where)
        if curved:
            outputs, vectors = zip(*curved, strict=True)
            products = torch.autograd.grad(outputs, self._trainable, vectors, allow_unused=True)
        gradient: Grads = [None] * len(self._params)
        product: Grads = [None] * len(self._params)
        for i, slope, row in zip(where, slopes, products, strict=True):
            if slope is not None:
                gradient[i] = slope.detach()
                product[i] = torch.zeros_like(slope) if row is None else row
        found = self._recorded(name, objective, gradient)
        # Curvature may be infinite where the slope is not, and what enters an average stays in it.
        self.record(f"curvature of the {name}", objective, norm(product))
        return found, product

    def record(self, name: str, loss: Tensor, length: Tensor | None = None) -> None:
        """Note the loss of a pass, and the norm of its gradient if it has one."""
        self._records.append((name, loss.detach(), torch.zeros(()) if length is None else length))

    def _recorded(self, name: str, loss: Tensor, grads: Grads) -> Gradient:
        gradient = Gradient(grads)
        gradient.loss = loss.detach()
        self.record(name, loss, gradient.length)
        return gradient

    def _check_graph(self, name: str, objective: Tensor) -> None:
        if not (self._trainable and objective.requires_grad):
            raise RuntimeError(
                f"Expected the {name} closure to return a loss that depends on the parameters (got a loss "
                "without gradient). Compute it from the model's output, without detach, no_grad or item."
            )

    def _take_gradients(self, is_lent: bool) -> Grads:
        grads: Grads = []
        for i, p in enumerate(self._params):
            grad, p.grad = p.grad, None
            if grad is not None and grad.layout != torch.strided:
                raise TypeError(
                    f"Expected dense gradients (got layout {grad.layout} for parameter {i}, shape {tuple(p.shape)}). "
                    "Build the layer with sparse=False."
                )
            grads.append(grad if grad is None else _owned(grad, is_lent))
        return grads


def clear_gradients(params: Iterable[Tensor]) -> None:
    """Drop the gradients of all parameters."""
    for p in params:
        p.grad = None


def _as_tensor(loss: Tensor | float) -> Tensor:
    # A plain number, from a closure that calls backward itself, keeps its precision.
    return loss if isinstance(loss, Tensor) else torch.tensor(loss, dtype=torch.float64)


def _mean(loss: Tensor) -> Tensor:
    return loss.mean() if loss.ndim else loss


def _owned(grad: Tensor, is_lent: bool) -> Tensor:
    # Rules add in place. A view belongs to a larger storage, such as a bucket of distributed training, which the next
    # pass overwrites; and what a closure puts there may be a tensor that it goes on to use.
    is_shared = is_lent or grad.untyped_storage().nbytes() != grad.nbytes
    grad = grad.detach() if grad.requires_grad else grad
    return grad.clone() if is_shared else grad
