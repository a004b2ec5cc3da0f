"""Modules as users write them, most of them with a fault that the package has to find."""

from __future__ import annotations

from torch import Tensor, nn
from torch_geometric.nn import ChebConv, EdgeConv, GCNConv, PairNorm


class OneLayerNet(nn.Module):
    """Has no fault."""

    def __init__(self, in_channels: int, width: int = 8) -> None:
        super().__init__()
        self.conv = GCNConv(in_channels, width)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        out: Tensor = self.conv(x, edge_index)
        return out


class CoupledNet(OneLayerNet):
    """Rows depend on each other through the norm."""

    def __init__(self, in_channels: int) -> None:
        super().__init__(in_channels)
        self.norm = PairNorm()

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        out: Tensor = self.norm(self.conv(x, edge_index))
        return out


class CachedNet(OneLayerNet):
    """Keeps the first graph it sees."""

    def __init__(self, in_channels: int) -> None:
        super().__init__(in_channels)
        self.conv = GCNConv(in_channels, 8, cached=True)


class DifferenceNet(OneLayerNet):
    """Its messages are zero on a self-loop."""

    def __init__(self, in_channels: int) -> None:
        super().__init__(in_channels)
        self.conv = EdgeConv(nn.Linear(2 * in_channels, 8))


class ChebNet(OneLayerNet):
    """Strips self-loops."""

    def __init__(self, in_channels: int) -> None:
        super().__init__(in_channels)
        self.conv = ChebConv(in_channels, 8, K=3)


class WeighedTwiceNet(OneLayerNet):
    """Asks for normalised weights and normalises them again."""

    edges = "sym"

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        out: Tensor = self.conv(x, edge_index, edge_weight)
        return out


class FailingNet(OneLayerNet):
    """Raises an error of its own."""

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        rows: dict[str, Tensor] = {"conv": self.conv(x, edge_index)}
        return rows["convs"]
