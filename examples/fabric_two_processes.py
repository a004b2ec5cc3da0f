"""FGSAM in two processes under Fabric, on the CPU of one machine: each rank has its own mini-batches.

Every pass averages its gradient over the ranks, as DistributedDataParallel does, so that both take the same step. The
optimizer that Fabric hands back takes one closure; its attribute ``optimizer`` is ours, which takes the peer's as well.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from lightning.fabric import Fabric
from torch_geometric.nn import GraphSAGE

import fgsam
from fgsam.episodes.streams import generator


def main(num_steps: int = 20) -> None:
    """Train on a generated graph, and check that the ranks have the same weights to the bit."""
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
    fabric.launch()
    torch.manual_seed(0)
    graph = fgsam.load_graph("synthetic", num_nodes=1000, num_features=300, num_classes=5, words_per_node=20)
    model = GraphSAGE(graph.num_features, hidden_channels=32, num_layers=2, out_channels=graph.num_classes)
    optimizer = fgsam.FGSAM(model, torch.optim.Adam, rho=0.05, lr=0.02)
    model, optimizer = fabric.setup(model, optimizer)

    def loss(field: fgsam.Field) -> torch.Tensor:
        rows = model(field.dense_x(), field.edge_index)[: field.num_targets]
        return F.cross_entropy(rows, field.of_nodes(graph.labels)[: field.num_targets])

    for step in range(num_steps):
        nodes = generator("mini-batch", fabric.global_rank, step).choice(graph.num_nodes, 50, replace=False)
        gnn, peer = graph.field(nodes, num_hops=2), graph.field(nodes, num_hops=0)
        value = optimizer.optimizer.step(partial(loss, gnn), partial(loss, peer))

    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    first_weights, first_loss = fabric.broadcast((weights, value))
    assert torch.equal(weights, first_weights)
    assert fabric.is_global_zero or value != first_loss  # the ranks have seen different nodes
    print(f"rank {fabric.global_rank}: equal weights after {num_steps} steps, last loss {value:.3f}")


if __name__ == "__main__":
    main()
