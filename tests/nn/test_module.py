from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch_geometric.nn as pyg
from torch import Tensor, nn

from fgsam.graph.field import Field
from fgsam.graph.graph import Graph
from fgsam.nn.encoders import field_of
from fgsam.nn.gcn import GCN
from fgsam.nn.module import ModuleEncoder, check_field_equals_full, wrap

NUM_FEATURES = 6


def random_graph(num_nodes: int = 60, num_edges: int = 120, *, is_weighted: bool = False, **options) -> Graph:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(num_nodes, NUM_FEATURES)) * (rng.random((num_nodes, NUM_FEATURES)) < options.pop("density", 1))
    edges = rng.integers(0, num_nodes, (2, num_edges))
    weight = rng.random(num_edges) + 0.5 if is_weighted else None
    labels = rng.integers(0, 3, num_nodes)
    return Graph.from_arrays(x, edges, labels, directed=True, edge_weight=weight, **options)


class OnField(nn.Module):
    """Takes a field and uses what a plain forward has no room for."""

    edges = "row"
    boundary = "narrow"

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(NUM_FEATURES + 1, 4)

    def forward(self, field: Field) -> Tensor:
        rows = torch.cat([field.dense_x(), field.degree.unsqueeze(1).to(field.dense_x())], dim=1)
        return field.propagate(self.linear(rows), 0)


def with_edges(module: nn.Module, edges: str) -> nn.Module:
    module.edges = edges
    return module


def test_an_encoder_is_left_as_it_is_and_a_module_is_wrapped():
    encoder = GCN(NUM_FEATURES)
    assert wrap(encoder, NUM_FEATURES) is encoder
    wrapped = wrap(pyg.GCNConv(NUM_FEATURES, 4), NUM_FEATURES)
    assert isinstance(wrapped, ModuleEncoder)
    assert wrap(wrapped, NUM_FEATURES) is wrapped


def test_defaults_are_raw_edges_on_the_closed_field_of_the_measured_reach():
    encoder = ModuleEncoder(pyg.GraphSAGE(NUM_FEATURES, 8, 3, out_channels=5), NUM_FEATURES)
    declared = (encoder.edges, encoder.boundary, encoder.num_hops, encoder.dim, encoder.folds_first_hop)
    assert declared == ("raw", "closed", 3, 5, False)
    assert encoder.inexact == ()


def test_what_a_module_declares_is_taken():
    module = with_edges(pyg.GCN(NUM_FEATURES, 4, 2, normalize=False), "sym")
    module.boundary = "narrow"
    module.num_hops = 2
    encoder = ModuleEncoder(module, NUM_FEATURES)
    assert (encoder.edges, encoder.boundary, encoder.num_hops) == ("sym", "narrow", 2)


def test_wrong_declarations_list_the_choices():
    with pytest.raises(ValueError, match="'edges' to be one of raw, row, sym"):
        ModuleEncoder(with_edges(pyg.GCNConv(NUM_FEATURES, 4), "mean"), NUM_FEATURES)


def test_rows_of_the_targets_come_back_in_their_order():
    graph = random_graph()
    encoder = ModuleEncoder(pyg.GCN(NUM_FEATURES, 8, 2, out_channels=4).double().eval(), NUM_FEATURES)
    nodes = torch.tensor([7, 3, 50])
    rows = encoder(field_of(encoder, graph, nodes))
    full = encoder.module(torch.as_tensor(graph.x), graph.edge_index)
    torch.testing.assert_close(rows, full[nodes])


def test_a_module_that_takes_a_field_gets_one():
    graph = random_graph().to(dtype=torch.float32)
    encoder = ModuleEncoder(OnField(), NUM_FEATURES)
    assert (encoder.num_hops, encoder.dim) == (1, 4)
    assert check_field_equals_full(encoder, graph, generator=np.random.default_rng(0)).error < 1e-5


def test_a_module_with_other_arguments_is_called_by_a_function():
    def forward(module: nn.Module, field: Field) -> Tensor:
        shape = (field.edge_index.size(1), 2)
        return module(field.dense_x(), field.edge_index, edge_attr=field.dense_x().new_ones(shape))[: field.num_targets]

    module = pyg.TransformerConv(NUM_FEATURES, 4, edge_dim=2)
    encoder = wrap(module, NUM_FEATURES, forward=forward)
    assert encoder.num_hops == 1
    assert encoder(field_of(encoder, random_graph().to(dtype=torch.float32), [4, 5])).shape == (2, 4)


