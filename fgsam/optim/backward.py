"""Gradients of a loss, and products with its Hessian, in true units and owned by who asks for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from fgsam.functional.trees import Grads
from fgsam.optim.scaling import Scaling


class Backward:
    """Differentiates for some parameters, whose ``grad`` it leaves empty.

    Args:
        params: The parameters; those that need no gradient have none.
        scaling: Scales the losses before they are differentiated.
    """

    def __init__(self, params: Sequence[Tensor], scaling: Scaling) -> None:
        self._params = params
        self._trainable = [p for p in params if p.requires_grad]
        self._scaling = scaling

    def is_done(self) -> bool:
        """Whether the closure of the present pass has put gradients into ``grad`` itself."""
        return any(p.grad is not None for p in self._trainable)

    def once(self, name: str, objective: Tensor, *, keep_graph: bool = False) -> Grads:
        """Return the gradient of a scalar, or what the closure has put into ``grad`` itself."""
        is_lent = not keep_graph and self.is_done()
        if not is_lent:
            self._check_graph(name, objective)
            # Unlike autograd.grad this runs the hooks of parameters, and the reduction of distributed training.
            scaled = self._scaling.scaled(objective)
            torch.autograd.backward(scaled, inputs=self._trainable, retain_graph=keep_graph)
        return self._scaling.unscaled(self._take_gradients(is_lent))

    def twice(self, name: str, objective: Tensor, probe: Sequence[Tensor]) -> list[Grads]:
        """Return the gradient of a scalar, and the product of its Hessian with a vector."""
        self._check_graph(name, objective)
        where = [i for i, p in enumerate(self._params) if p.requires_grad]
        scaled = self._scaling.scaled(objective)
        slopes = torch.autograd.grad(scaled, self._trainable, create_graph=True, allow_unused=True)
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
        return [self._scaling.unscaled(gradient), self._scaling.unscaled(product)]

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


def _owned(grad: Tensor, is_lent: bool) -> Tensor:
    # Rules add in place. A view belongs to a larger storage, such as a bucket of distributed training, which the next
    # pass overwrites; and what a closure puts there may be a tensor that it goes on to use.
    is_shared = is_lent or grad.untyped_storage().nbytes() != grad.nbytes
    grad = grad.detach() if grad.requires_grad else grad
    return grad.clone() if is_shared else grad
