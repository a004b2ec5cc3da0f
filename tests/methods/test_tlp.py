from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn

from fgsam.engine.arguments import config_of_call
from fgsam.engine.data import build_data
from fgsam.engine.episode_task import PretrainingTask
from fgsam.engine.train import Trainer
from fgsam.functional.contrast import bootstrap_loss, info_nce
from fgsam.graph.augment import random_views
from fgsam.methods.tlp import TLP, Average
from fgsam.nn.gcn import GCN
from fgsam.nn.module import ModuleEncoder
from fgsam.registry import OPTIMIZERS
from tests.engine.tiny import OPTIONS, tiny_bank
from tests.engine.tiny import tiny_graph as larger_graph
from tests.helpers import assert_close
from tests.methods.tiny import NUM_FEATURES, make_gcn, tiny_graph

NODES = torch.arange(0, 32, 2)
UNKNOWN = torch.full_like(NODES, -1)


def make_tlp(make_encoder=make_gcn, **options) -> TLP:
    torch.manual_seed(0)
    return TLP(make_encoder, hidden=8, **options).double()


def loss_of(method, *, peer=False, graph=None):
    field = method.field(graph or tiny_graph(), NODES, peer=peer)
    torch.manual_seed(1)
    return method.loss(field, UNKNOWN)


def views_of(method, *, peer=False):
    field = method.field(tiny_graph(), NODES, peer=peer)
    torch.manual_seed(1)
    return random_views(field, feature_drop=method.feature_drop, edge_drop=method.edge_drop)


@pytest.mark.parametrize("peer", [False, True])
def test_grace_tells_the_projected_views_of_the_batch_apart(peer):
    method = make_tlp(temperature=0.3)
    first, second = (method.head(method.encoder(view)) for view in views_of(method, peer=peer))
    assert_close(loss_of(method, peer=peer), info_nce(first, second, temperature=0.3))


@pytest.mark.parametrize("peer", [False, True])
def test_bgrl_predicts_each_view_s_average_embedding_from_the_other_view(peer):
    method = make_tlp(pretext="bgrl")
    slow = make_gcn()  # holds the average as a net of its own
    with torch.no_grad():
        for buffer in method.average.buffers():
            buffer.add_(0.1)
        for param, buffer in zip(slow.parameters(), method.average.buffers(), strict=True):
            param.copy_(buffer)
    one, two = views_of(method, peer=peer)
    ways = [bootstrap_loss(method.head(method.encoder(a)), slow(b)) for a, b in ((one, two), (two, one))]
    assert_close(loss_of(method, peer=peer), (ways[0] + ways[1]) / 2)


@pytest.mark.parametrize("peer", [False, True])
@pytest.mark.parametrize("pretext", ["grace", "bgrl"])
def test_every_weight_gets_a_gradient_and_the_average_none(pretext, peer):
    method = make_tlp(pretext=pretext)
    loss_of(method, peer=peer).mean().backward()
    assert all(param.grad.isfinite().all() and param.grad.any() for param in method.parameters())
    num_average = 0 if pretext == "grace" else len(list(make_gcn().parameters()))
    assert len(list(method.buffers())) == num_average
    assert not any(buffer.requires_grad for buffer in method.buffers())


@pytest.mark.parametrize("pretext", ["grace", "bgrl"])
def test_labels_are_not_read(pretext):
    method, field = make_tlp(pretext=pretext), None
    field = method.field(tiny_graph(), NODES)
    losses = []
    for labels in (UNKNOWN, torch.arange(16)):
        torch.manual_seed(1)
        losses.append(method.loss(field, labels))
    assert torch.equal(*losses)


def test_nodes_that_are_not_there_yet_are_not_learned_from():
    options = {**{key: value for key, value in OPTIONS.items() if key != "progress"}, "setting": "inductive"}
    graph = larger_graph().replaced(labels=torch.where(torch.arange(240) == 7, -1, larger_graph().labels))
    data = build_data(config_of_call(graph, method="tlp", options=options)[0], graph)
    torch.manual_seed(0)
    method = TLP(lambda: GCN(graph.num_features), batch_size=None)
    found = data.task(method).draw(("s", 0), 1)
    expected = torch.isin(graph.labels, torch.tensor([-1, *data.split.meta_train]))
    assert found.nodes.tolist() == expected.nonzero().squeeze(-1).tolist()
    assert 7 in found.nodes
    assert set(found.labels.tolist()) == {-1}


