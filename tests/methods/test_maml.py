from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torchopt
from torch import nn
from torch_geometric.nn import GATConv, GCNConv

from fgsam.methods.maml import MAML
from fgsam.nn.encoders import field_of
from fgsam.nn.gat import GAT
from fgsam.nn.gcn import GCN
from fgsam.nn.module import ModuleEncoder
from tests.helpers import assert_close
from tests.methods.tiny import NUM_FEATURES, make_gcn, tiny_episode, tiny_graph
from tests.twins.adapting import first_order_gradient, unrolled


def make_maml(make_encoder=make_gcn, **options) -> MAML:
    torch.manual_seed(0)
    return MAML(make_encoder, **{"num_steps": 3, "inner_lr": 0.5, **options}).double()


def field_and_episode(method, *, peer=False, graph=None):
    episode = tiny_episode()
    return field_of(method.encoder, graph or tiny_graph(), episode.nodes, peer=peer), episode


def start_of(method) -> list[torch.Tensor]:
    """Weights of the encoder, then those of the head."""
    encoder = [p for layer in method.encoder.layers for p in (layer.weight, layer.bias)]
    head = method.head.start
    zeros = [torch.zeros(shape, dtype=torch.float64, requires_grad=True) for shape in ((4, 3), (3,))]
    return [*encoder, *(zeros if head is None else (head.weight, head.bias))]


@pytest.mark.parametrize("peer", [False, True])
@pytest.mark.parametrize("num_outputs", [None, 3])
def test_loss_and_second_order_gradient_equal_an_unrolled_loop_over_the_whole_graph(num_outputs, peer):
    method = make_maml(order="second", num_outputs=num_outputs)
    weights = start_of(method)
    loss = method.loss(*field_and_episode(method, peer=peer))
    slow = unrolled(weights, tiny_graph(), tiny_episode(), peer=peer, num_steps=3, rate=0.5)
    assert_close(loss, slow)
    params = list(method.parameters())
    assert len(params) == (4 if num_outputs is None else 6)
    assert_close(
        torch.autograd.grad(loss.mean(), params), torch.autograd.grad(slow.mean(), weights[: len(params)]), rtol=1e-11
    )


@pytest.mark.parametrize("peer", [False, True])
@pytest.mark.parametrize("num_outputs", [None, 3])
def test_first_order_gradient_is_that_at_the_end_of_the_steps(num_outputs, peer):
    method = make_maml(num_outputs=num_outputs)
    params = list(method.parameters())
    gradient = torch.autograd.grad(method.loss(*field_and_episode(method, peer=peer)).mean(), params)
    expected = first_order_gradient(start_of(method), tiny_graph(), tiny_episode(), peer=peer, num_steps=3, rate=0.5)
    assert_close(gradient, expected[: len(params)], rtol=1e-11)


def test_second_order_gradient_equals_a_finite_difference():
    method = make_maml(order="second")
    given = field_and_episode(method)
    params = list(method.parameters())
    gradient = torch.autograd.grad(method.loss(*given).mean(), params)
    drawn = torch.Generator().manual_seed(1)
    for _ in range(5):
        along = [torch.randn(p.shape, generator=drawn, dtype=torch.float64) for p in params]
        values = []
        for size in (1e-5, -2e-5):
            torch._foreach_add_([p.data for p in params], along, alpha=size)
            values.append(method.loss(*given).mean().item())
        torch._foreach_add_([p.data for p in params], along, alpha=1e-5)
        slope = sum((g * a).sum() for g, a in zip(gradient, along, strict=True))
        assert slope.item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-7)


def test_second_order_gradient_equals_that_of_torchopt():
    method, other = make_maml(order="second", num_outputs=3), make_maml(num_outputs=3)
    field, episode = field_and_episode(method)
    gradient = torch.autograd.grad(method.loss(field, episode).mean(), list(method.parameters()))
    starts = list(other.parameters())
    optimizer = torchopt.MetaSGD(other, lr=0.5)
    for _ in range(3):
        rows = other.head.start(other.encoder(field.head(episode.num_support)))
        optimizer.step(nn.functional.cross_entropy(rows, episode.support_labels))
    rows = other.head.start(other.encoder(field))[episode.num_support :]
    loss = nn.functional.cross_entropy(rows, episode.query_labels)
    assert_close(gradient, torch.autograd.grad(loss, starts), rtol=1e-13)


def test_a_start_that_all_classes_share_changes_neither_loss_nor_gradient():
    method, shared = make_maml(order="second"), make_maml(order="second", num_outputs=3)
    with torch.no_grad():
        shared.head.start.weight.copy_(torch.randn(4, 1, dtype=torch.float64).expand(4, 3))
        shared.head.start.bias.fill_(0.7)
    losses = [m.loss(*field_and_episode(m)) for m in (method, shared)]
    assert_close(losses[0], losses[1])
    gradients = [
        torch.autograd.grad(loss.mean(), list(method_.parameters()))
        for loss, method_ in zip(losses, (method, shared), strict=True)
    ]
    assert_close(gradients[0], gradients[1][:4], rtol=1e-11)
    assert gradients[1][4].sum(1).abs().max() < 1e-15  # a shared start would learn nothing


@pytest.mark.parametrize(("num_steps", "is_linear"), [(1, True), (2, False)])
def test_the_encoder_begins_to_move_in_the_second_step(num_steps, is_linear):
    method = make_maml(num_steps=num_steps)
    field, episode = field_and_episode(method)
    rows = method.encoder(field)[episode.num_support :]
    scores = method.score(field, episode)
    ones = nn.functional.pad(rows, (0, 1), value=1.0)
    fitted = ones @ torch.linalg.pinv(ones) @ scores  # the best linear map of the embeddings before the steps
    assert torch.allclose(scores, fitted, rtol=0, atol=1e-12) == is_linear


