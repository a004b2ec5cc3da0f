from __future__ import annotations

import numpy as np
import pytest
import torch

from fgsam.advice import timing
from fgsam.advice.probe import Losses, Nodes, initial_model
from fgsam.advice.timing import MEASURED, Costs, Plan, time_steps
from fgsam.graph.graph import Graph
from fgsam.nn.gcn import GCN
from fgsam.optim.base import Counts
from fgsam.registry import OPTIMIZERS

COSTS = Costs(forward=1.0, gnn=3.0, peer=0.5, product=4.0)


def plan_of(name: str, **options: int) -> Plan:
    rule = OPTIMIZERS.load(name)([torch.zeros(2, requires_grad=True)], **options)
    return Plan.of(rule, num_queries=10)


def test_the_passes_of_a_step_add_up():
    assert COSTS.of(Counts(2, 2)) == 6.0
    assert COSTS.of(Counts(1, 1, peer=2)) == 4.0
    assert COSTS.of(Counts(2, 0)) == 2.0
    assert COSTS.of(Counts(1, 1, products=1)) == 7.0


def test_a_pass_that_cannot_be_run_has_no_price():
    costs = Costs(forward=1.0, gnn=3.0, peer=None, product=None)
    assert costs.of(Counts(2, 2)) == 6.0
    assert costs.of(Counts(1, 1, peer=1)) is None
    assert costs.of(Counts(1, 1, products=1)) is None


def test_the_mean_is_over_the_period():
    plan = plan_of("fgsam_plus", refresh_every=4)
    assert (plan.period, plan.num_steps) == (4, 4)
    assert plan.mean(COSTS, 4) == pytest.approx(((3.0 + 2 * 0.5) + 3 * 0.5) / 4)
    assert plan_of("fgsam_plus", refresh_every=1).period == 1
    assert plan_of("sam").period == 1


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_a_rule_whose_steps_differ_keeps_a_period_or_chooses_by_what_it_meets(name: str):
    plan = plan_of(name)
    assert (plan.period is None) == (name == "aesam")
    assert plan.num_steps <= timing.MOST_STEPS


@pytest.mark.parametrize("has_peer", [True, False])
def test_every_rule_that_can_be_used_is_predicted(has_peer: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(timing, "MOST_ROUNDS", 1)
    rng = np.random.default_rng(0)
    x, edges = rng.random((30, 4), dtype=np.float32), rng.integers(0, 30, (2, 60))
    graph = Graph.from_arrays(x, edges, np.arange(30) % 3, directed=False)
    model = initial_model(GCN(4), graph)
    losses = Losses(model, graph, Nodes.of(graph, 256))
    before = [param.detach().clone() for param in model.parameters()]
    times = time_steps(losses, 15, has_peer=has_peer, seconds=60.0)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert [step.optimizer for step in times.steps] == list(OPTIMIZERS)
    for step in times.steps:
        needs_peer = OPTIMIZERS.load(step.optimizer).peer == "required"
        assert (step.longest is None) == (needs_peer and not has_peer)
        assert (step.measured is None) == (step.optimizer not in MEASURED or step.longest is None)
        if step.mean is not None:
            assert step.shortest is not None
            assert step.longest is not None
            assert step.shortest <= step.mean * (1 + 1e-9) <= step.longest * (1 + 2e-9)


def test_steps_that_take_too_long_are_predicted_only(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(timing, "MOST_ROUNDS", 1)
    graph = Graph.from_arrays(np.eye(8, dtype=np.float32), [[0, 1], [1, 2]], np.arange(8) % 2, directed=False)
    losses = Losses(initial_model(GCN(8), graph), graph, Nodes.of(graph, 256))
    times = time_steps(losses, 4, has_peer=True, seconds=0.0)
    assert times.of("sam").mean is not None
    assert {step.measured for step in times.steps} == {None}
    assert times.num_rounds == 1
