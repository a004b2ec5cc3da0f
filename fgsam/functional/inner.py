"""Differentiable steps of an inner loop, on weights that are held beside their module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fgsam.functional.prototypes import class_members

Weights = dict[str, Tensor]
"""Tensors by the name of a parameter."""

Order = Literal["first", "second"]


class Stateless:
    """A module as a function of its weights: ``torch.func.functional_call`` for many calls.

    The parameters are looked up once, not in every call. A parameter that several layers share has one name and is
    replaced in all of them. Make a new one after a change of the module's parts.

    Args:
        module: Any module; its own weights are back in place after every call, also one that raises.
        prefix: Put before each name, with a dot.

    Attributes:
        weights: Its parameters that require gradients, by name.

    Example:
        >>> double = Stateless(nn.Linear(1, 1, bias=False))
        >>> double({"weight": torch.tensor([[2.0]])}, torch.tensor([[3.0]]))
        tensor([[6.]])
    """

    def __init__(self, module: nn.Module, prefix: str = "") -> None:
        self._module = module
        self._own = dict(module.named_parameters(prefix))
        self.weights: Weights = {name: param for name, param in self._own.items() if param.requires_grad}
        names = {id(param): name for name, param in self._own.items()}
        self._places: list[tuple[dict[str, Any], str, str]] = [
            (part._parameters, key, names[id(param)])
            for part in module.modules()
            for key, param in part._parameters.items()
            if param is not None
        ]

    def __call__(self, weights: Weights, *inputs: Any) -> Any:
        """Call the module with other weights; those left out are its own."""
        try:
            for parameters, key, name in self._places:
                parameters[key] = weights.get(name, self._own[name])
            return self._module(*inputs)
        finally:
            for parameters, key, name in self._places:
                parameters[key] = self._own[name]


def inner_step(loss: Tensor, weights: Weights, rate: float | Mapping[str, Tensor], *, order: Order) -> Weights:
    """Move weights against the gradient of a loss, and keep the way back to where they came from.

    Args:
        loss: A scalar made of ``weights``.
        weights: Tensors that require gradients; one that the loss does not read stays where it is.
        rate: Step size, of all or of each by name: a tensor that broadcasts to the weight and may be learned.
        order: ``"second"`` differentiates through the gradient later on, ``"first"`` takes it as a constant.

    Returns:
        ``w - rate * gradient`` by name: new tensors, whose derivatives reach ``weights`` and ``rate``.

    Example:
        >>> w = torch.tensor(3.0, requires_grad=True)
        >>> moved = inner_step(w.square(), {"w": w}, 0.25, order="second")["w"]
        >>> moved, torch.autograd.grad(moved, w)
        (tensor(1.5000, grad_fn=<SubBackward0>), (tensor(0.5000),))

    Source:
        Finn et al., Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks, 2017, Eq. 1 and section 5.2.
    """
    grads = torch.autograd.grad(loss, list(weights.values()), create_graph=order == "second", allow_unused=True)
    return {
        name: weight if grad is None else _moved(weight, grad, rate[name] if isinstance(rate, Mapping) else rate)
        for (name, weight), grad in zip(weights.items(), grads, strict=True)
    }


def descended_head(x: Tensor, labels: Tensor, start: Tensor, *, num_steps: int, rate: float, order: Order) -> Tensor:
    """Take steps of gradient descent on the cross-entropy of a linear head, of one episode or of many at once.

    The gradient ``x.T @ (softmax(x @ head) - targets) / num_support`` is written out, so that no graph is built
    and taken apart in every step.

    Args:
        x: Rows of the support nodes, shape ``[..., num_support, dim]``.
        labels: Episode labels in ``0..n_way-1``, shape ``[num_support]`` or ``[..., num_support]``.
        start: Where the head starts, shape ``[dim, n_way]``.
        num_steps: Number of steps.
        rate: Step size.
        order: ``"second"`` lets derivatives reach ``x`` through the steps, ``"first"`` takes steps as constants.

    Returns:
        The head, shape ``[..., dim, n_way]``.

    Raises:
        ValueError: If a label lies outside ``0..n_way-1`` or some class has no support node.

    Example:
        >>> x = torch.tensor([[2.0, 0.0], [0.0, 4.0]])
        >>> descended_head(x, torch.tensor([0, 1]), torch.zeros(2, 2), num_steps=1, rate=1.0, order="first")
        tensor([[ 0.5000, -0.5000],
                [-1.0000,  1.0000]])
    """
    if order == "first":
        x = x.detach()
    targets = class_members(labels, start.shape[-1]).mT.to(x.dtype)
    turned = x.mT * (rate / x.shape[-2])
    begun = start if order == "second" else start.detach()
    head = begun
    for _ in range(num_steps):
        head = head - turned @ ((x @ head).softmax(-1) - targets)
    return head if order == "second" else start + (head - begun)


def _moved(weight: Tensor, grad: Tensor, rate: float | Tensor) -> Tensor:
    if isinstance(rate, Tensor):
        return torch.addcmul(weight, grad, rate, value=-1)
    return torch.sub(weight, grad, alpha=rate)
