from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fgsam.engine.episode_task import EpisodeTask
from fgsam.engine.evaluate import BankScorer
from fgsam.episodes.sampler import EpisodeSampler
from fgsam.graph.graph import Graph
from fgsam.methods.mlp import MLP
from fgsam.methods.peer_mlp import PeerMLP
from fgsam.nn.gcn import GCN
from tests.engine.tiny import SHAPE, tiny_bank, tiny_graph, tiny_method, tiny_run


def made(kind: type[PeerMLP] | type[MLP]) -> PeerMLP | MLP:
    method = kind(lambda: GCN(tiny_graph().num_features, hidden=8, dim=4))
    method.load_state_dict(tiny_method().state_dict())
    return method


def without_edges() -> Graph:
    graph = tiny_graph()
    return Graph.from_arrays(graph.x.scipy(), [[], []], graph.labels, directed=False)  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", [PeerMLP, MLP])
@pytest.mark.parametrize("peer", [False, True])
def test_no_pass_of_training_reads_an_edge(kind, peer):
    graph = tiny_graph()
    task = EpisodeTask(graph, EpisodeSampler(graph.labels, range(6), **SHAPE), tiny_bank())
    episode = task.draw(("split",), 0)
    field = task.field(made(kind), episode, peer=peer)
    assert field.node_ids.tolist() == episode.nodes.tolist()


def test_peer_mlp_is_tested_as_the_net_with_edges_and_mlp_as_the_one_without():
    bank = tiny_bank(200)
    with_edges, bare = (BankScorer(graph, bank).hits(tiny_method()) for graph in (tiny_graph(), without_edges()))
    assert not torch.equal(with_edges, bare)
    assert torch.equal(BankScorer(tiny_graph(), bank).hits(made(PeerMLP)), with_edges)
    assert torch.equal(BankScorer(tiny_graph(), bank).hits(made(MLP)), bare)


@pytest.mark.parametrize("optimizer", ["fgsam", "fgsam_plus"])
@pytest.mark.parametrize("method", ["peer_mlp", "mlp"])
def test_rules_with_a_peer_train_them_too(method: str, optimizer: str, tmp_path: Path):
    run = tiny_run(tmp_path, method=method, optimizer=optimizer)
    losses = [line["loss"] for line in run.history if "loss" in line]
    assert np.isfinite(losses).all()
    assert run.test.accuracy > 0.4
    support, query = torch.tensor([0, 1, 20, 21]), torch.arange(2, 12)
    assert run.predict(support, ["a", "a", "b", "b"], query).shape == (10,)
