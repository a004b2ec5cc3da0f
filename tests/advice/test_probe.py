from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fgsam.advice.probe import Compass, Gap, Losses, Nodes, initial_model, train_probes
from fgsam.graph.graph import Graph
from fgsam.nn.gcn import GCN
from fgsam.optim.plain import Adam


def graph_of(*, has_edges: bool = True, num_nodes: int = 60) -> Graph:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, num_nodes)
    x = np.eye(3)[labels] + rng.normal(0, 0.5, (num_nodes, 3))
    edges = rng.integers(0, num_nodes, (2, 150 if has_edges else 0))
    return Graph.from_arrays(x.astype(np.float32), edges, labels, directed=False)


def losses_of(graph: Graph, batch_size: int = 256) -> tuple[Losses, Nodes]:
    nodes = Nodes.of(graph, batch_size)
    torch.manual_seed(0)
    model = initial_model(GCN(graph.num_features, hidden=8, dim=4, dropout=0.0), graph)
    return Losses(model, graph, nodes), nodes


def test_cosine_and_ratio_are_those_of_the_two_gradients():
    w = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    compass = Compass([w], lr=0.1)
    compass.step(lambda: 2 * w[0], lambda: 3 * w[0] + 4 * w[1])
    compass.step(lambda: w[0], lambda: 0 * w[0])
    compass.step(lambda: 0 * w[0], lambda: w[0])
    assert torch.stack(compass.cosines).tolist() == pytest.approx([0.6, 0.0, 0.0])
    assert torch.stack(compass.ratios).tolist() == pytest.approx([2.5, 0.0, 0.0])


def test_looking_at_the_peer_does_not_change_the_training():
    first, second = (torch.tensor([1.0, -2.0], requires_grad=True) for _ in range(2))
    compass, adam = Compass([first], lr=0.1), Adam([second], lr=0.1)
    for _ in range(5):
        compass.step(lambda: (first**4).sum(), lambda: first.sum())
        adam.step(lambda: (second**4).sum())
    assert torch.equal(first, second)


def test_without_edges_both_gradients_are_one():
    graph = graph_of(has_edges=False)
    losses, nodes = losses_of(graph)
    gradients, probes = train_probes(losses, graph, nodes, has_peer=True, num_steps=8, deadline=math.inf)
    assert gradients is not None
    assert gradients.cosine_start.low == pytest.approx(1.0)
    assert gradients.ratio_end.high == pytest.approx(1.0)
    assert probes.gnn == probes.peer == probes.peer_on_graph
    assert probes.moved_gap == Gap(0.0, 0.0)


def test_edges_part_the_two_gradients():
    graph = graph_of()
    losses, nodes = losses_of(graph)
    gradients, _ = train_probes(losses, graph, nodes, has_peer=True, num_steps=8, deadline=math.inf)
    assert gradients is not None
    assert gradients.cosine_end.mean < 0.999
    assert gradients.window == 2


@pytest.mark.parametrize("batch_size", [7, 256])
def test_probes_are_repeatable_and_leave_the_model_alone(batch_size: int):
    graph = graph_of()
    losses, nodes = losses_of(graph, batch_size)
    before = [param.detach().clone() for param in losses.model.parameters()]
    state = torch.random.get_rng_state()
    found = [train_probes(losses, graph, nodes, has_peer=True, num_steps=5, deadline=math.inf) for _ in range(2)]
    assert found[0] == found[1]
    assert all(torch.equal(a, b) for a, b in zip(before, losses.model.parameters(), strict=True))
    assert torch.equal(state, torch.random.get_rng_state())


def test_training_learns_something():
    graph = graph_of(has_edges=False, num_nodes=400)
    losses, nodes = losses_of(graph)
    _, probes = train_probes(losses, graph, nodes, has_peer=True, num_steps=60, deadline=math.inf)
    assert probes.gnn > probes.largest_class + 0.2


def test_when_time_is_up_one_step_is_taken_and_few_nodes_are_scored():
    graph = graph_of()
    losses, nodes = losses_of(graph, batch_size=7)
    gradients, probes = train_probes(losses, graph, nodes, has_peer=True, num_steps=50, deadline=0.0)
    assert gradients is not None
    assert (gradients.num_steps, probes.num_steps, probes.num_tested) == (1, 1, 7)


def test_without_a_peer_there_is_the_graph_alone():
    graph = graph_of()
    losses, nodes = losses_of(graph)
    gradients, probes = train_probes(losses, graph, nodes, has_peer=False, num_steps=3, deadline=math.inf)
    assert gradients is None
    assert (probes.peer, probes.peer_on_graph, probes.peer_gap, probes.moved_gap) == (None, None, None, None)


def test_halves_never_meet_and_hold_labelled_nodes_only():
    graph = graph_of()
    graph.labels[::3] = -1
    nodes = Nodes.of(graph, batch_size=5)
    both = np.concatenate([nodes.train, nodes.held_out])
    assert sorted(both) == np.flatnonzero(graph.labels.numpy() >= 0).tolist()
    batch = nodes.batch(3)
    assert len(set(batch)) == 5
    assert set(batch) <= set(nodes.train)
    assert nodes.batch(3).tolist() == batch.tolist() != nodes.batch(4).tolist()


@pytest.mark.parametrize("labels", [[-1] * 6, [0] * 6, [0, 1, 1, -1, -1, -1]])
def test_too_few_labels_are_a_fault(labels: list[int]):
    graph = Graph.from_arrays(np.eye(6), [[0], [1]], labels, directed=False)
    with pytest.raises(ValueError, match="Expected a graph with at least 4 labelled nodes of 2 classes"):
        Nodes.of(graph, batch_size=4)


def test_a_gap_is_taken_node_by_node():
    gap = Gap.of(np.asarray([True, True, True, False]), np.asarray([True, False, True, False]))
    assert gap == Gap(0.25, pytest.approx(0.25))
    assert not gap.is_clear
    assert Gap(-0.3, 0.1).is_clear
