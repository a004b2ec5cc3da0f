"""Variants of sharpness-aware minimization, written from their equations in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from tests.twins.optimizers import (
    NUM_NODES,
    Arrays,
    Directions,
    LinearNet,
    across,
    ascended,
    length,
    plus,
)

Draws = Sequence[Sequence[Arrays]]
"""Random vectors of each step."""


def gnn_loss(net: LinearNet, params: Arrays) -> float:
    w, v, b = params
    logits = net.a @ (net.a @ net.x @ w) @ v + b
    top = logits.max(1, keepdims=True)
    log_odds = logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True))
    return float(-log_odds[np.arange(NUM_NODES), net.y].mean())


def looksam_directions(net: LinearNet, rho: float, alpha: float, refresh_every: int) -> Directions:
    params = yield None
    g_v: Arrays = []
    t = 0
    while True:
        g = net.gnn_gradient(params)
        if t % refresh_every == 0:
            direction = net.gnn_gradient(ascended(params, g, rho))
            g_v = across(direction, g)
        else:
            direction = plus((1.0, g), (alpha * length(g) / length(g_v), g_v))
        t += 1
        params = yield direction


def aesam_directions(
    net: LinearNet, rho: float, lam_1: float, lam_2: float, delta: float, num_steps: int, shares: list[bool]
) -> Directions:
    """Whether each step was SAM's is added to ``shares``."""
    params = yield None
    mu = variance = 0.0
    t = 0
    while True:
        g = net.gnn_gradient(params)
        n = length(g) ** 2
        mu = delta * mu + (1 - delta) * n if t else n
        variance = delta * variance + (1 - delta) * (n - mu) ** 2
        c = t / num_steps * lam_1 + (1 - t / num_steps) * lam_2
        shares.append(n >= mu + c * np.sqrt(variance))
        t += 1
        params = yield net.gnn_gradient(ascended(params, g, rho)) if shares[-1] else g


def gsam_directions(net: LinearNet, rho: float, alpha: float) -> Directions:
    params = yield None
    while True:
        g = net.gnn_gradient(params)
        g_p = net.gnn_gradient(ascended(params, g, rho))
        params = yield plus((1.0, g_p), (-alpha, across(g, g_p)))


def friendly_sam_directions(net: LinearNet, rho: float, sigma: float, decay: float, form: str) -> Directions:
    params = yield None
    m = [np.zeros_like(p) for p in params]
    t = 0
    while True:
        g = net.gnn_gradient(params)
        if form == "paper":
            m = plus((decay, m), (1 - decay, g))
            d = plus((1.0, g), (-sigma, m))
        else:
            d = plus((1.0, g), (-sigma, m))
            m = plus((decay, m), (1 - decay, g)) if t else g
        t += 1
        params = yield net.gnn_gradient(ascended(params, d, rho))


def bilateral_sam_directions(net: LinearNet, rho_max: float, rho_min: float) -> Directions:
    params = yield None
    while True:
        g = net.gnn_gradient(params)
        g_max = net.gnn_gradient(ascended(params, g, rho_max))
        g_min = net.gnn_gradient(ascended(params, g, -rho_min))
        params = yield plus((1.0, g_max), (1.0, g), (-length(g_max) / length(g_min), g_min))


def wsam_directions(net: LinearNet, rho: float, gamma: float) -> Directions:
    params = yield None
    while True:
        g = net.gnn_gradient(params)
        g_s = net.gnn_gradient(ascended(params, g, rho))
        params = yield plus((1.0, g), (gamma / (1 - gamma), plus((1.0, g_s), (-1.0, g))))


def run_decoupled_wsam(
    net: LinearNet, rho: float, gamma: float, lr: float, update: Callable[[Arrays, Arrays], Arrays], num_steps: int
) -> list[Arrays]:
    params, history = net.start, []
    for _ in range(num_steps):
        g = net.gnn_gradient(params)
        g_s = net.gnn_gradient(ascended(params, g, rho))
        params = plus((1.0, update(params, g)), (-lr * gamma / (1 - gamma), plus((1.0, g_s), (-1.0, g))))
        history.append(params)
    return history


