"""A compiled model under optimizers that move its weights in place, run it on two graphs and guard its buffers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from tests.helpers import assert_close
from tests.integrations.problem import batches, net, optimizer_of, same_bits, steps, values

# What the compiler itself warns of while it looks at a layer of PyTorch Geometric.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")

RULES = ["sam", "fgsam", "fgsam_plus"]


@pytest.fixture(autouse=True)
def _nothing_compiled() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


class Counter:
    """A backend that runs what it is given, and counts how often it is asked."""

    def __init__(self) -> None:
        self.num_graphs = 0

    def __call__(self, module: fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        self.num_graphs += 1
        return module.forward


def layers() -> nn.Sequential:
    """A net that is a single graph for the compiler."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 3))


def entropy(model: Callable[[Tensor], Tensor], x: Tensor, labels: Tensor) -> Tensor:
    """Loss of a net without a graph."""
    return nn.functional.cross_entropy(model(x), labels)


@pytest.mark.parametrize(
    ("rules", "backend", "is_given_compiled"),
    [(RULES, "eager", False), (["fgsam"], "eager", True), (["fgsam"], "aot_eager", False)],
)
def test_steps_equal_those_of_the_model_as_it_is(rules: list[str], backend: str, is_given_compiled: bool):
    model = net()
    compiled = torch.compile(model, backend=backend)
    for rule in rules:
        plain = net()
        model.load_state_dict(plain.state_dict())
        list(steps(optimizer_of(rule, plain), plain, batches()))
        list(steps(optimizer_of(rule, compiled if is_given_compiled else model), compiled, batches()))
        assert same_bits(values(model), values(plain))


def test_graphs_of_many_sizes_compile_nothing_after_the_first_steps():
    model, counter = net(), Counter()
    compiled = torch.compile(model, backend=counter)
    for rule in ("fgsam", "sam", "fgsam_plus"):  # the first one has all passes of the others
        seen = [counter.num_graphs for _ in steps(optimizer_of(rule, model), compiled, batches(range(6, 18)))]
        assert seen[4 if rule == "fgsam" else 0] == seen[-1] > 0


def test_moved_weights_compile_nothing_anew():
    counter, model = Counter(), layers()
    compiled = torch.compile(model, backend=counter)
    optimizer = optimizer_of("sam", model)
    for batch in batches():
        optimizer.step(partial(entropy, compiled, batch.x, batch.labels))
    assert counter.num_graphs == 1


def test_a_step_within_a_compiled_function_runs_as_it_is_and_its_model_compiled():
    plain, model, counter = layers(), layers(), Counter()
    compiled, (batch, *_) = torch.compile(model, backend=counter), batches()
    optimizer = optimizer_of("sam", model)
    train_step = torch.compile(partial(optimizer.step, partial(entropy, compiled, batch.x, batch.labels)))
    torch.manual_seed(0)
    train_step()
    torch.manual_seed(0)
    optimizer_of("sam", plain).step(partial(entropy, plain, batch.x, batch.labels))
    assert same_bits(values(model), values(plain))
    assert counter.num_graphs == 1


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_all_passes_of_a_step_share_the_dropout_mask_that_inductor_draws():
    model, seen = layers(), list[float]()
    compiled = torch.compile(model)
    optimizer = optimizer_of("sam", model, rho=0.0)

    def closure() -> Tensor:
        loss = entropy(compiled, batches()[0].x, batches()[0].labels)
        seen.append(float(loss.detach()))
        return loss

    optimizer.step(closure)
    optimizer.step(closure)
    assert seen[0] == seen[1] != seen[2] == seen[3]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_steps_with_inductor_differ_by_rounding():
    plain, model = (layers()[0::3] for _ in range(2))  # without dropout, whose numbers are inductor's own
    for owner, called in ((plain, plain), (model, torch.compile(model))):
        optimizer = optimizer_of("fgsam", owner)
        for batch in batches():
            optimizer.step(*(partial(entropy, called, x, batch.labels) for x in (batch.x, batch.x.flip(1))))
    assert_close(values(model), values(plain), rtol=1e-5)
