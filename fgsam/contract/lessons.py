"""What a trained learner promises about its loss, its gradients and its training."""

from __future__ import annotations

from typing import Any, get_args

import torch
from torch import Tensor, nn

from fgsam.contract.check import Promises
from fgsam.contract.learner import Subject, data, exam, poisoned
from fgsam.contract.subject import expect, expect_same, values
from fgsam.engine.options import REQUIRED, read_options
from fgsam.engine.train import Trainer
from fgsam.episodes.episode import Episode
from fgsam.methods.base import Learner, Lesson, Method, PretrainedMethod
from fgsam.registry import OPTIMIZERS

PROMISES = Promises()

PASSES = (False, True)

NUM_STEPS = 12
"""Steps on one lesson, after which its loss must have fallen."""


@PROMISES.check()
def what_the_engine_asks_is_declared(subject: Subject) -> None:
    """Class attributes have one of their values, and every option has a default and a line that describes it."""
    method = subject.method
    expect(issubclass(method, Learner), "it should be derived from fgsam.methods.base.Learner")
    expect(issubclass(method, Method | PretrainedMethod), "it should be derived from Method or from PretrainedMethod")
    expect(method.learns_from in get_args(Lesson), f"'learns_from' is {method.learns_from!r}")
    expect((method.learns_from == "episodes") == issubclass(method, Method), "only a Method learns from episodes")
    flags = [getattr(method, name) for name in ("adapts", "trains_on_edges", "tests_on_edges")]
    expect(all(isinstance(flag, bool) for flag in flags), "'adapts' and '..._on_edges' should be True or False")
    expect(method.num_given in (1, 2, 3), f"'num_given' should be 1, 2 or 3, and is {method.num_given!r}")
    for name, option in read_options(method, num_given=method.num_given).entries.items():
        expect(option.default is not REQUIRED, f"option '{name}' should have a default")
        expect(bool(option.text), f"option '{name}' should be described under 'Args:' in the docstring")


@PROMISES.check(peer=PASSES, dtype=(torch.float32, torch.float64))
def loss_is_one_finite_value_a_target(subject: Subject, peer: bool, dtype: torch.dtype) -> None:
    """A value a query, or a node where it learns from nodes, in the precision of the graph."""
    learner = subject.build(dtype=dtype)
    lesson = subject.lesson(learner)
    loss = subject.loss(learner, lesson, data(dtype).graph, peer=peer)
    asked = lesson.query if isinstance(lesson, Episode) else lesson.nodes
    expect(loss.shape == asked.shape, f"the loss should have shape {tuple(asked.shape)} (got {tuple(loss.shape)})")
    expect(loss.dtype == dtype, f"the loss should be {dtype} (got {loss.dtype})")
    expect(loss.isfinite().all(), "the loss should be finite")


@PROMISES.check(peer=PASSES)
def every_weight_gets_a_finite_gradient(subject: Subject, peer: bool) -> None:
    """All that can be trained is reached by the GNN pass and by the peer pass."""
    learner = subject.build()
    _expect_gradients(subject, learner, peer=peer)


@PROMISES.check(peer=PASSES)
def a_few_steps_lower_the_loss(subject: Subject, peer: bool) -> None:
    """Adam on one lesson brings its loss down by a tenth."""
    learner = subject.build()
    lesson = subject.lesson(learner)
    optimizer = torch.optim.Adam(learner.parameters(), lr=0.01)
    losses: list[Tensor] = []
    for _ in range(NUM_STEPS):
        optimizer.zero_grad()
        losses.append(subject.loss(learner, lesson, peer=peer).mean())
        losses[-1].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    first, last = float(losses[0].detach()), float(losses[-1].detach())
    expect(last < 0.9 * first, f"the loss should fall, and went from {first:.4g} to {last:.4g}")


