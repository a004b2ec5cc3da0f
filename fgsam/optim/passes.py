"""Forward and backward passes that leave everything but the gradient as they found it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from fgsam.functional.trees import Gradient, Grads
from fgsam.optim.guards import Buffers, RandomState, SavedBuffers

if TYPE_CHECKING:
    from fgsam.typing import Closure


class Pass(Protocol):
    """Runs one forward and backward pass at the present weights and returns the gradient."""

    def __call__(self, *, clean: bool = False) -> Grads:
        """Run the pass; a clean pass is the one that may move the model's buffers."""


class Passes:
    """The passes of one step: one random state, buffers that only clean passes move, and a record of each.

    Args:
        params: Parameters to differentiate for; their ``grad`` is cleared.
        buffers: Buffers to restore.
        closure: Returns the loss of the GNN pass.
        peer_closure: Returns the loss of the peer pass, if there is one.
    """

    def __init__(
        self, params: Sequence[Tensor], buffers: Buffers, closure: Closure, peer_closure: Closure | None
    ) -> None:
        self._params = params
        self._trainable = [p for p in params if p.requires_grad]
        self._buffers = buffers
        self._closure = closure
        self._peer_closure = peer_closure
        self._random = RandomState({p.device for p in params})
        self._before_clean: SavedBuffers | None = None
        self._records: list[tuple[str, Tensor, Tensor]] = []

    def gnn(self, *, clean: bool = False) -> Grads:
        """Run the GNN pass and return its gradient."""
        return self._call("GNN", self._closure, clean)

    def peer(self, *, clean: bool = False) -> Grads:
        """Run the peer pass and return its gradient."""
        assert self._peer_closure is not None
        return self._call("peer", self._peer_closure, clean)

    @property
    def loss(self) -> Tensor:
        """Loss of the first pass, detached, without dimensions."""
        return self._records[0][1]

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

    def _call(self, name: str, closure: Closure, clean: bool) -> Grads:
        self._random.begin_pass()
        saved = self._buffers.save()
        if clean and self._before_clean is None:
            self._before_clean = saved
        try:
            loss, is_lent = self._backward(name, closure)
        except BaseException:
            self._buffers.restore(saved)
            raise
        if not clean:
            self._buffers.restore(saved)
        grads = Gradient(self._take_gradients(is_lent))
        self._records.append((name, loss, grads.length))
        return grads

    def _backward(self, name: str, closure: Closure) -> tuple[Tensor, bool]:
        """Fill the gradients; return the loss, and whether the closure did the filling."""
        clear_gradients(self._params)
        with torch.enable_grad():
            loss = closure()
            loss = torch.as_tensor(loss)
            loss = loss.mean() if loss.ndim else loss
            is_lent = any(p.grad is not None for p in self._trainable)
            if not is_lent:
                if not (self._trainable and loss.requires_grad):
                    raise RuntimeError(
                        f"Expected the {name} closure to return a loss that depends on the parameters (got a loss "
                        "without gradient). Compute it from the model's output, without detach, no_grad or item."
                    )
                # Unlike autograd.grad this runs the hooks of parameters, and the reduction of distributed training.
                torch.autograd.backward(loss, inputs=self._trainable)
        return loss.detach(), is_lent

    def _take_gradients(self, is_lent: bool) -> Grads:
        grads: Grads = []
        for i, p in enumerate(self._params):
            grad, p.grad = p.grad, None
            if grad is not None and grad.layout != torch.strided:
                raise TypeError(
                    f"Expected dense gradients (got layout {grad.layout} for parameter {i}, shape {tuple(p.shape)}). "
                    "Build the layer with sparse=False."
                )
            grads.append(grad if grad is None else _owned(grad.detach(), is_lent))
        return grads


def clear_gradients(params: Iterable[Tensor]) -> None:
    """Drop the gradients of all parameters."""
    for p in params:
        p.grad = None


def _owned(grad: Tensor, is_lent: bool) -> Tensor:
    # Rules add in place. A view belongs to a larger storage, such as a bucket of distributed training, which the next
    # pass overwrites; and what a closure puts there may be a tensor that it goes on to use.
    return grad.clone() if is_lent or grad.untyped_storage().nbytes() != grad.nbytes else grad
