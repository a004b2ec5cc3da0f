"""A small linear graph network with gradients by hand, and the update rules written from their equations in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fgsam.optim.base import SharpnessAware
from fgsam.registry import OPTIMIZERS

Arrays = list[np.ndarray]
Directions = Generator[Any, Any, None]

NUM_NODES, NUM_FEATURES, NUM_HIDDEN, NUM_CLASSES = 8, 4, 3, 3


class LinearNet:
    """Logits ``A (A X W) V + b`` with cross-entropy; the peer has the identity in place of ``A``."""

    def __init__(self, seed: int = 0, *, edges: bool = True) -> None:
        rng = np.random.default_rng(seed)
        self.x = rng.normal(size=(NUM_NODES, NUM_FEATURES))
        self.y = rng.integers(0, NUM_CLASSES, size=NUM_NODES)
        weights = rng.random((NUM_NODES, NUM_NODES)) * (rng.random((NUM_NODES, NUM_NODES)) < 0.5) + np.eye(NUM_NODES)
        self.a = weights / weights.sum(1, keepdims=True) if edges else np.eye(NUM_NODES)
        shapes = [(NUM_FEATURES, NUM_HIDDEN), (NUM_HIDDEN, NUM_CLASSES), (NUM_CLASSES,)]
        self.start: Arrays = [rng.normal(size=shape) for shape in shapes]

    def _gradient(self, a: np.ndarray, params: Arrays) -> Arrays:
        w, v, b = params
        hidden = a @ self.x @ w
        logits = a @ hidden @ v + b
        odds = np.exp(logits - logits.max(1, keepdims=True))
        d_logits = odds / odds.sum(1, keepdims=True)
        d_logits[np.arange(NUM_NODES), self.y] -= 1
        d_logits /= NUM_NODES
        d_hidden = a.T @ d_logits @ v.T
        return [(a @ self.x).T @ d_hidden, (a @ hidden).T @ d_logits, d_logits.sum(0)]

    def gnn_gradient(self, params: Arrays) -> Arrays:
        return self._gradient(self.a, params)

    def peer_gradient(self, params: Arrays) -> Arrays:
        return self._gradient(np.eye(NUM_NODES), params)

    def tensors(self) -> list[Tensor]:
        return [torch.tensor(value, requires_grad=True) for value in self.start]

    def closures(self, params: list[Tensor], reduction: str = "mean") -> tuple[Callable[[], Tensor], ...]:
        x, y = torch.tensor(self.x), torch.tensor(self.y)

        def loss(a: Tensor) -> Tensor:
            w, v, b = params
            return nn.functional.cross_entropy(a @ (a @ x @ w) @ v + b, y, reduction=reduction)

        return lambda: loss(torch.tensor(self.a)), lambda: loss(torch.eye(NUM_NODES, dtype=torch.float64))


def length(arrays: Arrays) -> float:
    return float(np.sqrt(sum((one**2).sum() for one in arrays)))


def inner(first: Arrays, second: Arrays) -> float:
    return float(sum((a * b).sum() for a, b in zip(first, second, strict=True)))


def plus(*terms: tuple[float, Arrays]) -> Arrays:
    return [np.add.reduce([factor * arrays[i] for factor, arrays in terms]) for i in range(len(terms[0][1]))]


def across(vector: Arrays, direction: Arrays) -> Arrays:
    return plus((1.0, vector), (-inner(vector, direction) / inner(direction, direction), direction))


def ascended(params: Arrays, gradient: Arrays, rho: float, guard: float = 0.0) -> Arrays:
    return plus((1.0, params), (rho / (length(gradient) + guard), gradient))


def plain_directions(net: LinearNet) -> Directions:
    params = yield None
    while True:
        params = yield net.gnn_gradient(params)


def sam_directions(net: LinearNet, rho: float) -> Directions:
    params = yield None
    while True:
        params = yield net.gnn_gradient(ascended(params, net.gnn_gradient(params), rho))


def asam_directions(net: LinearNet, rho: float, eta: float) -> Directions:
    params = yield None
    while True:
        sizes = [np.abs(p) + eta if p.ndim > 1 else np.ones_like(p) for p in params]
        scaled = [t * g for t, g in zip(sizes, net.gnn_gradient(params), strict=True)]
        moves = [rho * t * s / length(scaled) for t, s in zip(sizes, scaled, strict=True)]
        params = yield net.gnn_gradient(plus((1.0, params), (1.0, moves)))


def fgsam_directions(net: LinearNet, rho: float, lam: float, form: str) -> Directions:
    params = yield None
    while True:
        g_gnn = net.gnn_gradient(params)
        g_s = net.peer_gradient(ascended(params, g_gnn, rho, 1e-8 if form == "code" else 0.0))
        params = yield plus((1 - lam, g_gnn), (lam, g_s)) if form == "code" else plus((lam, g_gnn), (1.0, g_s))


def fgsam_plus_directions(
    net: LinearNet, rho: float, lam: float, alpha: float, refresh_every: int, form: str
) -> Directions:
    params = yield None
    g_v: Arrays = []
    g_big: Arrays = []
    t = 0
    while True:
        g_mlp = net.peer_gradient(params)
        if t % refresh_every == 0:
            g_gnn = net.gnn_gradient(params)
            g_s = net.peer_gradient(ascended(params, g_gnn, rho, 1e-8 if form == "code" else 0.0))
            if form == "code":
                g = plus((1 - lam, g_gnn), (lam, g_s))
                g_v = [across([a], [b])[0] for a, b in zip(g, g_mlp, strict=True)]
            else:
                g = plus((lam, g_gnn), (1.0, g_s))
                g_v, g_big = across(g_s, g_mlp), across(g_gnn, g_mlp)
        elif form == "code":
            factors = [length([a]) / (length([b]) + 1e-8) for a, b in zip(g_mlp, g_v, strict=True)]
            g = [a + alpha * factor * b for a, factor, b in zip(g_mlp, factors, g_v, strict=True)]
        else:
            estimate = plus((1.0, g_mlp), (length(g_mlp) / length(g_big), g_big))
            g = plus((1.0, g_mlp), (alpha * length(g_mlp) / length(g_v), g_v), (lam, estimate))
        t += 1
        params = yield g


def sgd_update(lr: float, momentum: float = 0.0) -> Callable[[Arrays, Arrays], Arrays]:
    memory: dict[str, Arrays] = {}

    def update(params: Arrays, g: Arrays) -> Arrays:
        memory["m"] = plus((momentum, memory["m"]), (1.0, g)) if memory else g
        return plus((1.0, params), (-lr, memory["m"]))

    return update


def adam_update(lr: float, weight_decay: float = 0.0) -> Callable[[Arrays, Arrays], Arrays]:
    memory: dict[str, Any] = {"t": 0, "m": 0.0, "v": 0.0}

    def update(params: Arrays, g: Arrays) -> Arrays:
        memory["t"] += 1
        flat = np.concatenate([(a + weight_decay * p).ravel() for a, p in zip(g, params, strict=True)])
        memory["m"] = 0.9 * memory["m"] + 0.1 * flat
        memory["v"] = 0.999 * memory["v"] + 0.001 * flat**2
        m = memory["m"] / (1 - 0.9 ** memory["t"])
        v = memory["v"] / (1 - 0.999 ** memory["t"])
        move = -lr * m / (np.sqrt(v) + 1e-8)
        ends = np.cumsum([p.size for p in params])
        return [p + part.reshape(p.shape) for p, part in zip(params, np.split(move, ends[:-1]), strict=True)]

    return update


def run_twin(
    net: LinearNet, directions: Directions, update: Callable[[Arrays, Arrays], Arrays], num_steps: int
) -> list[Arrays]:
    """Weights after each step."""
    next(directions)
    params, history = net.start, []
    for _ in range(num_steps):
        params = update(params, directions.send(params))
        history.append(params)
    return history


def run_optimizer(net: LinearNet, name: str, num_steps: int, /, **options: Any) -> list[Arrays]:
    """Weights after each step of a registered optimizer on the same net."""
    params = net.tensors()
    optimizer = OPTIMIZERS.load(name)(params, **options)
    history = []
    for _ in range(num_steps):
        take_step(optimizer, *net.closures(params))
        history.append([p.detach().numpy().copy() for p in params])
    return history


def take_step(optimizer: SharpnessAware, closure: Callable[[], Tensor], peer_closure: Callable[[], Tensor]) -> Tensor:
    """Hand over the peer closure to the rules that take one."""
    return optimizer.step(closure, peer_closure) if optimizer.peer == "required" else optimizer.step(closure)


def relative_error(found: Arrays, expected: Arrays) -> float:
    return length(plus((1.0, found), (-1.0, expected))) / length(expected)
