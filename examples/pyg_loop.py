"""FGSAM in a plain PyTorch Geometric loop: Cora, its public split, a stock GCN.

Set FGSAM_DATA to the folder that ``fgsam data get cora`` has filled, or take the graph from PyTorch Geometric itself:
``graph = fgsam.Graph.from_pyg(Planetoid(root, "Cora")[0])``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch_geometric.nn import GCN

import fgsam


def main(num_epochs: int = 100) -> float:
    """Train on 140 labelled nodes, and return the accuracy on the 1,000 test nodes."""
    torch.manual_seed(0)
    graph = fgsam.load_graph("cora")
    x, edges, labels = F.normalize(graph.x.dense(), p=1), graph.edge_index, graph.labels
    train, test = torch.arange(140), torch.arange(graph.num_nodes - 1000, graph.num_nodes)

    model = GCN(graph.num_features, hidden_channels=16, num_layers=2, out_channels=graph.num_classes, dropout=0.5)
    optimizer = fgsam.FGSAM(model, torch.optim.Adam, rho=0.1, lr=0.01, weight_decay=5e-4)

    self_loops = torch.arange(len(train)).repeat(2, 1)  # the peer: the same weights, each row alone with itself

    def loss() -> torch.Tensor:
        return F.cross_entropy(model(x, edges)[train], labels[train])

    def peer_loss() -> torch.Tensor:
        return F.cross_entropy(model(x[train], self_loops), labels[train])

    for _ in range(num_epochs):
        model.train()
        optimizer.step(loss, peer_loss)

    model.eval()
    with torch.no_grad():
        right = model(x, edges)[test].argmax(dim=1) == labels[test]
    return float(right.float().mean())


if __name__ == "__main__":
    print(f"test accuracy {main():.3f}")
