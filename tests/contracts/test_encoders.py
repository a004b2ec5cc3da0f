"""Promises that every registered encoder keeps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fgsam.graph.field import Field
from fgsam.graph.graph import Graph
from fgsam.nn.encoders import Encoder, field_of
from fgsam.nn.layers import Dropout
from fgsam.nn.peer import check_peer
from fgsam.nn.reach import reach
from fgsam.registry import ENCODERS

NUM_NODES, NUM_FEATURES, DIM = 24, 6, 5
TARGETS = [17, 3, 23, 8]  # 23 has no edges

pytestmark = pytest.mark.parametrize("name", sorted(ENCODERS))


def build(name: str) -> Encoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        encoder = ENCODERS.load(name)(NUM_FEATURES, dim=DIM).double().eval()
        for parameter in encoder.parameters():  # zero biases would hide a mistake
            nn.init.normal_(parameter, std=0.5)
    return encoder


def arrays(seed: int = 0, density: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, edges with two self-loops and two isolated nodes at the end, labels."""
    rng = np.random.default_rng(seed)
    edges = np.concatenate([rng.integers(0, NUM_NODES - 2, (2, 40)), [[3, 9], [3, 9]]], axis=1)
    x = rng.normal(size=(NUM_NODES, NUM_FEATURES)) * (rng.random((NUM_NODES, NUM_FEATURES)) < density)
    return x, np.unique(edges, axis=1), rng.integers(0, 3, NUM_NODES)


def tiny_graph(*, directed: bool = True, seed: int = 0, density: float = 1.0) -> Graph:
    return Graph.from_arrays(*arrays(seed, density), directed=directed)


def everything(encoder: Encoder, graph: Graph) -> Field:
    return graph.field(torch.arange(graph.num_nodes), encoder.num_hops, edges=encoder.edges, boundary="closed")


def gradient(encoder: Encoder, rows: Tensor, *, create_graph: bool = False) -> Tensor:
    """The gradient of a random loss as one vector; parameters that do not enter count as zero."""
    noise = torch.randn(rows.shape, generator=torch.Generator().manual_seed(2), dtype=rows.dtype)
    loss = (rows * noise).sum() + 0.1 * rows.square().sum()
    parameters = list(encoder.parameters())
    parts = torch.autograd.grad(loss, parameters, allow_unused=True, create_graph=create_graph)
    return torch.cat([(p * 0 if g is None else g).flatten() for p, g in zip(parameters, parts, strict=True)])


def test_one_row_of_the_declared_width_for_each_target(name):
    encoder, graph = build(name), tiny_graph()
    assert encoder(field_of(encoder, graph, TARGETS)).shape == (len(TARGETS), DIM)
    assert encoder(field_of(encoder, graph, TARGETS, peer=True)).shape == (len(TARGETS), DIM)


def test_declared_reach_is_the_measured_one_and_rows_are_independent(name):
    encoder = build(name)
    measured = reach(encoder, NUM_FEATURES)
    assert measured.num_hops == encoder.num_hops
    assert not measured.is_row_coupled


@pytest.mark.parametrize("directed", [True, False], ids=["directed", "undirected"])
@pytest.mark.parametrize("seed", range(3))
def test_field_equals_full_pass(name, directed, seed):
    encoder, graph = build(name), tiny_graph(directed=directed, seed=seed)
    full = encoder(everything(encoder, graph))[TARGETS]
    full_gradient = gradient(encoder, full)
    for boundary in ("narrow", "closed"):
        rows = encoder(graph.field(TARGETS, encoder.num_hops, edges=encoder.edges, boundary=boundary))
        torch.testing.assert_close(rows, full, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradient(encoder, rows), full_gradient, rtol=1e-10, atol=1e-10)


