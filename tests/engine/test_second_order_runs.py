"""Products with the Hessian are right through every encoder and learner, whose sparse products are our own."""

from __future__ import annotations

import inspect

import pytest
import torch

from fgsam.episodes.sampler import EpisodeSampler
from fgsam.episodes.streams import generator
from fgsam.functional.trees import add, dot, norm
from fgsam.nn.encoders import field_of
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
    with torch.random.fork_rng():
        torch.manual_seed(0)
        method = METHODS.load(learner)(lambda: entry(graph.num_features, **dropout)).double()
        probe = [torch.randn_like(p) for p in method.parameters()]
    episode = EpisodeSampler(graph.labels, range(6), **SHAPE).draw(generator("episode"))
    field = field_of(method.encoder, graph, episode.nodes, peer=False)
    params = list(method.parameters())

    def gradient_at(shift: float):
        with torch.no_grad():
            for p, z in zip(params, probe, strict=True):
                p.add_(z, alpha=shift)
        run = Passes(params, Buffers(method), lambda: method.loss(field, episode), None)
        gradient, product = run.gnn.with_product(probe)
        run.close()
        with torch.no_grad():
            for p, z in zip(params, probe, strict=True):
                p.sub_(z, alpha=shift)
        return gradient, product

    product = gradient_at(0.0)[1]
    difference = add(gradient_at(1e-6)[0], gradient_at(-1e-6)[0], alpha=-1.0)
    gap = add(product, difference, alpha=-1 / 2e-6)
    assert norm(gap) < 1e-6 * norm(product)
    assert dot(product, probe) != 0