@cache
def unlabelled():
    return torch.arange(larger_graph().num_nodes)


def trained(optimizer, *, num_steps=6):
    """The average and the encoder's weights after each step, as a trainer moves them."""
    graph = larger_graph()
    torch.manual_seed(0)
    method = TLP(lambda: GCN(graph.num_features, hidden=8, dim=4), pretext="bgrl", decay=0.75)
    task = PretrainingTask(graph, unlabelled(), torch.full_like(unlabelled(), -1), tiny_bank(), batch_size=50)
    trainer = Trainer(task, method, OPTIMIZERS.load(optimizer)(method, lr=0.05), num_steps=num_steps, stream=("s", 0))
    seen = [(copied(method.average.buffers()), copied(method.encoder.parameters()))]
    for step in range(1, num_steps + 1):
        trainer.learn(step)
        seen.append((copied(method.average.buffers()), copied(method.encoder.parameters())))
    return seen


def copied(tensors):
    return [tensor.detach().clone() for tensor in tensors]


@pytest.mark.parametrize("optimizer", ["adam", "sam", "fgsam", "fgsam_plus"])
def test_the_average_moves_once_a_step_of_whatever_optimizer(optimizer):
    seen = trained(optimizer)
    expected = seen[0][1]
    for average, weights in seen:
        if average is not seen[0][0]:
            expected = [0.75 * old + 0.25 * new for old, new in zip(expected, weights, strict=True)]
        assert_close(average, expected, rtol=1e-6)
    assert (seen[-1][0][0] - seen[0][0][0]).norm() > 1e-2


def test_the_average_starts_at_the_encoder_and_is_no_parameter():
    method = make_tlp(pretext="bgrl")
    assert_close(list(method.average.buffers()), [param.detach() for param in method.encoder.parameters()], rtol=0)
    assert len(list(method.parameters())) == len(list(make_tlp().parameters()))
    assert {name for name in method.state_dict() if name.startswith("average")} == {
        f"average.weight_{place}" for place in range(4)
    }


def test_the_average_moves_no_statistics_of_the_users_module():
    class Net(nn.Module):
        num_hops = 0

        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(NUM_FEATURES)
            self.dim = NUM_FEATURES

        def forward(self, x, edge_index):
            return self.norm(x)

    module = ModuleEncoder(Net(), NUM_FEATURES, allow_inexact=True).double()
    average = Average(module, 0.9)
    average(module, tiny_graph().field(NODES, 0))
    assert int(module.get_buffer(next(n for n, _ in module.named_buffers() if "tracked" in n))) == 0


def test_without_lost_edges_kept_products_serve_and_give_the_same_loss():
    method = make_tlp(edge_drop=0.0)
    assert method.field(tiny_graph(), NODES)._is_folded
    found = loss_of(method)
    whole = tiny_graph().field(NODES, 2, edges="sym")
    torch.manual_seed(1)
    assert_close(method.loss(whole, UNKNOWN), found)
    assert not make_tlp().field(tiny_graph(), NODES)._is_folded


def test_a_peer_reads_its_own_rows_only():
    for pretext in ("grace", "bgrl"):
        method = make_tlp(pretext=pretext)
        poisoned = tiny_graph(poison=NODES.tolist())
        assert torch.equal(loss_of(method, peer=True, graph=poisoned), loss_of(method, peer=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pretext": "grase"}, "'pretext' to be one of grace, bgrl .*Did you mean 'grace'"),
        ({"feature_drop": 1.5}, "'feature_drop' to be between 0 and 1"),
        ({"edge_drop": -0.1}, "'edge_drop' to be between 0 and 1"),
        ({"decay": 2.0}, "'decay' to be between 0 and 1"),
        ({"temperature": 0.0}, "'temperature' to be positive"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_tlp(**options)