def test_numbering_of_the_nodes_does_not_matter(name):
    encoder, graph = build(name), tiny_graph()
    x, edges, labels = arrays()
    order = np.random.default_rng(1).permutation(NUM_NODES)
    place = np.argsort(order)
    renumbered = Graph.from_arrays(x[order], place[edges], labels[order], directed=True)
    rows = encoder(field_of(encoder, graph, TARGETS))
    again = encoder(field_of(encoder, renumbered, place[TARGETS]))
    torch.testing.assert_close(again, rows, rtol=1e-12, atol=1e-12)


def test_order_of_the_targets_is_the_order_of_the_rows(name):
    encoder, graph = build(name), tiny_graph()
    rows = encoder(field_of(encoder, graph, TARGETS))
    again = encoder(field_of(encoder, graph, TARGETS[::-1]))
    torch.testing.assert_close(again.flip(0), rows, rtol=1e-12, atol=1e-12)


def test_first_targets_of_a_field_have_the_rows_of_their_own_field(name):
    encoder, graph = build(name), tiny_graph()
    field = field_of(encoder, graph, TARGETS)
    rows = encoder(field)
    torch.testing.assert_close(encoder(field.head(2)), rows[:2], rtol=1e-12, atol=1e-12)


def test_peer_is_the_same_encoder_on_a_graph_of_self_loops(name):
    encoder, graph = build(name), tiny_graph()
    loops = np.arange(NUM_NODES)[None].repeat(2, axis=0)
    alone = Graph.from_arrays(graph.x, loops, graph.labels, directed=True)
    rows = encoder(field_of(encoder, graph, TARGETS, peer=True))
    wanted = encoder(field_of(encoder, alone, TARGETS))
    torch.testing.assert_close(rows, wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient(encoder, rows), gradient(encoder, wanted), rtol=1e-10, atol=1e-10)


def test_peer_is_well_defined(name):
    assert check_peer(build(name), NUM_FEATURES).is_defined


def test_rows_outside_of_the_field_are_never_read(name):
    encoder, graph = build(name), tiny_graph()
    for hops in (0, encoder.num_hops):  # without kept products, which read the rows of more nodes beforehand
        field = graph.field(TARGETS[:2], hops, edges=encoder.edges, boundary=encoder.boundary)
        x = torch.full_like(graph.x, torch.nan)
        x[field.node_ids] = graph.x[field.node_ids]
        poisoned = Graph(x, graph.labels, graph.adjacency, is_weighted=False, is_directed=graph.is_directed)
        again = poisoned.field(TARGETS[:2], hops, edges=encoder.edges, boundary=encoder.boundary)
        assert field.num_nodes < graph.num_nodes
        assert torch.equal(encoder(again), encoder(field))


@pytest.mark.parametrize("density", [1.0, 0.1], ids=["dense", "sparse"])
def test_keeping_the_first_product_changes_nothing(name, density):
    encoder, graph = build(name), tiny_graph(density=density)
    graph._derived["keeps", encoder.edges] = True  # whatever the estimate of its cost says
    kept = graph.field(TARGETS, encoder.num_hops, edges=encoder.edges, kept=encoder.folds_first_hop)
    plain = graph.field(TARGETS, encoder.num_hops, edges=encoder.edges, kept=False)
    assert (kept.num_nodes < plain.num_nodes) is encoder.folds_first_hop
    rows, wanted = encoder(kept), encoder(plain)
    torch.testing.assert_close(rows, wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient(encoder, rows), gradient(encoder, wanted), rtol=1e-10, atol=1e-10)


