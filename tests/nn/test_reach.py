from __future__ import annotations

import copy

import pytest
import torch
import torch_geometric.nn as pyg
from torch import Tensor, nn

from fgsam.nn.reach import reach

NUM_FEATURES = 8


class WithGlobalMean(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = pyg.GCNConv(NUM_FEATURES, NUM_FEATURES)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.conv(x, edge_index) + x.mean(dim=0)


class Then(nn.Module):
    """A convolution followed by something that works on rows alone."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.conv = pyg.GCNConv(NUM_FEATURES, NUM_FEATURES)
        self.norm = norm

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.norm(self.conv(x, edge_index))


class SwallowsNan(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = pyg.GCNConv(NUM_FEATURES, NUM_FEATURES)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.conv(x, edge_index).nan_to_num()


@pytest.mark.parametrize(
    ("module", "hops"),
    [
        (pyg.GCN(NUM_FEATURES, 16, 3), 3),
        (pyg.GraphSAGE(NUM_FEATURES, 16, 2), 2),
        (pyg.GAT(NUM_FEATURES, 16, 2, heads=2, dropout=0.6), 2),
        (pyg.GIN(NUM_FEATURES, 16, 4), 4),
        (pyg.SGConv(NUM_FEATURES, 4, K=3), 3),
        (pyg.APPNP(10, 0.1, dropout=0.5), 10),
        (pyg.GCN(NUM_FEATURES, 8, 20), 20),
        (pyg.DirGNNConv(pyg.SAGEConv(NUM_FEATURES, 4)), 1),
        (pyg.GCN(NUM_FEATURES, 16, 2, norm=pyg.LayerNorm(16, mode="node"), jk="cat"), 2),
        (SwallowsNan(), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else str(value),
)
def test_reach_is_the_number_of_hops_a_module_reads(module, hops):
    measured = reach(module, NUM_FEATURES)
    assert measured.num_hops == hops
    assert not measured.is_row_coupled
    assert measured.culprits == ()


@pytest.mark.parametrize(
    ("module", "culprits"),
    [
        (
            pyg.GCN(NUM_FEATURES, 16, 3, norm="BatchNorm"),
            ("norms.0.module (BatchNorm1d)", "norms.1.module (BatchNorm1d)"),
        ),
        (pyg.GCN(NUM_FEATURES, 16, 3, norm="PairNorm"), ("norms.0 (PairNorm)", "norms.1 (PairNorm)")),
        (pyg.GCN(NUM_FEATURES, 16, 3, norm="GraphNorm"), ("norms.0 (GraphNorm)", "norms.1 (GraphNorm)")),
        (pyg.GCN(NUM_FEATURES, 16, 3, norm="LayerNorm"), ("norms.0 (LayerNorm)", "norms.1 (LayerNorm)")),
        (pyg.GCN(NUM_FEATURES, 16, 3, norm="InstanceNorm"), ("norms.0 (InstanceNorm)", "norms.1 (InstanceNorm)")),
    ],
    ids=["batch", "pair", "graph", "layer", "instance"],
)
def test_row_coupled_layers_are_named_and_reach_is_measured_past_them(module, culprits):
    measured = reach(module, NUM_FEATURES)
    assert measured.is_row_coupled
    assert measured.culprits == culprits
    assert measured.num_hops == 3


def test_reading_the_number_of_rows_counts_as_coupling():
    assert reach(Then(pyg.GraphSizeNorm()), NUM_FEATURES).culprits == ("norm (GraphSizeNorm)",)


def test_coupling_inside_the_module_itself_names_its_class_and_leaves_hops_unknown():
    measured = reach(WithGlobalMean(), NUM_FEATURES)
    assert measured.culprits == ("WithGlobalMean",)
    assert measured.num_hops is None
    assert str(measured) == "hops: unknown; row-coupled: WithGlobalMean"


def test_layer_norm_on_rows_is_not_coupled():
    assert not reach(Then(nn.LayerNorm(NUM_FEATURES)), NUM_FEATURES).is_row_coupled


def test_nothing_of_the_module_or_of_the_global_random_state_changes():
    module = pyg.GCN(NUM_FEATURES, 16, 2, norm="BatchNorm", dropout=0.5)
    before = copy.deepcopy(module.state_dict())
    state = torch.get_rng_state()
    reach(module, NUM_FEATURES)
    assert torch.equal(state, torch.get_rng_state())
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not any(part._forward_hooks for part in module.modules())


def test_lazy_channels_stay_lazy():
    module = pyg.SAGEConv(-1, 4)
    assert reach(module, NUM_FEATURES).num_hops == 1
    assert isinstance(module.lin_l.weight, nn.parameter.UninitializedParameter)


def test_longest_reach_is_bounded():
    with pytest.raises(ValueError, match=r"at most max_hops=8 hops \(got more in GCN\)"):
        reach(pyg.GCN(NUM_FEATURES, 4, 10), NUM_FEATURES, max_hops=8)
    assert reach(pyg.GCN(NUM_FEATURES, 4, 8), NUM_FEATURES, max_hops=8).num_hops == 8


def test_cached_layers_are_refused():
    with pytest.raises(ValueError, match=r"cached=True in 'convs.0' \(GCNConv\)"):
        reach(pyg.GCN(NUM_FEATURES, 4, 1, cached=True), NUM_FEATURES)


def test_one_row_a_graph_is_refused():
    class Pools(WithGlobalMean):
        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.conv(x, edge_index).sum(dim=0, keepdim=True)

    with pytest.raises(ValueError, match=r"one row for each node.*no pooling"):
        reach(Pools(), NUM_FEATURES)


def test_rows_that_are_not_finite_are_refused():
    module = pyg.GCNConv(NUM_FEATURES, 4)
    nn.init.constant_(module.lin.weight, float("inf"))
    with pytest.raises(ValueError, match="finite rows"):
        reach(module, NUM_FEATURES)


def test_other_arguments_need_a_function_that_calls_the_module():
    module = nn.Linear(NUM_FEATURES, 4)
    with pytest.raises(TypeError, match=r"forward of Linear to be forward\(x, edge_index"):
        reach(module, NUM_FEATURES)
    measured = reach(module, NUM_FEATURES, forward=lambda layer, field: layer(field.dense_x())[: field.num_targets])
    assert measured.num_hops == 0
