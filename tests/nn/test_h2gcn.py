import numpy as np
import pytest
import torch

from fgsam.graph.graph import Graph
from fgsam.nn.encoders import field_of
from fgsam.nn.h2gcn import H2GCN
from fgsam.nn.peer import check_peer
from tests.twins.graphs import random_graph

TARGETS = [7, 3, 39, 1]  # 39 is isolated


def without_grad(encoder: H2GCN, graph: Graph) -> list[str]:
    rows = encoder(field_of(encoder, graph, TARGETS, peer=True))
    grads = torch.autograd.grad(rows.sum(), list(encoder.parameters()), allow_unused=True)
    return [name for (name, _), grad in zip(encoder.named_parameters(), grads, strict=True) if grad is None]


def test_on_a_path_the_blocks_hold_the_nodes_one_and_two_steps_away():
    graph = Graph.from_arrays(np.eye(5), [[0, 1, 2, 3], [1, 2, 3, 4]], [0] * 5, directed=False)
    encoder = H2GCN(5, hidden=5, dim=15, num_layers=1).double().eval()
    with torch.no_grad():
        encoder.first.weight.copy_(torch.eye(5))
        encoder.own_weight.copy_(torch.eye(15)[:5])
        encoder.neighbour_weight.copy_(torch.eye(15)[5:])
    own, near, far = encoder(field_of(encoder, graph, [0])).unflatten(1, (3, 5))[0]
    assert own.tolist() == [1, 0, 0, 0, 0]
    assert near.tolist() == pytest.approx([0, 0.5**0.5, 0, 0, 0])  # degrees 1 and 2
    assert far.tolist() == pytest.approx([0, 0, 0.5**0.5, 0, 0])  # node 2 has two such nodes, 0 and 4


def test_where_all_are_neighbours_no_node_is_two_steps_away():
    ends = np.array([(i, j) for i in range(6) for j in range(6)]).T
    graph = Graph.from_arrays(np.eye(6), ends, [0] * 6, directed=False)
    assert graph.ring(1).num_entries == 30
    assert graph.ring(2).num_entries == 0
    encoder = H2GCN(6).double().eval()
    assert encoder(field_of(encoder, graph, [0, 5])).isfinite().all()


def test_the_peer_reads_nothing_in_the_place_of_neighbours():
    encoder, graph = H2GCN(6).double().eval(), random_graph()
    own = torch.relu(encoder.first(graph.x[TARGETS])) @ encoder.own_weight + encoder.bias
    torch.testing.assert_close(encoder(field_of(encoder, graph, TARGETS, peer=True)), own, rtol=0, atol=1e-14)
    assert without_grad(encoder, graph) == ["neighbour_weight"]


def test_or_by_choice_its_own_rows_which_keeps_all_weights_alive():
    encoder, graph = H2GCN(6, peer="copy").double().eval(), random_graph()
    r = torch.relu(encoder.first(graph.x[TARGETS]))
    wanted = torch.cat([r] * 7, dim=1) @ torch.cat([encoder.own_weight, encoder.neighbour_weight]) + encoder.bias
    torch.testing.assert_close(encoder(field_of(encoder, graph, TARGETS, peer=True)), wanted, rtol=0, atol=1e-14)
    assert without_grad(encoder, graph) == []


@pytest.mark.parametrize(("peer", "dead"), [("zero", ("neighbour_weight",)), ("copy", ())])
def test_the_report_names_the_reading_that_is_taken(peer, dead):
    (layer,) = check_peer(H2GCN(6, peer=peer), 6).layers
    assert (layer.verdict, layer.dead) == ("chosen", dead)
    assert f"peer='{peer}', " in layer.advice


def test_readings_differ_in_the_peer_only():
    graph = random_graph()
    zero, copied = H2GCN(6).double().eval(), H2GCN(6, peer="copy").double().eval()
    copied.load_state_dict(zero.state_dict())
    rows, others = (
        [encoder(field_of(encoder, graph, TARGETS, peer=peer)) for peer in (False, True)] for encoder in (zero, copied)
    )
    assert torch.equal(rows[0], others[0])
    assert not torch.allclose(rows[1], others[1])


def test_edge_weights_are_refused():
    graph = Graph.from_arrays(np.eye(3), [[0, 1], [1, 2]], [0] * 3, directed=True, edge_weight=[0.5, 2.0])
    with pytest.raises(ValueError, match=r"takes edge weights.*got H2GCN.*Use gcn.*gprgnn, or build"):
        field_of(H2GCN(3), graph, [0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"peer": "zeros"}, r"'peer' to be one of zero, copy \(got 'zeros'\). Did you mean 'zero'"),
        ({"num_layers": 0}, "'num_layers' to be positive"),
        ({"hidden": 0}, "'hidden' to be positive"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        H2GCN(6, **options)
