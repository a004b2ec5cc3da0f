"""Sparse training written from its equations in NumPy: what each rule does with the gradient and to the weights."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tests.twins.optimizers import Arrays, LinearNet, ascended, plus

Update = Callable[[Arrays, Arrays], Arrays]


def risen(schedule: str, t: int, num_steps: int) -> float:
    x = min(t / num_steps, 1)
    return {"constant": 1, "linear": x, "cosine": 0.5 * (1 - math.cos(math.pi * x)), "cubic": 1 - (1 - x) ** 3}[
        schedule
    ]


def mask(scores: Arrays, count: int) -> Arrays:
    """The largest scores over all matrices, the first of equal ones; vectors are kept whole."""
    entries = [(-value, i, j) for i, s in enumerate(scores) if s.ndim > 1 for j, value in enumerate(s.ravel())]
    kept = [np.ones_like(s, dtype=bool) if s.ndim == 1 else np.zeros_like(s, dtype=bool) for s in scores]
    for _, i, j in sorted(entries)[:count]:
        kept[i].flat[j] = True
    return kept


def num_weights(params: Arrays) -> int:
    return sum(p.size for p in params if p.ndim > 1)


def project(params: Arrays, sparsity: float, importance: Arrays | None = None) -> Arrays:
    weighed = params if importance is None else [np.sqrt(i) * p for i, p in zip(importance, params, strict=True)]
    kept = mask([np.abs(p) for p in weighed], round((1 - sparsity) * num_weights(params)))
    return [np.where(m, p, 0.0) for m, p in zip(kept, params, strict=True)]


def splitting(
    net: LinearNet,
    update: Update,
    num_steps: int,
    *,
    sparsity: float,
    penalty: float,
    schedule: str,
    length: int,
    dual_every: int,
    rho: float = 0.0,
    decay: float | None = None,
) -> list[Arrays]:
    """SAFE; with ``rho = 0`` ADMM, with ``decay`` SAFE+. Vectors have a split of their own that never matters."""
    w, history = net.start, []
    importance = None if decay is None else [np.zeros_like(p) for p in w]
    u: Arrays = [np.zeros_like(p) for p in w]
    z: Arrays = []
    for t in range(num_steps):
        g = net.gnn_gradient(w)
        if importance is not None:
            importance = [decay * i + (1 - decay) * one**2 for i, one in zip(importance, g, strict=True)]
        z = z or project(w, sparsity, importance)
        g_s = net.gnn_gradient(ascended(w, g, rho))
        lam = penalty * risen(schedule, t, length)
        pull = [a - b + c if a.ndim > 1 else np.zeros_like(a) for a, b, c in zip(w, z, u, strict=True)]
        w = update(w, plus((1.0, g_s), (lam, pull)))
        if (t + 1) % dual_every == 0:
            both = plus((1.0, w), (1.0, u))
            z = project(both, sparsity, importance)
            u = plus((1.0, both), (-1.0, z))
        history.append(w)
    return history


def thresholding(
    net: LinearNet, update: Update, num_steps: int, *, sparsity: float, schedule: str, length: int, for_good: bool
) -> list[Arrays]:
    """Magnitude pruning ``for_good``, else iterative hard thresholding."""
    w, history = net.start, []
    alive = [np.ones_like(p, dtype=bool) for p in w]
    for t in range(1, num_steps + 1):
        w = update(w, net.gnn_gradient(w))
        count = round((1 - sparsity * risen(schedule, t, length)) * num_weights(w))
        found = mask([np.where(a, np.abs(p), -1.0) for a, p in zip(alive, w, strict=True)], count)
        alive = found if for_good else alive
        w = [np.where(m, p, 0.0) for m, p in zip(found, w, strict=True)]
        history.append(w)
    return history
