"""Products with the Hessian are right through every encoder and learner, whose sparse products are our own."""

from __future__ import annotations

import inspect

import pytest
import torch

from fgsam.episodes.sampler import EpisodeSampler
from fgsam.episodes.streams import generator
from fgsam.functional.trees import add, dot, norm
from fgsam.optim.guards import Buffers
from fgsam.optim.passes import Passes
from fgsam.registry import ENCODERS, METHODS
from tests.engine.tiny import SHAPE, tiny_graph

LEARNERS = [name for name in METHODS if getattr(METHODS.load(name), "is_trained", True)]


@pytest.mark.parametrize("encoder", sorted(ENCODERS))
@pytest.mark.parametrize("learner", LEARNERS)
def test_product_equals_a_difference_of_gradients(learner, encoder):
    graph, entry = tiny_graph().to(dtype=torch.float64), ENCODERS.load(encoder)
    dropout = {"dropout": 0.0} if "dropout" in inspect.signature(entry).parameters else {}
    made = METHODS.load(learner)
    named = inspect.signature(made).parameters
    # A first-order gradient is the gradient of nothing, and so has no differences to compare with.
    # Rows of features that are all left out meet the kink of a ReLU, where there are none either.
    smooth = {"order": "second", "num_steps": 2, "feature_drop": 0.0}
    options = {key: value for key, value in smooth.items() if key in named}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        given = [list(range(6)), graph][: made.num_given - 1]
        method = made(lambda: entry(graph.num_features, **dropout), *given, **options).double()
        probe = [torch.randn_like(p) for p in method.parameters()]
    episode = EpisodeSampler(graph.labels, range(6), **SHAPE).draw(generator("episode"))
    field = method.field(graph, episode.nodes)
    lesson = episode if made.learns_from == "episodes" else graph.labels[episode.nodes]
    params = list(method.parameters())

    def gradient_at(shift: float):
        with torch.no_grad():
            for p, z in zip(params, probe, strict=True):
                p.add_(z, alpha=shift)
        with torch.random.fork_rng():
            torch.manual_seed(0)  # one draw of what a learner leaves out of its features
            run = Passes(params, Buffers(method), lambda: method.loss(field, lesson), None)
            gradient, product = run.gnn.with_product(probe)
            run.close()
        with torch.no_grad():
            for p, z in zip(params, probe, strict=True):
                p.sub_(z, alpha=shift)
        return gradient, product

    product = gradient_at(0.0)[1]
    difference = add(gradient_at(1e-7)[0], gradient_at(-1e-7)[0], alpha=-1.0)
    gap = add(product, difference, alpha=-1 / 2e-7)
    assert norm(gap) < 1e-6 * norm(product)
    assert dot(product, probe) != 0
