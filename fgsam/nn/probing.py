"""Small graphs and seeded copies on which a module is measured, leaving the module itself as it was."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fgsam.graph.field import Field
from fgsam.graph.graph import Graph
from fgsam.nn.calling import FieldForward, call, calling_of, is_lazy

NUM_UNRELATED = 5
"""Nodes of the component that no path leads to."""

_SEED = 0


def path_field(
    num_features: int,
    length: int,
    *,
    like: nn.Module,
    poisoned: int | None = None,
    unrelated: int = NUM_UNRELATED,
    is_weighted: bool = False,
) -> Field:
    """Build a field of two undirected paths with no edge between them, every node a target.

    Args:
        num_features: Width of the rows.
        length: Distance from the centre of the first path to its ends; it has ``2 * length + 1`` nodes.
        like: Module that says the meaning of the edges, the floating type and the device.
        poisoned: Node whose features are NaN.
        unrelated: Nodes of the second path, after those of the first.
        is_weighted: Give the edges weights of their own.
    """
    num_nodes = 2 * length + 1 + unrelated
    starts = torch.tensor([i for i in range(num_nodes - 1) if i != 2 * length])
    edges = torch.cat((torch.stack((starts, starts + 1)), torch.stack((starts + 1, starts))), dim=1)
    # Drawn for the longer graph, so that leaving out the unrelated path leaves the other rows alone.
    rows = torch.randn(num_nodes + NUM_UNRELATED, num_features, generator=torch.Generator().manual_seed(_SEED))
    at = () if poisoned is None else (poisoned,)
    return rows_field(rows[:num_nodes], edges, 1, like=like, poisoned=at, is_weighted=is_weighted)


def rows_field(
    x: Tensor,
    edge_index: Tensor,
    num_hops: int,
    *,
    like: nn.Module,
    poisoned: Sequence[int] = (),
    is_weighted: bool = False,
) -> Field:
    """Build a field with every node a target.

    Args:
        x: Feature rows, shape ``[num_nodes, num_features]``.
        edge_index: Directed edges, shape ``[2, num_edges]``.
        num_hops: At least 1 for all edges; 0 for rows that see only themselves.
        like: Module that says the meaning of the edges, the floating type and the device.
        poisoned: Nodes whose features are NaN.
        is_weighted: Give the edges weights of their own.
    """
    dtype, device = _placement(like)
    labels = torch.zeros(len(x), dtype=torch.int64)
    weight = torch.linspace(0.5, 1.5, edge_index.size(1)) if is_weighted else None
    graph = Graph.from_arrays(x, edge_index, labels, directed=True, edge_weight=weight)
    if poisoned:  # from_arrays refuses NaN
        x = x.index_fill(0, torch.tensor(list(poisoned)), float("nan"))
    graph = Graph(
        x,
        graph.labels,
        graph.adjacency,
        is_weighted=is_weighted,
        is_directed=graph.is_directed,
        edge_order=graph.edge_order,  # a module may ask for field.of_edges
    )
    graph = graph.to(dtype=dtype, device=device)
    hops = max(num_hops, getattr(like, "num_hops", None) or 1) if num_hops else 0
    return graph.field(torch.arange(len(x)), hops, edges=getattr(like, "edges", "raw"))


@contextmanager
def own_randomness(device: torch.device | None = None) -> Iterator[None]:
    """Seed the global generators for a measurement and put their state back afterwards."""
    devices = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(_SEED)
        yield


def fresh_copy(module: nn.Module, field: Field, *, is_training: bool, forward: FieldForward | None = None) -> nn.Module:
    """Copy a module into training or evaluation mode; lazy channels of the copy get their shape from the field."""
    copied = copied_module(module).train(is_training)
    if is_lazy(copied):
        with own_randomness(field.node_ids.device), torch.no_grad():
            _run(copied, field, forward)
    return copied


def copied_module(module: nn.Module) -> nn.Module:
    """Copy a module, also one that keeps tensors of its last pass, such as the attention of SuperGATConv."""
    kept = [value for part in module.modules() for value in vars(part).values() if isinstance(value, Tensor)]
    return copy.deepcopy(module, {id(value): value.detach() for value in kept if not value.is_leaf})


def seeded_rows(module: nn.Module, field: Field, forward: FieldForward | None = None) -> Tensor:
    """Run a module on a field with the same random numbers each time, shape ``[field.num_targets, dim]``.

    Raises:
        ValueError: If it fails on rows and edges, or does not return one row for each target.
        TypeError: If its ``forward`` takes other arguments.
    """
    with own_randomness(field.node_ids.device):
        return checked_rows(_run(module, field, forward), field, type(module).__name__)


def describe(name: str, part: nn.Module) -> str:
    """Name a submodule for a message: ``convs.0 (GCNConv)``, or the class alone for the module itself."""
    return f"{name} ({type(part).__name__})" if name else type(part).__name__


def checked_rows(rows: object, field: Field, name: str) -> Tensor:
    """Return what a module gave if it is one row for each target, else raise ``ValueError``."""
    if not isinstance(rows, Tensor) or rows.dim() == 0 or rows.size(0) != field.num_targets:
        got = list(rows.shape) if isinstance(rows, Tensor) else type(rows).__name__
        raise ValueError(
            f"Expected {name} to return a tensor with one row for each node, shape [{field.num_targets}, dim] "
            f"(got {got}). Return node embeddings: no pooling to one row a graph, no tuples."
        )
    return rows


def moved_rows(before: Tensor, after: Tensor, rtol: float = 0.0) -> Tensor:
    """Flag the rows that changed, NaN counting as a change; boolean, shape ``[num_rows]``."""
    if before.shape != after.shape:
        return torch.ones(before.size(0), dtype=torch.bool)
    same = torch.isclose(before, after, rtol=rtol, atol=rtol) if rtol else before == after
    return ~same.flatten(1).all(dim=1) if before.dim() > 1 else ~same


def _run(module: nn.Module, field: Field, forward: FieldForward | None) -> Tensor:
    if forward is None:
        calling_of(module)
    try:
        return call(module, field, forward)
    except Exception as error:
        if not _is_raised_by_a_layer(error):
            raise  # a fault in the user's own code, best seen where it lies
        raise ValueError(
            f"Expected {type(module).__name__} to run on the features and edges of a small graph (got "
            f"{type(error).__name__}: {error}). If it needs other inputs, give the function that calls it: "
            "forward=lambda module, field: ..."
        ) from error


def _is_raised_by_a_layer(error: Exception) -> bool:
    """Whether an error comes from PyTorch Geometric, or its calls of torch, and so says little of missing inputs."""
    packages = [
        str(frame.f_globals.get("__name__")).partition(".")[0] for frame, _ in traceback.walk_tb(error.__traceback__)
    ]
    return [package for package in packages if package != "torch"][-1] == "torch_geometric"


def _placement(module: nn.Module) -> tuple[torch.dtype, torch.device]:
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            return tensor.dtype, tensor.device
    return torch.float32, torch.device("cpu")