def test_sparse_features_become_dense_for_the_rows_of_the_field_only():
    graph = random_graph(density=0.1).to(dtype=torch.float32)
    assert not isinstance(graph.x, Tensor)
    encoder = ModuleEncoder(pyg.SAGEConv(NUM_FEATURES, 4), NUM_FEATURES)
    assert check_field_equals_full(encoder, graph, generator=np.random.default_rng(0)).error < 1e-5


@pytest.mark.parametrize("norm", ["BatchNorm", "PairNorm", "GraphNorm", "LayerNorm"])
def test_row_coupled_layers_are_an_error_unless_allowed(norm):
    with pytest.raises(ValueError, match=r"unrelated ones through norms.0.*mode='node'.*allow_inexact=True"):
        ModuleEncoder(pyg.GCN(NUM_FEATURES, 8, 2, norm=norm), NUM_FEATURES)
    encoder = ModuleEncoder(pyg.GCN(NUM_FEATURES, 8, 2, norm=norm), NUM_FEATURES, allow_inexact=True)
    assert "norms.0" in encoder.inexact[0]
    assert encoder.num_hops == 2


def test_unmeasurable_reach_has_to_be_given():
    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = pyg.GCNConv(NUM_FEATURES, NUM_FEATURES)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.conv(x, edge_index) + x.mean(dim=0)

    with pytest.raises(ValueError, match=r"Expected 'num_hops'.*past Mean"):
        ModuleEncoder(Mean(), NUM_FEATURES, allow_inexact=True)
    assert ModuleEncoder(Mean(), NUM_FEATURES, num_hops=1, allow_inexact=True).num_hops == 1


def test_too_few_hops_are_an_error():
    with pytest.raises(ValueError, match="num_hops=1 is less than the measured 3"):
        ModuleEncoder(pyg.GCN(NUM_FEATURES, 8, 3), NUM_FEATURES, num_hops=1)


def test_cached_layers_are_refused_even_when_inexact_is_allowed():
    with pytest.raises(ValueError, match="cached=False: each field has edges of its own"):
        ModuleEncoder(pyg.SGConv(NUM_FEATURES, 4, cached=True), NUM_FEATURES, allow_inexact=True)


@pytest.mark.parametrize(
    ("module", "layer"),
    [
        (pyg.GraphSAGE(NUM_FEATURES, 8, 2), "convs.0 (SAGEConv)"),
        (pyg.GAT(NUM_FEATURES, 8, 2), "convs.0 (GATConv)"),
        (pyg.GIN(NUM_FEATURES, 8, 2), "convs.0 (GINConv)"),
        (pyg.SAGEConv(NUM_FEATURES, 8), "SAGEConv"),
    ],
    ids=["sage", "gat", "gin", "layer"],
)
@pytest.mark.parametrize("edges", ["row", "sym"])
def test_layers_that_drop_declared_weights_are_an_error(module, layer, edges):
    with pytest.raises(ValueError, match=r"which drops them\)\. Declare edges='raw'") as error:
        ModuleEncoder(with_edges(copy.deepcopy(module), edges), NUM_FEATURES)
    assert f"(got {layer}" in str(error.value)


@pytest.mark.parametrize(
    "module",
    [
        pyg.GCN(NUM_FEATURES, 8, 2),
        pyg.GCNConv(NUM_FEATURES, 8),
        pyg.SGConv(NUM_FEATURES, 8),
        pyg.APPNP(3, 0.1),
        pyg.TAGConv(NUM_FEATURES, 8),
        pyg.LGConv(),
    ],
    ids=lambda module: type(module).__name__,
)
@pytest.mark.parametrize("edges", ["row", "sym"])
def test_layers_that_normalise_a_second_time_are_an_error(module, edges):
    with pytest.raises(ValueError, match=r"normalises them a second time.*normalize=False"):
        ModuleEncoder(with_edges(copy.deepcopy(module), edges), NUM_FEATURES)


@pytest.mark.parametrize(
    "module",
    [
        pyg.GCN(NUM_FEATURES, 8, 2, normalize=False),
        pyg.APPNP(3, 0.1, normalize=False),
        pyg.GraphConv(NUM_FEATURES, 8),
        pyg.TAGConv(NUM_FEATURES, 8, normalize=False),
    ],
    ids=lambda module: type(module).__name__,
)
def test_layers_that_use_declared_weights_are_exact_on_the_narrow_field(module):
    module = with_edges(copy.deepcopy(module).double(), "sym")
    module.boundary = "narrow"
    encoder = ModuleEncoder(module, NUM_FEATURES)
    assert check_field_equals_full(encoder, random_graph(), generator=np.random.default_rng(0)).error < 1e-12


