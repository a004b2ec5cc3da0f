"""Mini-batches of fields on a graph too large for a full pass, and what both hold in memory.

A field has the rows and edges that its targets need, so that a step costs what the batch needs, whatever the graph's
size, and gives the same loss as a pass over the whole graph.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch_geometric.nn import GraphSAGE

import fgsam
from fgsam.episodes.streams import generator


def held_mb(loss: Callable[[], torch.Tensor]) -> float:
    """Memory that a forward pass holds for its backward pass, in MiB."""
    sizes: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        value = loss()
    del value  # not before: a freed place would be counted for two tensors
    return sum(sizes.values()) / 2**20


def main(num_nodes: int = 100_000, num_steps: int = 30, batch_size: int = 64) -> tuple[float, float]:
    """Train on fields; return what the last field and a full pass would hold, in MiB."""
    torch.manual_seed(0)
    graph = fgsam.load_graph("synthetic", num_nodes=num_nodes, num_features=300, num_classes=10, words_per_node=20)
    model = GraphSAGE(graph.num_features, hidden_channels=64, num_layers=2, out_channels=graph.num_classes)
    optimizer = fgsam.FGSAM(model, torch.optim.Adam, rho=0.05, lr=0.01)

    def loss(field: fgsam.Field) -> torch.Tensor:
        rows = model(field.dense_x(), field.edge_index)[: field.num_targets]
        return F.cross_entropy(rows, field.of_nodes(graph.labels)[: field.num_targets])

    for step in range(num_steps):
        nodes = generator("mini-batch", step).choice(num_nodes, batch_size, replace=False)
        field = graph.field(nodes, num_hops=2)
        optimizer.step(partial(loss, field), partial(loss, graph.field(nodes, num_hops=0)))
    full = lambda: F.cross_entropy(model(graph.x.dense(), graph.edge_index), graph.labels)  # noqa: E731
    return held_mb(partial(loss, field)), held_mb(full)


if __name__ == "__main__":
    print("a field holds {:.1f} MiB, a full pass {:.1f} MiB".format(*main(*map(int, sys.argv[1:]))))
