"""The built-in encoders on the whole graph, written from their equations with no field, no folding and no shortcut."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


def adjacency(edge_index: Tensor, num_nodes: int, *, loops: bool) -> Tensor:
    """Entry ``[target, source]`` counts the edges; with ``loops`` the diagonal is one."""
    if loops:
        edge_index = with_loops(edge_index, num_nodes)
    source, target = edge_index
    ones = torch.ones(edge_index.size(1), dtype=torch.float64)
    return torch.sparse_coo_tensor(torch.stack([target, source]), ones, (num_nodes, num_nodes)).coalesce()


def with_loops(edge_index: Tensor, num_nodes: int) -> Tensor:
    """One self-loop a node, whatever there was."""
    nodes = torch.arange(num_nodes)
    return torch.cat([edge_index[:, edge_index[0] != edge_index[1]], torch.stack([nodes, nodes])], dim=1)


def normalised(edge_index: Tensor, num_nodes: int, kind: str) -> Tensor:
    matrix = adjacency(edge_index, num_nodes, loops=True)
    degree = matrix.sum(dim=1).to_dense()
    row, col = matrix.indices()
    scale = 1 / degree[row] if kind == "row" else 1 / (degree[row] * degree[col]).sqrt()
    return torch.sparse_coo_tensor(matrix.indices(), matrix.values() * scale, matrix.shape)


def gcn(encoder: nn.Module, x: Tensor, edge_index: Tensor) -> Tensor:
    matrix = normalised(edge_index, len(x), encoder.edges)
    h = x
    for depth, layer in enumerate(encoder.layers):
        h = torch.relu(h) if depth else h
        h = matrix @ (h @ layer.weight) + layer.bias
    return h


def sgc(encoder: nn.Module, x: Tensor, edge_index: Tensor) -> Tensor:
    matrix = normalised(edge_index, len(x), encoder.edges)
    h = x @ encoder.layer.weight
    for _ in range(encoder.num_hops):
        h = matrix @ h
    return h + encoder.layer.bias


def sage(encoder: nn.Module, x: Tensor, edge_index: Tensor) -> Tensor:
    matrix = adjacency(edge_index, len(x), loops=False)
    degree = matrix.sum(dim=1).to_dense().clamp(min=1)[:, None]
    h = x
    for depth, (neighbour, own) in enumerate(zip(encoder.neighbour_layers, encoder.own_weights, strict=True)):
        h = torch.relu(h) if depth else h
        h = (matrix @ (h @ neighbour.weight)) / degree + neighbour.bias + h @ own
    return h


def gin(encoder: nn.Module, x: Tensor, edge_index: Tensor) -> Tensor:
    matrix = adjacency(edge_index, len(x), loops=False)
    h = x
    for depth, (inner, outer) in enumerate(encoder.mlps):
        h = torch.relu(h) if depth else h
        total = (1 + encoder.eps) * h + matrix @ h  # sum first, then the linear map, as the equation has it
        h = torch.relu(total @ inner.weight + inner.bias) @ outer.weight + outer.bias
    return h


def gat(encoder: nn.Module, x: Tensor, edge_index: Tensor) -> Tensor:
    source, target = with_loops(edge_index, len(x))
    h = x
    for depth, weight in enumerate(encoder.weights):
        h = torch.relu(h) if depth else h
        z = (h @ weight).view(len(x), encoder.heads, -1)
        heads = []
        for head in range(encoder.heads):
            score = (
                z[source, head] @ encoder.from_source[depth][head] + z[target, head] @ encoder.from_target[depth][head]
            )
            share = torch.nn.functional.leaky_relu(score, 0.2).exp()
            total = torch.zeros(len(x), dtype=x.dtype).index_add(0, target, share)
            attention = share / total[target]
            heads.append(torch.zeros_like(z[:, head]).index_add(0, target, attention[:, None] * z[source, head]))
        is_last = depth == len(encoder.weights) - 1
        h = (torch.stack(heads).mean(dim=0) if is_last else torch.cat(heads, dim=1)) + encoder.biases[depth]
    return h


def appnp(encoder: nn.Module, x: Tensor, edge_index: Tensor) -> Tensor:
    matrix = normalised(edge_index, len(x), "sym")
    first, second = encoder.layers
    h = torch.relu(x @ first.weight + first.bias) @ second.weight + second.bias
    z = h
    for _ in range(encoder.num_hops):
        z = (1 - encoder.teleport) * (matrix @ z) + encoder.teleport * h
    return z


def gcnii(encoder: nn.Module, x: Tensor, edge_index: Tensor) -> Tensor:
    matrix = normalised(edge_index, len(x), "sym")
    identity = torch.eye(encoder.weights[0].size(0), dtype=x.dtype)
    first_rows = h = torch.relu(x @ encoder.first.weight + encoder.first.bias)
    for depth, weight in enumerate(encoder.weights, start=1):
        beta = math.log(encoder.theta / depth + 1)
        mixed = (1 - encoder.alpha) * (matrix @ h) + encoder.alpha * first_rows
        h = torch.relu(mixed @ ((1 - beta) * identity + beta * weight))
    return h @ encoder.last.weight + encoder.last.bias


def gprgnn(encoder: nn.Module, x: Tensor, edge_index: Tensor) -> Tensor:
    matrix = normalised(edge_index, len(x), "sym")
    first, second = encoder.layers
    z = torch.relu(x @ first.weight + first.bias) @ second.weight + second.bias
    powers = [z]
    while len(powers) < len(encoder.gamma):
        powers.append(matrix @ powers[-1])
    return torch.stack(powers, dim=-1) @ encoder.gamma


def h2gcn(encoder: nn.Module, x: Tensor, edge_index: Tensor) -> Tensor:
    near, far = rings(edge_index, len(x))
    r = torch.relu(x @ encoder.first.weight + encoder.first.bias)
    rounds = [r]
    for _ in range(encoder.num_hops // 2):
        r = torch.cat([near @ r, far @ r], dim=1)
        rounds.append(r)
    return torch.cat(rounds, dim=1) @ torch.cat([encoder.own_weight, encoder.neighbour_weight]) + encoder.bias


def rings(edge_index: Tensor, num_nodes: int) -> list[Tensor]:
    """The nodes exactly one and exactly two hops away as sets, then as matrices scaled by the counts of both ends."""
    near: list[set[int]] = [set() for _ in range(num_nodes)]
    for source, target in edge_index.t().tolist():
        near[target].add(source)
    near = [sources - {node} for node, sources in enumerate(near)]
    far = [set().union(*(near[j] for j in near[i])) - near[i] - {i} for i in range(num_nodes)]
    matrices = []
    for ring in (near, far):
        pairs = torch.tensor([(i, j) for i in range(num_nodes) for j in sorted(ring[i])], dtype=torch.int64)
        pairs = pairs.reshape(-1, 2).t()
        rows, columns = (pairs[end].bincount(minlength=num_nodes).double() for end in (0, 1))
        weight = (rows[pairs[0]] * columns[pairs[1]]) ** -0.5
        matrices.append(torch.sparse_coo_tensor(pairs, weight, (num_nodes, num_nodes)).coalesce())
    return matrices


def mlp(encoder: nn.Module, x: Tensor, edge_index: Tensor) -> Tensor:
    h = x
    for depth, layer in enumerate(encoder.layers):
        h = (torch.relu(h) if depth else h) @ layer.weight + layer.bias
    return h


def module(encoder: nn.Module, x: Tensor, edge_index: Tensor) -> Tensor:
    """A wrapped module, called as its own documentation says."""
    return encoder.module(x, edge_index)


TWINS: dict[str, Callable[[nn.Module, Tensor, Tensor], Tensor]] = {
    "gcn": gcn,
    "sgc": sgc,
    "sage": sage,
    "gat": gat,
    "gin": gin,
    "appnp": appnp,
    "gcnii": gcnii,
    "gprgnn": gprgnn,
    "h2gcn": h2gcn,
    "mlp": mlp,
}
