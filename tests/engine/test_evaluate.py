from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from fgsam.engine.evaluate import ADAPTED_AT_ONCE, KEPT_EPISODES, BankScorer, chunked_fields, floor_correct
from fgsam.episodes.bank import EpisodeBank
from fgsam.episodes.sampler import EpisodeSampler
from fgsam.episodes.streams import generator
from fgsam.methods.floors import SGCPrototype
from fgsam.methods.gpn import GPN
from fgsam.methods.protonet import ProtoNet
from fgsam.nn.encoders import field_of
from fgsam.nn.gcn import GCN
from fgsam.nn.module import ModuleEncoder
from tests.engine.tiny import tiny_bank, tiny_graph, tiny_method, tiny_run


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


class Tempered(ProtoNet):
    """Learns from the support nodes of an episode how much each entry of an embedding counts."""

    adapts = True

    def __init__(self, make_encoder):
        super().__init__(make_encoder)
        self.scales = nn.Parameter(torch.ones(self.encoder.dim))
        self.sizes, self.fields = [], []

    def score(self, field, episode):
        scales, rows = self.scales, self.encoder(field)
        support, query = rows[: episode.num_support], rows[episode.num_support :]
        for _ in range(2):
            with torch.enable_grad():
                moved = scales.detach().requires_grad_()
                logits = self.logits((moved * support,), episode.support_labels, (moved * support,), episode.n_way)
                loss = nn.functional.cross_entropy(logits, episode.support_labels)
                scales = moved - 0.5 * torch.autograd.grad(loss, moved)[0]
        return self.logits((scales * support,), episode.support_labels, (scales * query,), episode.n_way)

    def score_all(self, fields, episodes):
        self.sizes.append(len(fields))
        self.fields += fields
        return super().score_all(fields, episodes)


class TemperedWithoutEdges(Tempered):
    tests_on_edges = False


def tempered(kind=Tempered):
    torch.manual_seed(0)
    return kind(lambda: GCN(40, hidden=8, dim=4)).double()


def bank_of(num_query, num_episodes=23):
    """Episodes of classes of 14 to 20 nodes."""
    labels = torch.where(torch.arange(240) % 20 < 20 - torch.arange(240) // 20 % 7, tiny_graph().labels, -1)
    sampler = EpisodeSampler(labels, range(6, 12), n_way=3, k_shot=2, num_query=num_query)
    return EpisodeBank.draw(sampler, num_episodes, generator("bank"))


@pytest.mark.parametrize("num_query", [4, "all"])
@pytest.mark.parametrize("kind", [Tempered, TemperedWithoutEdges])
def test_a_learner_that_adapts_is_scored_episode_by_episode(kind, num_query):
    graph, learner, bank = tiny_graph().to(dtype=torch.float64), tempered(kind), bank_of(num_query)
    expected = torch.zeros_like(bank.query, dtype=torch.bool)
    learner.eval()
    for i, episode in enumerate(bank):
        field = field_of(learner.encoder, graph, episode.nodes, peer=kind is TemperedWithoutEdges)
        found = learner.score(field, episode).argmax(-1)
        expected[i, : len(found)] = found == episode.query_labels
    assert (num_query == "all") == (bank.query_labels == -1).any()
    assert torch.equal(BankScorer(graph, bank).hits(learner.train()), expected)
    plain = BankScorer(graph, bank).hits(ProtoNet(lambda: learner.encoder))
    assert not torch.equal(plain, expected), "adaptation must make a difference here"


def test_adaptation_gets_fields_in_batches_and_leaves_the_weights():
    graph, learner, bank = tiny_graph().to(dtype=torch.float64), tempered(), bank_of(4)
    before = {key: value.clone() for key, value in learner.state_dict().items()}
    BankScorer(graph, bank).score(learner)
    assert learner.sizes == [ADAPTED_AT_ONCE, ADAPTED_AT_ONCE, 3]
    assert all(torch.equal(f.node_ids[: f.num_targets], e.nodes) for f, e in zip(learner.fields, bank, strict=True))
    assert all(torch.equal(value, before[key]) for key, value in learner.state_dict().items())
    assert all(param.grad is None for param in learner.parameters())
    assert learner.training


@pytest.mark.parametrize(("num_episodes", "is_kept"), [(KEPT_EPISODES, True), (KEPT_EPISODES + 1, False)])
def test_fields_of_small_banks_are_kept_for_the_next_scoring(num_episodes, is_kept):
    learner, scorer = tempered(), BankScorer(tiny_graph().to(dtype=torch.float64), bank_of(4, num_episodes))
    first, second = scorer.hits(learner), scorer.hits(learner)
    assert torch.equal(first, second)
    pairs = zip(learner.fields[:num_episodes], learner.fields[num_episodes:], strict=True)
    assert all((one is other) == is_kept for one, other in pairs)


def test_adapted_weights_that_diverge_are_an_error():
    learner = tempered()
    with torch.no_grad():
        learner.scales.fill_(float("inf"))
    with pytest.raises(RuntimeError, match="finite scores from Tempered"):
        BankScorer(tiny_graph().to(dtype=torch.float64), bank_of(4)).score(learner)


def test_a_run_adapts_when_it_tests_and_when_it_predicts(tmp_path: Path):
    run = tiny_run(tmp_path, method=Tempered, num_query="all", optimizer="fgsam_plus", num_episodes=5)
    bank = run._loaded().data.test_bank
    names = torch.tensor([7, 3, 5])
    for i in range(5):
        episode = bank[i]
        found = run.predict(episode.support, names[episode.support_labels], episode.query)
        assert int((found == names[episode.query_labels]).sum()) == run.results["test_correct"][i]
    assert run.evaluate() == run.test
