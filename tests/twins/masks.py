"""The rules that mask parameters or weigh queries, written from their equations in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from fgsam.optim.base import SharpnessAware
from tests.twins.optimizers import NUM_NODES, Arrays, Directions, LinearNet, length, plus

Masks = list[np.ndarray]
EVERYONE = np.full(NUM_NODES, 1 / NUM_NODES)


class QueryNet(LinearNet):
    """The linear net, with the loss of each query by itself."""

    def _odds(self, params: Arrays) -> np.ndarray:
        w, v, b = params
        logits = self.a @ (self.a @ self.x @ w) @ v + b
        odds = np.exp(logits - logits.max(1, keepdims=True))
        return odds / odds.sum(1, keepdims=True)

    def losses(self, params: Arrays) -> np.ndarray:
        return -np.log(self._odds(params)[np.arange(NUM_NODES), self.y])

    def gradient(self, params: Arrays, weights: np.ndarray = EVERYONE) -> Arrays:
        """Gradient of the weighted sum of the losses."""
        w, v, _ = params
        d_logits = self._odds(params)
        d_logits[np.arange(NUM_NODES), self.y] -= 1
        d_logits *= weights[:, None]
        hidden = self.a @ self.x @ w
        return [(self.a @ self.x).T @ (self.a.T @ d_logits @ v.T), (self.a @ hidden).T @ d_logits, d_logits.sum(0)]

    def one(self, params: Arrays, query: int) -> Arrays:
        return self.gradient(params, np.eye(NUM_NODES)[query])


def run_queries(
    net: QueryNet, rule: type[SharpnessAware], num_calls: int, **options: Any
) -> tuple[list[Arrays], list[list[Arrays]], SharpnessAware]:
    """Weights after each step, and the weights of each pass of each step."""
    params = net.tensors()
    closure, _ = net.closures(params, "none")
    optimizer = rule(params, **options)
    history: list[Arrays] = []
    visited: list[list[Arrays]] = []

    def now() -> Arrays:
        return [p.detach().numpy().copy() for p in params]

    def spying() -> torch.Tensor:
        visited[-1].append(now())
        return closure()

    torch.manual_seed(11)
    for _ in range(num_calls):
        visited.append([])
        optimizer.step(spying)
        history.append(now())
    return history, visited, optimizer


def top(scores: np.ndarray, count: int) -> np.ndarray:
    marked = np.zeros(scores.size, dtype=bool)
    marked[np.argsort(-scores, kind="stable")[:count]] = True
    return marked


def joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([one.ravel() for one in arrays])


def cut(vector: np.ndarray, like: Sequence[np.ndarray]) -> Masks:
    ends = np.cumsum([one.size for one in like])
    return [part.reshape(one.shape) for part, one in zip(np.split(vector, ends[:-1]), like, strict=True)]


def unstructured(scores: Arrays, num_live: int) -> Masks:
    return cut(top(joined(scores), num_live), scores)


def structured(scores: Arrays, num_live: int) -> Masks:
    masks = [np.zeros(one.shape, dtype=bool) for one in scores]
    count = 0
    for i in np.argsort([-one.mean() for one in scores], kind="stable"):
        if count < num_live:
            masks[i][...] = True
            count += masks[i].size
    return masks


def grouped(scores: Arrays, num_kept: int, size: int, input_dim: int) -> Masks:
    masks = []
    for one in scores:
        mask = np.ones(one.shape, dtype=bool)
        if one.ndim == 2:
            by_output = one if input_dim == 1 else one.T
            rows = [
                np.concatenate([top(row[i : i + size], num_kept) for i in range(0, row.size, size)])
                for row in by_output
            ]
            mask = np.array(rows) if input_dim == 1 else np.array(rows).T
        masks.append(mask)
    return masks


def masked_ascent(net: QueryNet, params: Arrays, rho: float, masks: Masks) -> Arrays:
    g = net.gradient(params)
    return plus((1.0, params), (rho / length(g), [a * m for a, m in zip(g, masks, strict=True)]))


def fisher(net: QueryNet, params: Arrays, queries: Sequence[int] = range(NUM_NODES)) -> Arrays:
    return plus(*[(1.0, [a**2 for a in net.one(params, i)]) for i in queries])


def ssam_fisher_directions(net: QueryNet, rho: float, mark: Callable[[Arrays], Masks], mask_every: int) -> Directions:
    params = yield None
    t, masks = 0, []
    while True:
        if t % mask_every == 0:
            masks = mark(fisher(net, params))
        params = yield net.gradient(masked_ascent(net, params, rho, masks))
        t += 1


def ssam_dynamic_directions(
    net: QueryNet, rho: float, masks: Masks, drop_rate: float, by: tuple[str, str], mask_every: int, num_steps: int
) -> Directions:
    params = yield None
    t = 0
    while True:
        if t > 0 and t % mask_every == 0:
            scores = {"weight": np.abs(joined(params)), "gradient": np.abs(joined(net.gradient(params)))}
            marked = joined(masks)
            rate = drop_rate / 2 * (1 + math.cos(math.pi * min(1, t / num_steps)))
            num_live, num_dead = int(marked.sum()), int((~marked).sum())
            num_given_up = min(num_live - int(num_live * (1 - rate)), num_dead)
            live = sorted(np.flatnonzero(marked), key=lambda i: -scores[by[0]][i])[: num_live - num_given_up]
            grown = sorted(np.flatnonzero(~marked), key=lambda i: -scores[by[1]][i])[:num_given_up]
            marked = np.isin(np.arange(marked.size), [*live, *grown])
            masks = cut(marked, params)
        params = yield net.gradient(masked_ascent(net, params, rho, masks))
        t += 1


def esam_directions(net: QueryNet, rho: float, beta: float, gamma: float, masks: list[Masks]) -> Directions:
    params = yield None
    for mask in masks:
        moved = masked_ascent(net, params, rho / beta, mask)
        rises = net.losses(moved) - net.losses(params)
        chosen = np.argsort(-rises, kind="stable")[: math.ceil(gamma * NUM_NODES)]
        params = yield net.gradient(moved, np.isin(np.arange(NUM_NODES), chosen) / len(chosen))


def capped(total: int, sizes: np.ndarray) -> np.ndarray:
    """Numbers in proportion to the sizes, of a given sum, none above one."""
    certain = np.zeros(sizes.size, dtype=bool)
    for _ in sizes:
        found = np.where(certain, 1.0, (total - certain.sum()) * sizes / sizes[~certain].sum())
        certain |= found >= 1
    return found


def ausam_directions(
    net: QueryNet, rho: float, alpha: float, ends: tuple[float, float, int], draws: list[np.ndarray], form: str
) -> Directions:
    """The draws are given; what they weigh follows from the scores."""
    params = yield None
    low, high, rise_steps = ends
    rises_of: list[list[float]] = [[] for _ in range(NUM_NODES)]
    for t, drawn in enumerate(draws):
        if t == 0:
            assert drawn.all()
            weights = EVERYONE
        else:
            scores = np.array([np.mean(rises) for rises in rises_of])
            top_end = low + (high - low) * min(1, t / rise_steps)
            sizes = low + (top_end - low) * (scores - scores.min()) / (scores.max() - scores.min())
            num_drawn = math.ceil(alpha * NUM_NODES)
            assert drawn.sum() == num_drawn
            chances = capped(num_drawn, sizes)
            weights = drawn / num_drawn if form == "code" else drawn / (NUM_NODES * chances)
        g = net.gradient(params, weights)
        moved = plus((1.0, params), (rho / length(g), g))
        for i, rise in enumerate(np.abs(net.losses(moved) - net.losses(params))):
            if drawn[i]:
                rises_of[i].append(rise)
        params = yield net.gradient(moved, weights)


def micro_batch_directions(net: QueryNet, rho: float, num_shards: int) -> Directions:
    params = yield None
    while True:
        terms = []
        for start in range(num_shards):
            shard = np.arange(NUM_NODES) % num_shards == start
            g = net.gradient(params, shard / shard.sum())
            moved = plus((1.0, params), (rho / length(g), g))
            terms.append((shard.sum() / NUM_NODES, net.gradient(moved, shard / shard.sum())))
        params = yield plus(*terms)
