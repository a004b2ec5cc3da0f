from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from fgsam.functional.logistic import logistic_regression
from fgsam.methods.fine_tune import FineTune
from fgsam.methods.linear_probe import LinearProbe
from fgsam.nn.encoders import field_of
from tests.helpers import assert_close
from tests.methods.tiny import make_gcn, tiny_episode, tiny_graph


def make_tuned(**options) -> FineTune:
    torch.manual_seed(0)
    return FineTune(make_gcn, [0, 1], **options).double()


def scored(method, graph=None, episode=None):
    graph, episode = graph or tiny_graph(), episode or tiny_episode()
    return method.score(field_of(method.encoder, graph, episode.nodes), episode)


def slow_score(method: FineTune) -> torch.Tensor:
    """A copy of the net, tuned by torch's own SGD."""
    graph, episode = tiny_graph(), tiny_episode()
    encoder = make_gcn()
    encoder.load_state_dict(method.encoder.state_dict())
    with torch.no_grad():
        rows = encoder(field_of(encoder, graph, episode.support))
        low, width = rows.amin(0), rows.amax(0) - rows.amin(0)

    def scale(rows):
        if method.scaling == "none":
            return rows
        return rows / rows.norm(dim=-1, keepdim=True) if method.scaling == "unit" else (rows - low) / width

    found = logistic_regression(scale(rows), episode.support_labels, 3, cost=method.cost)
    head = [nn.Parameter(part) for part in found]
    optimizer = torch.optim.SGD([*encoder.parameters(), *head], lr=method.inner_lr)
    for _ in range(method.num_steps):
        optimizer.zero_grad()
        logits = scale(encoder(field_of(encoder, graph, episode.support))) @ head[0] + head[1]
        nn.functional.cross_entropy(logits, episode.support_labels).backward()
        optimizer.step()
    return scale(encoder(field_of(encoder, graph, episode.query))) @ head[0] + head[1]


@pytest.mark.parametrize("scaling", ["none", "unit", "min_max"])
def test_scores_are_those_of_a_copy_tuned_by_sgd(scaling):
    method = make_tuned(scaling=scaling, num_steps=4, inner_lr=0.3)
    assert_close(scored(method), slow_score(method), rtol=1e-10)


def test_it_begins_with_the_linear_probe_and_leaves_it():
    method = make_tuned(inner_lr=1e-9)
    probe = LinearProbe(make_gcn, [0, 1]).double()
    probe.load_state_dict(method.state_dict())
    assert_close(scored(method), scored(probe), rtol=1e-6)
    assert (scored(make_tuned(inner_lr=0.3)) - scored(probe)).norm() > 0.1 * scored(probe).norm()


def test_tuning_moves_the_encoder_too():
    method, seen = make_tuned(inner_lr=0.3), []
    forward = type(method.encoder).forward

    def recording(encoder, field):
        seen.append(forward(encoder, field).detach())
        return forward(encoder, field)

    method.encoder.forward = recording.__get__(method.encoder)
    scored(method)
    assert (seen[-1][:9] - seen[0]).norm() > 0.05 * seen[0].norm()


def test_weights_that_are_frozen_stay_frozen():
    method = make_tuned(inner_lr=0.3)
    tuned = scored(method)
    next(method.encoder.parameters()).requires_grad_(False)
    assert scored(method).isfinite().all()
    assert (scored(method) - tuned).norm() > 1e-3 * tuned.norm()


def test_an_episode_leaves_weights_gradients_and_mode_as_they_were():
    method = make_tuned().eval()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    with torch.no_grad():
        logits = scored(method)
        assert torch.equal(scored(method), logits)
    assert not logits.requires_grad
    assert not method.training
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    assert all(param.grad is None for param in method.parameters())


def test_names_of_classes_do_not_matter():
    method, episode = make_tuned(inner_lr=0.3), tiny_episode()
    new_name = torch.tensor([2, 0, 1])
    renamed = replace(episode, support_labels=new_name[episode.support_labels])
    assert_close(scored(method, episode=renamed)[:, new_name], scored(method), rtol=1e-6)


def test_a_query_changes_no_other_query_s_score():
    method, episode, graph = make_tuned(), tiny_episode(), tiny_graph()
    whole = method.score(field_of(method.encoder, graph, episode.nodes, peer=True), episode)
    graph.x[episode.query[5]] = torch.nan
    found = method.score(field_of(method.encoder, graph, episode.nodes, peer=True), episode)
    assert found.isnan().any(-1).nonzero().tolist() == [[5]]
    kept = torch.arange(12) != 5
    assert torch.equal(found[kept], whole[kept])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"num_steps": 0}, "'num_steps' to be a whole number"), ({"inner_lr": 0.0}, "'inner_lr' to be positive")],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_tuned(**options)
