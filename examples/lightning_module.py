"""FGSAM+ in a Lightning module, on mini-batches of fields.

A rule with a peer takes two closures, and FGSAM+ leaves one of them out in some steps. Lightning's automatic
optimization knows a single one and insists on its call: so the module steps by itself. Rules with one closure, such as
``fgsam.SAM``, need nothing of this: return the optimizer from ``configure_optimizers``, and the loss from
``training_step``. ``manual_backward`` is what reduces gradients among several processes.
"""

from __future__ import annotations

import lightning
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torch_geometric.nn import GraphSAGE

import fgsam


class Net(lightning.LightningModule):
    """GraphSAGE on the fields of labelled nodes."""

    def __init__(self, graph: fgsam.Graph) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.graph = graph
        self.net = GraphSAGE(graph.num_features, hidden_channels=32, num_layers=2, out_channels=graph.num_classes)

    def loss(self, nodes: torch.Tensor, num_hops: int) -> torch.Tensor:
        """Run forward and backward on a field; the one of zero hops makes the net its own peer."""
        field = self.graph.field(nodes, num_hops)
        loss = F.cross_entropy(self.net(field.dense_x(), field.edge_index)[: len(nodes)], self.graph.labels[nodes])
        self.manual_backward(loss)
        return loss

    def training_step(self, nodes: torch.Tensor, batch_idx: int) -> None:
        """Step once; the scheduler reaches the base optimizer."""
        loss = self.optimizers().step(lambda: self.loss(nodes, 2), peer_closure=lambda: self.loss(nodes, 0))
        self.lr_schedulers().step()
        self.log("loss", loss, batch_size=len(nodes))

    def configure_optimizers(self) -> tuple[list[torch.optim.Optimizer], list[torch.optim.lr_scheduler.LRScheduler]]:
        """Make the optimizer and its scheduler as for any PyTorch optimizer."""
        optimizer = fgsam.FGSAMPlus(self.net, torch.optim.Adam, rho=0.05, lr=0.02)
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.99)]


def main() -> float:
    """Train for three epochs, and return the loss of the last batch."""
    torch.manual_seed(0)
    graph = fgsam.load_graph("synthetic", num_nodes=1000, num_features=300, num_classes=5, words_per_node=20)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(max_epochs=3, accelerator="cpu", enable_model_summary=False, **quiet)
    trainer.fit(Net(graph), DataLoader(torch.arange(graph.num_nodes), batch_size=50, shuffle=True))
    return float(trainer.callback_metrics["loss"])


if __name__ == "__main__":
    print(f"loss of the last batch {main():.3f}")