def test_storing_features_sparse_changes_nothing(name):
    encoder, sparse = build(name), tiny_graph(density=0.1)
    assert not isinstance(sparse.x, Tensor)
    dense = Graph(sparse.x.dense(), sparse.labels, sparse.adjacency, is_weighted=False, is_directed=True)
    rows, wanted = (encoder(field_of(encoder, graph, TARGETS)) for graph in (sparse, dense))
    torch.testing.assert_close(rows, wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient(encoder, rows), gradient(encoder, wanted), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("peer", [False, True], ids=["field", "peer"])
def test_second_derivative_is_the_slope_of_the_gradient(name, peer):
    encoder = build(name)
    field = field_of(encoder, tiny_graph(), TARGETS, peer=peer)
    direction = torch.randn(
        gradient(encoder, encoder(field)).shape, generator=torch.Generator().manual_seed(3)
    ).double()
    first = gradient(encoder, encoder(field), create_graph=True)
    parameters = list(encoder.parameters())
    parts = torch.autograd.grad(first @ direction, parameters, allow_unused=True)
    second = torch.cat([(p * 0 if g is None else g).flatten() for p, g in zip(parameters, parts, strict=True)]).detach()
    step = 1e-6
    start = nn.utils.parameters_to_vector(parameters).detach()
    slopes = []
    for sign in (1, -1):
        nn.utils.vector_to_parameters(start + sign * step * direction, parameters)
        slopes.append(gradient(encoder, encoder(field)).detach())
    numeric = (slopes[0] - slopes[1]) / (2 * step)
    assert float((second - numeric).norm() / numeric.norm()) < 1e-5


@pytest.mark.parametrize("peer", [False, True], ids=["field", "peer"])
def test_a_field_that_torch_func_sees_first_gives_the_same_gradient(name, peer):
    encoder, graph = build(name), tiny_graph()
    parameters = dict(encoder.named_parameters())
    fresh = field_of(encoder, graph, TARGETS, peer=peer)
    found = torch.func.grad(lambda p: torch.func.functional_call(encoder, p, (fresh,)).square().sum())(parameters)
    loss = encoder(field_of(encoder, graph, TARGETS, peer=peer)).square().sum()
    wanted = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    for parameter, gradient in zip(parameters, wanted, strict=True):
        assert found[parameter].count_nonzero() == 0 if gradient is None else torch.equal(found[parameter], gradient)


@pytest.mark.parametrize("density", [1.0, 0.1], ids=["dense", "sparse"])
@pytest.mark.parametrize("peer", [False, True], ids=["field", "peer"])
def test_autocast_changes_little(name, density, peer):
    encoder, graph = build(name).float(), tiny_graph(density=density).to(dtype=torch.float32)
    field = field_of(encoder, graph, TARGETS, peer=peer)
    rows = encoder(field)
    with torch.autocast("cpu", torch.bfloat16):
        found = encoder(field)
    wanted_gradient, found_gradient = (gradient(encoder, r.float()).detach() for r in (rows, found))
    assert float((found.float() - rows).detach().norm() / rows.detach().norm()) < 0.05
    assert float((found_gradient - wanted_gradient).norm() / wanted_gradient.norm()) < 0.1
    assert found_gradient.dtype == torch.float32


def test_edge_weights_enter_or_are_refused(name):
    encoder, (x, edges, labels) = build(name), arrays()
    weight = np.linspace(0.5, 1.5, edges.shape[1])
    graph = Graph.from_arrays(x, edges, labels, directed=True, edge_weight=weight)
    if not encoder.uses_weights:
        with pytest.raises(ValueError, match="takes edge weights"):
            field_of(encoder, graph, TARGETS)
        return
    rows, plain = (encoder(field_of(encoder, g, TARGETS)) for g in (graph, tiny_graph()))
    full = encoder(everything(encoder, graph))[TARGETS]
    torch.testing.assert_close(rows, full, rtol=1e-12, atol=1e-12)
    assert torch.equal(rows, plain) is (encoder.num_hops == 0)


def test_dropout_acts_in_training_only(name):
    encoder = build(name)
    field = field_of(encoder, tiny_graph(), TARGETS)
    assert torch.equal(encoder(field), encoder(field))
    has_dropout = any(isinstance(part, Dropout) for part in encoder.modules())
    encoder.train()
    torch.manual_seed(0)
    first = encoder(field)
    assert torch.equal(first, encoder(field)) is not has_dropout
    torch.manual_seed(0)
    assert torch.equal(first, encoder(field))
