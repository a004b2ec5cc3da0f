from __future__ import annotations

import pytest
import torch
from torch import nn

from fgsam.engine.evaluate import BankScorer, chunked_fields, floor_correct
from fgsam.methods.floors import SGCPrototype
from fgsam.methods.gpn import GPN
from fgsam.nn.encoders import field_of
from fgsam.nn.gcn import GCN
from fgsam.nn.module import ModuleEncoder
from tests.engine.tiny import tiny_bank, tiny_graph, tiny_method


def correct_one_by_one(method, graph, bank):
    """Each episode by itself, with a field of its own."""
    method.eval()
    counts = []
    for episode in bank:
        with torch.no_grad():
            rows = method.represent(field_of(method.encoder, graph, episode.nodes))
            support = tuple(row[: episode.num_support] for row in rows)
            query = tuple(row[episode.num_support :] for row in rows)
            logits = method.logits(support, episode.support_labels, query, episode.n_way)
        counts.append(int((logits.argmax(-1) == episode.query_labels).sum()))
    return torch.tensor(counts)


@pytest.mark.parametrize("make", [tiny_method, lambda: GPN(lambda: GCN(40, hidden=8, dim=4))], ids=["protonet", "gpn"])
def test_a_bank_scores_as_its_episodes_one_by_one(make):
    graph = tiny_graph().to(dtype=torch.float64)
    method, bank = make().double(), tiny_bank(230)
    assert BankScorer(graph, bank).correct(method).tolist() == correct_one_by_one(method, graph, bank).tolist()


def test_scoring_uses_no_dropout_and_leaves_the_mode_and_the_random_state():
    method, scorer = tiny_method().train(), BankScorer(tiny_graph(), tiny_bank())
    before = torch.get_rng_state()
    first, second = scorer.correct(method), scorer.correct(method)
    assert torch.equal(first, second)
    assert method.training
    assert torch.equal(torch.get_rng_state(), before)


def test_diverged_weights_are_an_error():
    method = tiny_method()
    with torch.no_grad():
        next(method.parameters()).fill_(float("nan"))
    with pytest.raises(RuntimeError, match="finite scores from ProtoNet"):
        BankScorer(tiny_graph(), tiny_bank()).correct(method)


class Linear(nn.Module):
    num_hops = 1

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(40, 4)

    def forward(self, x, edge_index):
        source, target = edge_index
        return self.layer(x).index_add(0, target, self.layer(x)[source])


def test_a_users_module_gets_dense_rows_in_pieces_that_fit_the_memory():
    graph = tiny_graph()
    encoder = ModuleEncoder(Linear(), 40)
    nodes = torch.arange(0, 240, 3)
    whole = chunked_fields(encoder, graph, nodes)
    small = graph.replaced(memory_mb=120 * 40 * 4 / 2**20)
    pieces = chunked_fields(encoder, small, nodes)
    assert len(whole) == 1
    assert len(pieces) > 1
    assert max(field.num_nodes for field in pieces) <= 120
    assert torch.cat([field.node_ids[: field.num_targets] for field in pieces]).tolist() == nodes.tolist()
    with torch.no_grad():
        torch.testing.assert_close(torch.cat([encoder(field) for field in pieces]), encoder(whole[0]))


def test_floors_are_counted_episode_by_episode():
    bank = tiny_bank(230)
    floor = SGCPrototype()
    floor.fit(tiny_graph(), bank)
    one_by_one = [
        int((floor.predict(e.support, e.support_labels, e.query, e.n_way) == e.query_labels).sum()) for e in bank
    ]
    assert floor_correct(floor, bank).tolist() == one_by_one
