from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fgsam.functional.distances import squared_euclidean
from fgsam.functional.prototypes import class_prototypes
from fgsam.methods.boil import BOIL
from fgsam.nn.encoders import field_of
from tests.helpers import assert_close
from tests.methods.tiny import make_gcn, tiny_episode, tiny_graph
from tests.twins.adapting import adjacency_of, dense_gcn, unrolled


def make_boil(**options) -> BOIL:
    torch.manual_seed(0)
    return BOIL(make_gcn, **{"num_steps": 3, "inner_lr": 0.3, **options}).double()


def field_and_episode(method, *, peer=False):
    episode = tiny_episode()
    return field_of(method.encoder, tiny_graph(), episode.nodes, peer=peer), episode


def start_of(method, *, peer: bool) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The weights that are learned, and those that the steps begin with: encoder, then head."""
    params = list(method.parameters())
    if method.head.start is not None:
        return params, params
    graph, episode = tiny_graph(), tiny_episode()
    rows = dense_gcn(params, graph.x, adjacency_of(graph, peer=peer))[episode.support]
    means = class_prototypes(rows, episode.support_labels, 3)
    aliases = [p.view_as(p) for p in params]
    return params, [*aliases, 2 * means.T, -means.square().sum(1)]


@pytest.mark.parametrize("peer", [False, True])
@pytest.mark.parametrize("num_outputs", [None, 3])
def test_loss_and_second_order_gradient_equal_an_unrolled_loop_with_a_fixed_head(num_outputs, peer):
    method = make_boil(order="second", num_outputs=num_outputs)
    params, start = start_of(method, peer=peer)
    loss = method.loss(*field_and_episode(method, peer=peer))
    slow = unrolled(start, tiny_graph(), tiny_episode(), peer=peer, num_steps=3, rate=0.3, num_fixed=2)
    assert_close(loss, slow)
    assert_close(torch.autograd.grad(loss.mean(), params), torch.autograd.grad(slow.mean(), params), rtol=1e-11)


def test_second_order_gradient_equals_a_finite_difference():
    method = make_boil(order="second")
    given = field_and_episode(method)
    params = list(method.parameters())
    gradient = torch.autograd.grad(method.loss(*given).mean(), params)
    values = []
    for size in (1e-6, -2e-6):
        torch._foreach_add_([p.data for p in params], gradient, alpha=size)
        values.append(method.loss(*given).mean().item())
    assert sum(g.square().sum() for g in gradient).item() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-6)


def test_with_tiny_steps_scores_are_distances_to_the_class_means():
    method = make_boil(num_steps=1, inner_lr=1e-14)
    field, episode = field_and_episode(method)
    rows = method.encoder(field)
    support, query = rows[: episode.num_support], rows[episode.num_support :]
    distances = squared_euclidean(query, class_prototypes(support, episode.support_labels, 3))
    scores = method.score(field, episode)
    assert_close(scores.log_softmax(1), (-distances).log_softmax(1), rtol=1e-9)


def test_the_encoder_moves_in_the_first_step_unless_all_classes_share_the_head():
    for make_shared in (False, True):
        method = make_boil(num_steps=1, num_outputs=3)
        if make_shared:
            with torch.no_grad():
                method.head.start.weight.copy_(method.head.start.weight[:, :1].expand(4, 3))
        field, episode = field_and_episode(method)
        before = method.head.start(method.encoder(field))[episode.num_support :]
        assert torch.allclose(method.score(field, episode), before, rtol=1e-10, atol=1e-13) == make_shared


def test_only_a_learned_head_depends_on_names_of_classes():
    new_name = torch.tensor([2, 0, 1])
    for num_outputs, is_close in ((None, True), (3, False)):
        method = make_boil(num_outputs=num_outputs)
        field, episode = field_and_episode(method)
        renamed = replace(episode, support_labels=new_name[episode.support_labels])
        scores, others = method.score(field, episode), method.score(field, renamed)[:, new_name]
        assert torch.allclose(scores, others, rtol=1e-10, atol=1e-12) == is_close
