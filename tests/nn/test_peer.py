from __future__ import annotations

import pytest
import torch
import torch_geometric.nn as pyg
from torch import Tensor, nn

from fgsam.nn.module import ModuleEncoder
from fgsam.nn.peer import check_peer, peer_report
from fgsam.registry import ENCODERS

F = 8
PNA = {"aggregators": ["mean", "max", "std"], "scalers": ["identity", "amplification"], "deg": torch.tensor([0, 5, 3])}


class WithFirstRows(nn.Module):
    """Layers that also take the rows of the first layer."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.conv(x, x, edge_index)


class WithoutLoopsConv(pyg.SAGEConv):
    """A layer that takes self-loops out before it sends messages."""

    def forward(self, x, edge_index, size=None):
        return super().forward(x, edge_index[:, edge_index[0] != edge_index[1]], size)


class OwnConv(pyg.MessagePassing):
    def __init__(self, *, loops: bool) -> None:
        super().__init__(aggr="mean")
        self.loops = loops
        self.linear = nn.Linear(F, 4)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        keep = edge_index[0] != edge_index[1]
        return self.propagate(edge_index if self.loops else edge_index[:, keep], x=self.linear(x))


def only_layer(module: nn.Module):
    return next(layer for layer in peer_report(module, F).layers if "Conv" in layer.kind or layer.kind == "APPNP")


LAYERS = {
    "gcn": (pyg.GCNConv(F, 4), "defined", ()),
    "gcn improved": (pyg.GCNConv(F, 4, improved=True), "defined", ()),
    "gcn without loops": (pyg.GCNConv(F, 4, add_self_loops=False), "self-loop", ()),
    "gcn without weights": (pyg.GCNConv(F, 4, normalize=False), "self-loop", ()),
    "sg": (pyg.SGConv(F, 4, K=2), "defined", ()),
    "ssg": (pyg.SSGConv(F, 4, alpha=0.1, K=2), "defined", ()),
    "appnp": (pyg.APPNP(3, 0.1), "defined", ()),
    "cluster": (pyg.ClusterGCNConv(F, 4), "defined", ()),
    "gcn2": (WithFirstRows(pyg.GCN2Conv(F, 0.1)), "defined", ()),
    "mixhop": (pyg.MixHopConv(F, 4), "defined", ()),
    "sage": (pyg.SAGEConv(F, 4), "self-loop", ()),
    "sage max": (pyg.SAGEConv(F, 4, aggr="max"), "self-loop", ()),
    "sage without root": (pyg.SAGEConv(F, 4, root_weight=False), "self-loop", ()),
    "gin": (pyg.GINConv(nn.Linear(F, 4), train_eps=True), "self-loop", ()),
    "gat": (pyg.GATConv(F, 4, heads=2), "defined", ("att_dst", "att_src")),
    "gatv2": (pyg.GATv2Conv(F, 4), "defined", ("att", "lin_r.bias", "lin_r.weight")),
    "gatv2 shared": (pyg.GATv2Conv(F, 4, share_weights=True), "defined", ("att",)),
    "supergat": (pyg.SuperGATConv(F, 4), "defined", ("att_l", "att_r")),
    "agnn": (pyg.AGNNConv(), "defined", ("beta",)),
    "transformer": (
        pyg.TransformerConv(F, 4),
        "self-loop",
        ("lin_key.weight", "lin_query.bias", "lin_query.weight"),
    ),
    "graph": (pyg.GraphConv(F, 4), "self-loop", ()),
    "tag": (pyg.TAGConv(F, 4, K=3), "self-loop", ()),
    "arma": (pyg.ARMAConv(F, 4), "self-loop", ()),
    "le": (pyg.LEConv(F, 4), "self-loop", ()),
    "res gated": (pyg.ResGatedGraphConv(F, 4), "self-loop", ()),
    "pna": (pyg.PNAConv(F, 4, **PNA), "self-loop", ()),
    "gen": (pyg.GENConv(F, 4, norm=None), "self-loop", ()),
    "gated": (pyg.GatedGraphConv(F, 2), "self-loop", ()),
    "hypergraph": (pyg.HypergraphConv(F, 4), "self-loop", ()),
    "lg": (pyg.LGConv(), "self-loop", ()),
    "fa": (WithFirstRows(pyg.FAConv(F)), "defined", ()),
    "cheb 1": (pyg.ChebConv(F, 4, K=1), "defined", ()),
    "cheb 3": (pyg.ChebConv(F, 4, K=3), "undefined", ("lins.1.weight",)),
    "cheb 5": (pyg.ChebConv(F, 4, K=5), "undefined", ("lins.1.weight", "lins.3.weight")),
    "edge": (pyg.EdgeConv(nn.Linear(2 * F, 4)), "undefined", ()),
    "own": (OwnConv(loops=True), "measured", ()),
    "own without loops": (OwnConv(loops=False), "undefined", ("linear.bias", "linear.weight")),
    "sage without loops": (WithoutLoopsConv(F, 4), "undefined", ("lin_l.weight",)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_each_layer_has_its_verdict_and_its_dead_parameters(name):
    module, verdict, dead = LAYERS[name]
    layer = only_layer(module)
    assert (layer.verdict, layer.dead) == (verdict, dead)
    assert peer_report(module, F).coupled == ()


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (pyg.GCNConv(F, 4), lambda m, x: x @ m.lin.weight.t() + m.bias),
        (pyg.SGConv(F, 4, K=3), lambda m, x: m.lin(x)),
        (pyg.SSGConv(F, 4, alpha=0.1, K=3), lambda m, x: m.lin(x)),
        (pyg.APPNP(5, 0.1), lambda m, x: x),
        (pyg.SAGEConv(F, 4), lambda m, x: m.lin_l(x) + m.lin_r(x)),
        (pyg.GINConv(nn.Linear(F, 4), eps=0.5), lambda m, x: m.nn(2.5 * x)),
        (pyg.GATConv(F, 4, heads=2), lambda m, x: m.lin(x) + m.bias),
        (pyg.GATv2Conv(F, 4), lambda m, x: m.lin_l(x) + m.bias),
        (pyg.TransformerConv(F, 4), lambda m, x: m.lin_value(x) + m.lin_skip(x)),
        (pyg.GraphConv(F, 4), lambda m, x: m.lin_rel(x) + m.lin_root(x)),
        (pyg.TAGConv(F, 4, K=2, normalize=True), lambda m, x: sum(lin(x) for lin in m.lins) + m.bias),
        (pyg.ChebConv(F, 4, K=5), lambda m, x: m.lins[0](x) - m.lins[2](x) + m.lins[4](x) + m.bias),
        (pyg.LGConv(), lambda m, x: x),
        (pyg.EdgeConv(nn.Linear(2 * F, 4)), lambda m, x: m.nn(torch.cat([x, 0 * x], dim=1))),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_a_layer_computes_on_self_loops(module, expected):
    module = module.double().eval()
    x = torch.randn(5, F, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    loops = torch.arange(5).repeat(2, 1)
    torch.testing.assert_close(module(x, loops), expected(module, x))


@pytest.mark.parametrize("kind", sorted(ENCODERS))
def test_built_in_encoders_have_a_peer(kind):
    report = check_peer(ENCODERS.load(kind)(F), F)
    verdicts = {"h2gcn": "chosen", "mlp": "row-wise"}
    assert [layer.verdict for layer in report.layers] == [verdicts.get(kind, "defined")]
    dead = {"gat": ("from_source.0", "from_source.1", "from_target.0", "from_target.1"), "h2gcn": ("neighbour_weight",)}
    assert report.layers[0].dead == dead.get(kind, ())


def test_the_report_prints_as_a_table():
    lines = str(peer_report(pyg.GAT(F, 8, 2))).splitlines()
    assert " ".join(lines[0].split()) == "layer class verdict no gradient in the peer what to do"
    assert lines[1].startswith("convs.0  GATConv  defined  att_dst, att_src")
    assert "graph's term of the gradient alone" in lines[1]


@pytest.mark.parametrize("seed", [45, *range(10)])
def test_what_is_dead_does_not_depend_on_the_weights(seed):
    # With those of seed 45 no node of the path tells att_dst of the second layer apart from a constant.
    torch.manual_seed(seed)
    report = peer_report(pyg.GAT(F, 16, num_layers=2, out_channels=4))
    assert [layer.dead for layer in report.layers] == [("att_dst", "att_src")] * 2


def test_a_module_that_needs_the_signs_of_its_weights_is_reported():
    class Roots(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.scale = pyg.GCNConv(F, 4), nn.Parameter(torch.full((4,), 2.0))

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.conv(x, edge_index) * self.scale.sqrt()

    report = peer_report(Roots(), F)
    assert report.is_defined
    assert report.layers[0].dead == ()


def test_a_wrapped_module_is_reported_by_its_layers_and_knows_its_width():
    report = peer_report(ModuleEncoder(pyg.GIN(F, 8, 2), F))
    assert [layer.name for layer in report.layers] == ["module.convs.0", "module.convs.1"]


def test_an_undefined_peer_is_refused_with_its_layer_and_the_way_out():
    class TwoLayers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = pyg.GCNConv(F, 8)
            self.second = pyg.ChebConv(8, 4, K=3)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.second(self.first(x, edge_index).relu(), edge_index)

    with pytest.raises(ValueError, match=r"'second', a ChebConv.*TAGConv or GCNConv.*needs no peer: adam, sam"):
        check_peer(TwoLayers(), F)


def test_layers_that_find_their_own_neighbours_are_refused_without_running_them():
    class OwnNeighbours(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = pyg.EdgeConv(nn.Linear(2 * F, 4))
            self.conv.__class__ = type("DynamicEdgeConv", (pyg.EdgeConv,), {"__module__": "torch_geometric.nn.conv"})

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            raise AssertionError("not to be run")

    with pytest.raises(ValueError, match="finds neighbours by itself"):
        check_peer(OwnNeighbours(), F)


def test_batch_norm_couples_peer_rows():
    module = pyg.GCN(F, 8, 2, norm="BatchNorm")
    report = peer_report(module)
    assert report.coupled == ("norms.0.module (BatchNorm1d)",)
    assert [layer.verdict for layer in report.layers] == ["defined", "defined", "row-coupled"]
    assert not report.is_defined
    with pytest.raises(ValueError, match=r"do not depend on each other \(got norms.0.module"):
        check_peer(module)
    assert check_peer(module, allow_inexact=True) == report
    assert check_peer(ModuleEncoder(module, F, allow_inexact=True)).coupled


def test_cached_layers_break_the_peer():
    with pytest.raises(ValueError, match=r"cached=True in 'convs.0'"):
        check_peer(pyg.GCN(F, 8, 2, cached=True))


def test_something_else_than_a_module_is_an_error():
    with pytest.raises(TypeError, match=r"'module' to be a torch\.nn\.Module \(got str\)"):
        peer_report("gcn", F)  # type: ignore[arg-type]


def test_the_width_has_to_be_known():
    with pytest.raises(ValueError, match=r"'num_features' for APPNP \(got None\)"):
        peer_report(pyg.APPNP(3, 0.1))


def test_a_parameter_that_is_never_used_is_not_called_dead():
    class Unused(pyg.GCN):
        def __init__(self) -> None:
            super().__init__(F, 8, 1)
            self.extra = nn.Linear(3, 3)

    assert all(layer.dead == () for layer in peer_report(Unused(), F).layers)


def test_nothing_of_the_module_or_of_the_global_random_state_changes():
    module = pyg.GAT(F, 8, 2, dropout=0.5, norm="BatchNorm")
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = torch.get_rng_state()
    peer_report(module)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert not any(getattr(part, "_message_forward_hooks", None) for part in module.modules())