def test_a_graph_with_weights_needs_a_module_that_takes_them():
    graph = random_graph(is_weighted=True)
    dropping = ModuleEncoder(pyg.GraphSAGE(NUM_FEATURES, 8, 2).double(), NUM_FEATURES)
    with pytest.raises(ValueError, match="takes edge weights"):
        field_of(dropping, graph, [0, 1])
    with pytest.raises(ValueError, match="drop"):
        dropping(graph.field([0, 1], 2, boundary="closed"))
    taking = ModuleEncoder(pyg.GCN(NUM_FEATURES, 8, 2).double(), NUM_FEATURES)
    assert check_field_equals_full(taking, graph, generator=np.random.default_rng(0)).error < 1e-12


def test_features_of_another_width_are_an_error():
    encoder = ModuleEncoder(pyg.GCNConv(5, 4), 5)
    with pytest.raises(ValueError, match=r"width num_features=5 \(got 6\)"):
        encoder(random_graph().field([0], 1))


def test_a_wrong_number_of_rows_or_width_is_an_error():
    class Shrinks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = pyg.GCNConv(NUM_FEATURES, 4)
            self.shrink = False

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            rows = self.conv(x, edge_index)
            return rows[:, :2] if self.shrink else rows

    encoder = ModuleEncoder(Shrinks().double(), NUM_FEATURES)
    encoder.module.shrink = True
    with pytest.raises(ValueError, match=r"node rows of shape \[\d+, 4\]"):
        encoder(field_of(encoder, random_graph(), [0]))


class AllRows(nn.Module):
    """Returns the rows of the whole field where the targets are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(NUM_FEATURES, 3)

    def forward(self, field: Field) -> Tensor:
        rows: Tensor = self.lin(field.dense_x())
        return rows


def test_rows_of_all_nodes_for_a_field_are_an_error_with_the_way_out():
    encoder = wrap(AllRows().double(), NUM_FEATURES)
    with pytest.raises(ValueError, match=r"AllRows to return target rows .*return rows\[: field\.num_targets\]"):
        encoder(field_of(encoder, random_graph(), torch.arange(4)))


def test_a_tuple_is_an_error():
    class Tuple(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = pyg.GCNConv(NUM_FEATURES, 4)

        def forward(self, x: Tensor, edge_index: Tensor) -> tuple[Tensor, Tensor]:
            return self.conv(x, edge_index), x

    with pytest.raises(ValueError, match=r"got tuple.*no tuples"):
        ModuleEncoder(Tuple(), NUM_FEATURES)


def test_something_else_than_a_module_is_an_error():
    with pytest.raises(TypeError, match=r"torch.nn.Module \(got str\)"):
        ModuleEncoder("gcn", NUM_FEATURES)


def test_lazy_channels_are_set_and_buffers_and_modes_stay():
    module = pyg.GraphSAGE(-1, 8, 2, norm="BatchNorm").train()
    module.norms[0].eval()
    encoder = ModuleEncoder(module, NUM_FEATURES, allow_inexact=True)
    assert encoder.module.convs[0].lin_l.weight.shape == (8, NUM_FEATURES)
    assert module.training
    assert not module.norms[0].training
    assert module.norms[0].module.num_batches_tracked == 0


def test_wrapping_leaves_the_global_random_state_and_the_weights_alone():
    module = pyg.GAT(NUM_FEATURES, 8, 2)
    before, state = copy.deepcopy(module.state_dict()), torch.get_rng_state()
    ModuleEncoder(module, NUM_FEATURES)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_narrow_field_under_a_layer_that_counts_degrees_is_caught():
    module = pyg.GCN(NUM_FEATURES, 8, 2).double()
    module.boundary = "narrow"
    encoder = ModuleEncoder(module, NUM_FEATURES)
    with pytest.raises(ValueError, match=r"same rows on a field as by a full pass.*boundary='closed'"):
        check_field_equals_full(encoder, random_graph(600, 900), generator=np.random.default_rng(0))
    allowed = ModuleEncoder(module, NUM_FEATURES, allow_inexact=True)
    assert check_field_equals_full(allowed, random_graph(600, 900), generator=np.random.default_rng(0)).error > 1e-3


def test_a_graph_too_large_for_dense_features_is_compared_with_a_wider_field():
    graph = random_graph(600, 500, memory_mb=40 * NUM_FEATURES * 8 / 2**20)
    encoder = ModuleEncoder(pyg.GCN(NUM_FEATURES, 8, 2).double(), NUM_FEATURES)
    checked = check_field_equals_full(encoder, graph, generator=np.random.default_rng(0))
    assert checked.reference == "closed field of 3 hops"
    assert 1 <= checked.num_targets < 64
    assert checked.error < 1e-12


def test_the_check_leaves_mode_and_random_state_alone():
    encoder = ModuleEncoder(pyg.GCN(NUM_FEATURES, 8, 2, dropout=0.5).double(), NUM_FEATURES).train()
    state = torch.get_rng_state()
    checked = check_field_equals_full(encoder, random_graph(), generator=np.random.default_rng(0))
    assert checked.error < 1e-12
    assert checked.num_targets == 60
    assert encoder.training
    assert torch.equal(state, torch.get_rng_state())


class WithFirstRows(nn.Module):
    """Layers that also take the rows of the first layer."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.conv(x, x, edge_index)