@PROMISES.check()
def the_peer_reads_the_rows_it_was_given(subject: Subject) -> None:
    """Its field holds the nodes of the lesson alone, and NaN in every other row changes no bit."""
    learner = subject.build()
    lesson = subject.lesson(learner)
    view = learner.field(data().graph, lesson.nodes, peer=True)
    expect_same(view.node_ids.sort().values, lesson.nodes.sort().values, "the nodes of the peer's field")
    others = torch.ones(data().graph.num_nodes, dtype=torch.bool)
    others[lesson.nodes] = False
    expected = subject.loss(learner, lesson, peer=True)
    found = subject.loss(learner, lesson, poisoned(data().graph, others), peer=True)
    expect_same(found, expected, "the peer loss of a graph with NaN elsewhere")


@PROMISES.check()
def same_seed_same_bits(subject: Subject) -> None:
    """Weights, losses and gradients come again."""
    first, second = (_passes(subject) for _ in range(2))
    expect_same(second, first, "what the same seed gives")


@PROMISES.check(optimizer=("fgsam_plus", "esam", "adahessian"))
def every_kind_of_optimizer_trains_it(subject: Subject, optimizer: str) -> None:
    """With peer passes, with a loss a query, and with Hessian products: weights move, stay finite, and come again."""
    first, before = _trained(subject, optimizer)
    second, _ = _trained(subject, optimizer)
    finite = all(bool(value.isfinite().all()) for value in first.values())
    expect(finite, f"weights should be finite after {optimizer}")
    expect(any(not torch.equal(first[key], before[key]) for key in before), f"{optimizer} moved no weight")
    expect_same(second, first, f"the weights that {optimizer} gives")


@PROMISES.check()
def a_module_of_pytorch_geometric_is_an_encoder(subject: Subject) -> None:
    """On its closed field it trains in both passes, and scores episodes."""
    from torch_geometric.nn.models import GraphSAGE

    from fgsam.nn.module import ModuleEncoder

    width = data().graph.num_features
    learner = subject.build(lambda: ModuleEncoder(GraphSAGE(width, 16, num_layers=2, out_channels=8), width))
    for peer in PASSES:
        _expect_gradients(subject, learner, peer=peer)
    logits = subject.logits(learner, exam())
    expect(logits.isfinite().all(), "scores on a module of PyTorch Geometric should be finite")


def _expect_gradients(subject: Subject, learner: nn.Module, *, peer: bool) -> None:
    learner.zero_grad()
    subject.loss(learner, subject.lesson(learner), peer=peer).mean().backward()  # type: ignore[no-untyped-call, arg-type]
    which = "peer" if peer else "GNN"
    trained = {name: param.grad for name, param in learner.named_parameters() if param.requires_grad}
    for name, grad in trained.items():
        expect(grad is not None, f"'{name}' should get a gradient in the {which} pass")
        expect(grad is None or grad.isfinite().all(), f"the gradient of '{name}' should be finite in the {which} pass")
    total = sum(float(grad.abs().sum()) for grad in trained.values() if grad is not None)
    expect(total > 0, f"the {which} pass should have a slope")


def _passes(subject: Subject) -> dict[str, Any]:
    learner = subject.build()
    lesson = subject.lesson(learner)
    found = {}
    for peer in PASSES:
        loss = subject.loss(learner, lesson, peer=peer)
        loss.mean().backward()  # type: ignore[no-untyped-call]
        found[f"loss, {peer=}"] = loss.detach()
    return {
        **found,
        **{name: p.grad for name, p in learner.named_parameters()},
        "logits": subject.logits(learner, exam()),
    }


def _trained(subject: Subject, optimizer: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights after a short training, and before it."""
    learner = subject.build()
    before = values(learner)
    rule = OPTIMIZERS.load(optimizer)(learner, lr=0.01)
    trainer = Trainer(data().task(learner), learner, rule, num_steps=3, val_every=2)
    trainer.fit()
    trainer.choose()
    expect(len(trainer.history) == 2, "training should validate twice")
    return {name: p.detach() for name, p in learner.named_parameters()}, before
