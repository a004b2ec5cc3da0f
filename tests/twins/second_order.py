"""A loss whose gradient and Hessian are known, and the second-order rules written from their equations in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

SHAPES = [(2, 3), (3,)]
SIZES = [int(np.prod(shape)) for shape in SHAPES]


class Quartic:
    """``0.5 * w A w + sum(c * w^4)`` over the entries of a matrix and a vector; its curvature has both signs."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        root = rng.normal(size=(sum(SIZES), sum(SIZES)))
        self.a = (root + root.T) / 2
        self.c = rng.uniform(0.5, 2.0, size=sum(SIZES))
        self.start = rng.normal(size=sum(SIZES))

    def gradient(self, w: np.ndarray) -> np.ndarray:
        return self.a @ w + 4 * self.c * w**3

    def hessian(self, w: np.ndarray) -> np.ndarray:
        return self.a + np.diag(12 * self.c * w**2)

    def tensors(self) -> list[Tensor]:
        parts = np.split(self.start, np.cumsum(SIZES)[:-1])
        return [
            torch.tensor(part.reshape(shape), requires_grad=True) for part, shape in zip(parts, SHAPES, strict=True)
        ]

    def closure(self, params: list[Tensor]) -> Callable[[], Tensor]:
        a, c = torch.tensor(self.a), torch.tensor(self.c)

        def loss() -> Tensor:
            w = flat(params)
            return 0.5 * w @ a @ w + (c * w**4).sum()

        return loss


def flat(params: list[Tensor]) -> Tensor:
    return torch.cat([p.reshape(-1) for p in params])


def run_with_probes(optimizer: Any, problem: Quartic, params: list[Tensor], num_steps: int) -> tuple[Any, Any]:
    """Weights after each step, and the random vectors that the optimizer drew, the same at every call."""
    torch.manual_seed(0)
    history, probes, draw = [], [], type(optimizer).probe

    def spied(given, generator):
        probes.append(draw(optimizer, given, generator))
        return probes[-1]

    optimizer.probe = spied
    for _ in range(num_steps):
        optimizer.step(problem.closure(params))
        history.append(flat(params).detach().numpy().copy())
    return history, [flat(probe).numpy() for probe in probes]


def sassha(
    problem: Quartic,
    probes: list[np.ndarray],
    num_steps: int,
    *,
    lr: float,
    rho: float,
    beta1: float,
    beta2: float,
    eps: float,
    wd: float,
    power: float,
    every: int,
    by_steps: bool,
    looks_ahead: bool = False,
) -> Iterator[np.ndarray]:
    w, m, d = problem.start, np.zeros(sum(SIZES)), np.zeros(sum(SIZES))
    drawn, num_updates, correction = iter(probes), 0, 1.0
    for t in range(1, num_steps + 1):
        along = -m if looks_ahead else problem.gradient(w)
        moved = w + rho * along / np.linalg.norm(along) if along.any() else w
        m = beta1 * m + (1 - beta1) * problem.gradient(moved)
        if (t - 1) % every == 0:
            z = next(drawn)
            d = beta2 * d + (1 - beta2) * np.abs(z * (problem.hessian(moved) @ z))
            num_updates += 1
            correction = 1 - beta2 ** (t if by_steps else num_updates)
        w = (1 - lr * wd) * w - lr * m / (1 - beta1**t) / ((d / correction) ** power + eps)
        yield w


def adahessian(
    problem: Quartic,
    probes: list[np.ndarray],
    num_steps: int,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    wd: float,
    power: float,
    every: int,
    rows: bool,
    by_size: bool,
) -> Iterator[np.ndarray]:
    w, m, v = problem.start, np.zeros(sum(SIZES)), np.zeros(sum(SIZES))
    drawn, num_updates = iter(probes), 0
    for t in range(1, num_steps + 1):
        m = beta1 * m + (1 - beta1) * problem.gradient(w)
        if (t - 1) % every == 0:
            z = next(drawn)
            d = z * (problem.hessian(w) @ z)
            d = np.abs(d) if by_size else d
            if rows:
                matrix = d[: SIZES[0]].reshape(SHAPES[0])
                d = np.concatenate([np.repeat(matrix.mean(1), SHAPES[0][1]), d[SIZES[0] :]])
            v = beta2 * v + (1 - beta2) * d**2
            num_updates += 1
        root = np.sqrt(v / (1 - beta2**num_updates))
        w = w - lr * (m / (1 - beta1**t) / (root**power + eps)) - lr * wd * w
        yield w


def sophia(
    problem: Quartic,
    probes: list[np.ndarray],
    num_steps: int,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    gamma: float,
    eps: float,
    wd: float,
    every: int,
) -> Iterator[np.ndarray]:
    w, m, h = problem.start, np.zeros(sum(SIZES)), np.zeros(sum(SIZES))
    drawn = iter(probes)
    for t in range(num_steps):
        m = beta1 * m + (1 - beta1) * problem.gradient(w)
        if t % every == 0:
            z = next(drawn)
            h = beta2 * h + (1 - beta2) * z * (problem.hessian(w) @ z)
        w = w - lr * wd * w - lr * np.clip(m / np.maximum(gamma * h, eps), -1, 1)
        yield w