def test_only_a_start_of_each_class_depends_on_names_of_classes():
    new_name = torch.tensor([2, 0, 1])
    for num_outputs, is_close in ((None, True), (3, False)):
        method = make_maml(num_outputs=num_outputs)
        field, episode = field_and_episode(method)
        renamed = replace(episode, support_labels=new_name[episode.support_labels])
        scores, others = method.score(field, episode), method.score(field, renamed)[:, new_name]
        assert torch.allclose(scores, others, rtol=1e-10, atol=0) == is_close


def test_episodes_of_any_number_of_classes_are_scored_unless_each_has_a_start():
    method = make_maml(num_outputs=2)
    with pytest.raises(ValueError, match=r"episodes of num_outputs=2 classes \(got n_way=3\).*leave it out"):
        method.score(*field_and_episode(method))
    with pytest.raises(ValueError, match="'num_outputs' to be a whole number"):
        make_maml(num_outputs=0)


@pytest.mark.parametrize("option", [{"num_steps": 0}, {"inner_lr": 0.0}, {"order": "third"}])
def test_options_out_of_range_are_refused(option):
    with pytest.raises(ValueError, match=f"Expected '{next(iter(option))}'"):
        make_maml(**option)


def test_rows_of_single_nodes_cannot_be_scored():
    method = make_maml()
    field, episode = field_and_episode(method)
    known = method.represent(field)
    with pytest.raises(TypeError, match=r"MAML adapts its encoder .* Call score\(field, episode\)"):
        method.logits(known, episode.support_labels, known, 3)


class GCNNet(nn.Module):
    def __init__(self, in_channels: int = NUM_FEATURES) -> None:
        super().__init__()
        self.first, self.second = GCNConv(in_channels, 8), GCNConv(8, 4)

    def forward(self, x, edge_index):
        return self.second(self.first(x, edge_index).relu(), edge_index)


class GATNet(GCNNet):
    def __init__(self, in_channels: int = NUM_FEATURES) -> None:
        super().__init__()
        self.first, self.second = GATConv(in_channels, 4, heads=2), GATConv(8, 4)


@pytest.mark.parametrize("peer", [False, True])
@pytest.mark.parametrize("order", ["first", "second"])
def test_a_net_of_pytorch_geometric_adapts_like_the_built_in_one(order, peer):
    built_in = make_maml(order=order)
    foreign = make_maml(lambda: ModuleEncoder(GCNNet(), NUM_FEATURES), order=order)
    module = foreign.encoder.module
    with torch.no_grad():
        for layer, conv in zip(built_in.encoder.layers, (module.first, module.second), strict=True):
            conv.lin.weight.copy_(layer.weight.T)
            conv.bias.copy_(layer.bias)
    losses = [m.loss(*field_and_episode(m, peer=peer)) for m in (built_in, foreign)]
    assert_close(losses[0], losses[1])
    wanted = torch.autograd.grad(losses[0].mean(), [p for layer in built_in.encoder.layers for p in layer.parameters()])
    pairs = [p for conv in (module.first, module.second) for p in (conv.lin.weight, conv.bias)]
    found = [g if g.dim() == 1 else g.T for g in torch.autograd.grad(losses[1].mean(), pairs)]
    assert_close(found, wanted, rtol=1e-10)


@pytest.mark.parametrize(
    "make_encoder",
    [
        lambda: ModuleEncoder(GATNet(), NUM_FEATURES),
        lambda: GAT(NUM_FEATURES, hidden=8, dim=4, dropout=0.0, heads=2),
    ],
)
def test_second_order_gradient_through_attention_equals_a_finite_difference(make_encoder):
    method = make_maml(make_encoder, order="second")
    given = field_and_episode(method)
    params = list(method.parameters())
    gradient = torch.autograd.grad(method.loss(*given).mean(), params)
    values = []
    for size in (1e-5, -2e-5):
        torch._foreach_add_([p.data for p in params], gradient, alpha=size)
        values.append(method.loss(*given).mean().item())
    assert sum(g.square().sum() for g in gradient).item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-6)


def test_dropout_is_on_in_every_step_and_on_the_queries_or_nowhere():
    method = make_maml(lambda: GCN(NUM_FEATURES, hidden=8, dim=4, dropout=0.5))
    drawn = []
    method.encoder.dropout.register_forward_hook(lambda module, _, out: drawn.append(module.training))
    losses = [method.loss(*field_and_episode(method)) for _ in range(2)]
    assert drawn == [True] * 8
    assert not torch.equal(*losses)
    method.eval()
    assert torch.equal(*(method.loss(*field_and_episode(method)) for _ in range(2)))
    assert drawn[8:] == [False] * 8


def test_scores_without_gradients_equal_those_of_training_and_leave_the_weights():
    for order in ("first", "second"):
        method = make_maml(order=order)
        before = [p.clone() for p in method.parameters()]
        given = field_and_episode(method)
        with torch.no_grad():
            scores = method.score(*given)
        assert not scores.requires_grad
        assert_close(scores, method.score(*given), rtol=0)
        assert_close(list(method.parameters()), before, rtol=0)
        assert all(p.grad is None for p in method.parameters())


def test_a_frozen_weight_does_not_adapt():
    method, free = make_maml(num_steps=5), make_maml(num_steps=5)
    method.encoder.layers[0].weight.requires_grad_(False)
    loss = method.loss(*field_and_episode(method))
    loss.mean().backward()
    assert method.encoder.layers[0].weight.grad is None
    assert not torch.allclose(loss, free.loss(*field_and_episode(free)))