OWN_IN_EDGES = {
    "sage": lambda: pyg.SAGEConv(NUM_FEATURES, 4),
    "gat": lambda: pyg.GATConv(NUM_FEATURES, 4),
    "gatv2": lambda: pyg.GATv2Conv(NUM_FEATURES, 4),
    "gin": lambda: pyg.GINConv(nn.Linear(NUM_FEATURES, 4)),
    "graph": lambda: pyg.GraphConv(NUM_FEATURES, 4),
    "transformer": lambda: pyg.TransformerConv(NUM_FEATURES, 4),
    "pna": lambda: pyg.PNAConv(NUM_FEATURES, 4, ["mean", "std"], ["amplification"], deg=torch.tensor([3, 5, 2])),
    "gcn without weights": lambda: pyg.GCNConv(NUM_FEATURES, 4, normalize=False),
}
DEGREES_OF_OTHERS = {
    "gcn": lambda: pyg.GCNConv(NUM_FEATURES, 4),
    "sg": lambda: pyg.SGConv(NUM_FEATURES, 4, K=2),
    "appnp": lambda: pyg.APPNP(3, 0.1),
    "gcn2": lambda: WithFirstRows(pyg.GCN2Conv(NUM_FEATURES, 0.1)),
    "tag": lambda: pyg.TAGConv(NUM_FEATURES, 4, K=2),
    "cheb": lambda: pyg.ChebConv(NUM_FEATURES, 4, K=3),
    "fa": lambda: WithFirstRows(pyg.FAConv(NUM_FEATURES)),
    "both directions": lambda: pyg.DirGNNConv(pyg.SAGEConv(NUM_FEATURES, 4)),
}


def error_on(make, boundary: str) -> float:
    module = make().double()
    module.boundary = boundary
    encoder = ModuleEncoder(module, NUM_FEATURES, allow_inexact=True)
    return check_field_equals_full(encoder, random_graph(600, 1200), generator=np.random.default_rng(0)).error


@pytest.mark.parametrize("name", [*OWN_IN_EDGES, *DEGREES_OF_OTHERS])
def test_the_closed_field_is_exact_for_every_layer(name):
    assert error_on({**OWN_IN_EDGES, **DEGREES_OF_OTHERS}[name], "closed") < 1e-12


@pytest.mark.parametrize("name", OWN_IN_EDGES)
def test_the_narrow_field_is_exact_for_layers_that_look_at_their_own_in_edges(name):
    assert error_on(OWN_IN_EDGES[name], "narrow") < 1e-12


@pytest.mark.parametrize("name", DEGREES_OF_OTHERS)
def test_the_narrow_field_is_not_enough_for_layers_that_look_further(name):
    assert error_on(DEGREES_OF_OTHERS[name], "narrow") > 1e-4


def test_a_module_that_takes_the_features_of_edges_gets_them_by_a_function():
    rng = np.random.default_rng(0)
    edges, features = torch.from_numpy(rng.integers(0, 30, (2, 120))), torch.from_numpy(rng.standard_normal((120, 3)))
    graph = Graph.from_arrays(rng.standard_normal((30, 4)), edges, [0] * 30, directed=True)
    module = pyg.GINEConv(nn.Linear(4, 5), edge_dim=3).double()

    def forward(module, field):
        return module(field.dense_x(), field.edge_index, field.of_edges(features))[: field.num_targets]

    encoder = wrap(module, 4, forward=forward)
    assert encoder.num_hops == 1
    torch.testing.assert_close(encoder(field_of(encoder, graph, [3, 4])), module(graph.x, edges, features)[[3, 4]])