def run_momentum_sam_as_printed(net: LinearNet, rho: float, lr: float, mu: float, num_steps: int) -> list[Arrays]:
    """The paper's iteration, which lives at the moved weights; the history holds those moved back."""
    moved, history = net.start, []
    v = [np.zeros_like(p) for p in moved]
    for _ in range(num_steps):
        g = net.gnn_gradient(moved)
        w = plus((1.0, moved), (rho / length(v), v)) if length(v) else moved
        v = plus((mu, v), (1.0, g))
        w = plus((1.0, w), (-lr, v))
        moved = plus((1.0, w), (-rho / length(v), v))
        history.append(w)
    return history


def momentum_sam_directions(net: LinearNet, rho: float, beta: float) -> Directions:
    """For Adam, whose first moment is an average of the directions themselves."""
    params = yield None
    m = [np.zeros_like(p) for p in params]
    while True:
        g = net.gnn_gradient(plus((1.0, params), (-rho / length(m), m)) if length(m) else params)
        m = plus((beta, m), (1 - beta, g))
        params = yield g


def tilted_sam_directions(net: LinearNet, rho: float, tilt: float, draws: Draws, *, ascend: bool) -> Directions:
    params = yield None
    for draw in draws:
        points = [plus((1.0, params), (rho, noise)) for noise in draw]
        if ascend:
            points = [ascended(point, net.gnn_gradient(point), rho) for point in points]
        weights = np.exp(tilt * np.array([gnn_loss(net, point) for point in points]))
        weights /= weights.sum()
        params = yield plus(*((one, net.gnn_gradient(point)) for one, point in zip(weights, points, strict=True)))


def zeroth_order_directions(net: LinearNet, rho: float, tilt: float, draws: Draws) -> Directions:
    params = yield None
    for draw in draws:
        points = [(sign, noise) for noise in draw for sign in (1.0, -1.0)]
        losses = np.array([gnn_loss(net, plus((1.0, params), (sign * rho, noise))) for sign, noise in points])
        if tilt:
            weights = np.exp(tilt * losses) / np.exp(tilt * losses).sum() / (tilt * rho)
        else:
            weights = losses / len(losses) / rho
        params = yield plus(*((one * sign, noise) for one, (sign, noise) in zip(weights, points, strict=True)))


def maximiser_in_ball(a: np.ndarray, w: np.ndarray, rho: float) -> np.ndarray:
    """The ``eps`` of length ``rho`` that maximises ``(w + eps) a (w + eps) / 2``: ``(nu I - a) eps = a w``.

    The multiplier ``nu`` lies above the top eigenvalue and is found by bisection on the length of ``eps``.
    """
    values, vectors = np.linalg.eigh(a)
    force = vectors.T @ (a @ w)

    def size(nu: float) -> float:
        return float(np.linalg.norm(force / (nu - values)))

    low, high = values[-1], values[-1] + np.linalg.norm(force) / rho + 1.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if size(middle) > rho else (low, middle)
    found: np.ndarray = vectors @ (force / (high - values))
    return found


def tilted_quadratic() -> tuple[np.ndarray, np.ndarray, float, float]:
    """A matrix, weights, a tilt and a standard deviation for which the tilt turns and lengthens the gradient."""
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return basis @ np.diag([2.0, 1.0, 0.5]) @ basis.T, rng.normal(size=3), 1.0, 0.5


def tilted_quadratic_gradient(a: np.ndarray, w: np.ndarray, tilt: float, sigma: float) -> np.ndarray:
    """Gradient of the tilted objective of ``w a w / 2`` under normal draws, for ``tilt * sigma**2 * max(a) < 1``."""
    found: np.ndarray = a @ np.linalg.solve(np.eye(len(w)) - tilt * sigma**2 * a, w)
    return found


class Drawing:
    """Stands in for a rule's source of noise: the same for the same generator, and written down in order.

    Args:
        num_samples: Draws a step.
    """

    def __init__(self, num_samples: int) -> None:
        self.num_samples = num_samples
        self._drawn: dict[int, list[Tensor]] = {}

    def __call__(self, params: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
        seed = generator.initial_seed()
        if seed not in self._drawn:
            rng = np.random.default_rng(len(self._drawn))
            self._drawn[seed] = [torch.from_numpy(rng.normal(size=tuple(p.shape))) for p in params]
        return [one.clone() for one in self._drawn[seed]]

    @property
    def draws(self) -> Draws:
        """What was drawn, step by step."""
        all_draws = [[one.numpy() for one in draw] for draw in self._drawn.values()]
        return [all_draws[i : i + self.num_samples] for i in range(0, len(all_draws), self.num_samples)]
