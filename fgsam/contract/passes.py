"""What the passes of a step share, what they leave alone, and how many there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from fgsam.contract.check import Promises
from fgsam.contract.subject import (
    Losses,
    Net,
    Subject,
    expect,
    expect_close,
    expect_error,
    expect_same,
    mean_of,
    spied,
    values,
    weights,
)
from fgsam.optim.base import Counts, SharpnessAware

PROMISES = Promises()

NUM_COUNTED_STEPS = 25
"""Enough for the longest and the shortest step of every period in use."""


@PROMISES.check()
def passes_are_as_many_as_stated(subject: Subject) -> None:
    """Forward, backward, peer passes and products of each step lie in the stated range, and reach both of its ends."""
    net = Net(dropout=0.0)
    tally = Tally(net)
    optimizer = subject.build(net)
    longest, shortest = optimizer.counts(len(net.x))
    torch.manual_seed(3)
    seen = [tally.of_step(subject, optimizer) for _ in range(NUM_COUNTED_STEPS)]
    for step, found in enumerate(seen):
        is_within = all(low <= one <= high for low, one, high in zip(shortest, found, longest, strict=True))
        expect(is_within, f"step {step} takes {found}, stated are {shortest} to {longest}")
    expect(longest in seen, f"no step takes the {longest} stated as the longest (got {set(seen)})")
    expect(shortest in seen, f"no step takes the {shortest} stated as the shortest (got {set(seen)})")


@PROMISES.check()
def buffers_move_in_clean_passes_only(subject: Subject) -> None:
    """They are those of a clean forward pass: at the weights before the step, or where the rule says it moves them."""
    net = Net(dropout=0.0)
    optimizer = subject.build(net)
    for _ in range(6):
        before = values(net)
        visited: list[dict[str, Tensor]] = []
        subject.step(optimizer, spied(net.gnn, visited, lambda: weights(net)), net.peer)
        places = [before] if subject.rule.buffers_move_at == "weights" else visited[:1]
        expected = [_buffers_after(before, place) for place in places if visited]
        if not visited or 0 in {counts.clean for counts in optimizer.counts(len(net.x))}:
            expected.append({key: before[key] for key in dict(net.named_buffers())})
        found = {key: value.detach() for key, value in net.named_buffers()}
        is_one = any(all(torch.equal(found[key], one[key]) for key in found) for one in expected)
        moves = int(found["statistics.num_batches_tracked"] - before["statistics.num_batches_tracked"])
        expect(is_one, f"buffers should be those of one clean pass (they moved {moves} times)")


@PROMISES.check()
def buffers_may_be_guarded_for_bare_parameters(subject: Subject) -> None:
    """``guard_buffers`` does for groups what giving the model does."""
    guarded = Net()
    optimizer = subject.build([{"params": list(guarded.parameters())}])
    optimizer.guard_buffers(guarded)
    torch.manual_seed(3)
    for _ in range(3):
        subject.step(optimizer, guarded.gnn, guarded.peer)
    expect_same(values(guarded), values(subject.train(3)[0]), "the net with guarded buffers")


@PROMISES.check()
def random_state_stands_where_the_first_pass_left_it(subject: Subject) -> None:
    """However many passes there are, the next step draws what it would draw after one."""
    net, optimizer = subject.train(1)
    net.eval()

    def draw(losses: Losses) -> Losses:
        return lambda: losses() * torch.empty(8, 5).bernoulli_(0.5).add(1).mean()

    for _ in range(3):
        start = torch.get_rng_state()
        torch.empty(8, 5).bernoulli_(0.5)
        expected = torch.get_rng_state()
        torch.set_rng_state(start)
        subject.step(optimizer, draw(net.gnn), draw(net.peer))
        expect_same(torch.get_rng_state(), expected, "the global random state")


@PROMISES.check()
def passes_share_their_dropout_mask(subject: Subject) -> None:
    """All passes of a step drop the same units, those of the next step others."""
    net, masks = Net(), []
    net.dropout.register_forward_hook(lambda module, args, out: masks.append(out.detach() == 0))
    optimizer = subject.build(net)
    torch.manual_seed(3)
    per_step = []
    for _ in range(3):
        masks.clear()
        subject.step(optimizer, net.gnn, net.peer)
        expect(all(torch.equal(mask, masks[0]) for mask in masks), "two passes of a step have different masks")
        per_step.append(masks[0])
    expect(not torch.equal(per_step[0], per_step[1]), "two steps have the same mask")


@PROMISES.check(how=("backward", "vector", "column", "no_grad"))
def every_kind_of_closure_gives_the_same_step(subject: Subject, how: str) -> None:
    """A closure may return a vector or a column, or call ``backward`` itself; a rule that needs the graph says so."""
    expected = values(subject.train(4)[0])
    net = Net()
    optimizer = subject.build(net)
    kinds: dict[str, Callable[[Losses], Callable[[], Any]]] = {
        "backward": lambda losses: lambda: _calls_backward(optimizer, losses, is_vector=subject.rule.needs_vectors),
        "vector": lambda losses: losses,
        "column": lambda losses: lambda: losses().unsqueeze(-1),
        "no_grad": lambda losses: losses if subject.rule.needs_vectors else mean_of(losses),
    }
    closures = [kinds[how](losses) for losses in (net.gnn, net.peer)[: 2 if subject.rule.peer == "required" else 1]]
    torch.manual_seed(3)
    try:
        with torch.set_grad_enabled(how != "no_grad"):
            for _ in range(4):
                optimizer.step(*closures)
    except TypeError as error:
        expect(how == "backward" and "backward" in str(error), f"closures of kind {how} are refused: {error}")
        return
    for key, value in values(net).items():
        expect_close(value.double(), expected[key].double(), f"'{key}' with closures of kind {how}")


@PROMISES.check()
def micro_episodes_give_the_step_of_all_queries_together(subject: Subject) -> None:
    """A closure may yield the losses of one part of the queries after the other."""
    found: list[dict[str, Tensor]] = []
    for num_parts in (1, 2):
        net = Net().eval()

        def in_parts(losses: Losses, num_parts: int = num_parts) -> Callable[[], Iterator[Tensor]]:
            return lambda: (losses().chunk(num_parts)[i] for i in range(num_parts))

        optimizer = subject.build(net)
        closures = [in_parts(net.gnn), in_parts(net.peer)][: 2 if subject.rule.peer == "required" else 1]
        torch.manual_seed(3)
        for _ in range(3):
            optimizer.step(*closures)
        found.append(weights(net))
    for key, value in found[0].items():
        expect_close(found[1][key], value, f"'{key}' with two micro-episodes", rtol=1e-9, atol=1e-11)


@PROMISES.check(applies=lambda subject: subject.rule.needs_vectors)
def a_single_loss_is_refused_where_queries_are_weighed(subject: Subject) -> None:
    """The message says what to return."""
    net = Net()
    optimizer = subject.build(net)
    closures = [mean_of(net.gnn), mean_of(net.peer)][: 2 if subject.rule.peer == "required" else 1]
    expect_error(TypeError, "one loss a query", lambda: optimizer.step(*closures))


@PROMISES.check()
def loss_of_the_first_pass_is_returned_without_graph(subject: Subject) -> None:
    """It is the mean over the queries, without dimensions."""
    net = Net(dropout=0.0)
    seen: list[Tensor] = []

    def noted(losses: Losses) -> Losses:
        def run() -> Tensor:
            found = losses()
            seen.append(found.detach().mean())
            return found

        return run

    found = subject.step(subject.build(net), noted(net.gnn), noted(net.peer))
    expect_close(found, seen[0], "the returned loss")
    expect(found.ndim == 0, "the returned loss should have no dimensions")
    expect(not found.requires_grad, "the returned loss should have no graph")


@PROMISES.check()
def old_gradients_do_not_enter_the_step(subject: Subject) -> None:
    """What stands in ``grad`` before a step is gone."""
    net = Net()
    for p in net.parameters():
        p.grad = torch.full_like(p, 100.0)
    subject.train(2, net=net)
    expect_same(values(net), values(subject.train(2)[0]), "the net that had old gradients")


@PROMISES.check()
def gradients_that_a_closure_lends_are_not_written_to(subject: Subject) -> None:
    """A tensor that the closure puts into ``grad`` stays its own."""
    w = torch.tensor([[1.0, 2.0]], requires_grad=True)
    lent = torch.tensor([[0.5, -1.0]])

    def closure() -> Tensor:
        w.grad = lent
        return torch.ones(2) if subject.rule.needs_vectors else torch.tensor(1.0)

    optimizer = subject.build([w], lr=0.1)
    try:
        for _ in range(3):
            optimizer.step(*[closure] * (2 if subject.rule.peer == "required" else 1))
    except (TypeError, RuntimeError) as error:
        words = str(error)
        expect("backward" in words or "depends on the parameters" in words, f"the refusal says {words!r}")
    expect_same(lent, torch.tensor([[0.5, -1.0]]), "a gradient that the closure has lent")


@PROMISES.check()
def closures_that_are_missing_or_not_wanted_are_refused(subject: Subject) -> None:
    """The message names the rule and the way out."""
    net = Net()
    optimizer = subject.build(net)
    name = subject.rule.rule
    expect_error(TypeError, "Expected 'closure' to be a function", lambda: optimizer.step())
    if subject.rule.peer == "required":
        expect_error(TypeError, f"Expected 'peer_closure' for rule '{name}'", lambda: optimizer.step(net.gnn))
    else:
        expect_error(
            TypeError, f"Expected no 'peer_closure' for rule '{name}'", lambda: optimizer.step(net.gnn, net.peer)
        )


@PROMISES.check(applies=lambda subject: subject.has_backward)
def a_loss_without_gradient_is_refused(subject: Subject) -> None:
    """A loss that was detached cannot be minimised."""
    net = Net()
    optimizer = subject.build(net)
    words = "closure to return a loss that depends on the parameters"
    expect_error(RuntimeError, words, lambda: subject.step(optimizer, lambda: net.gnn().detach(), net.peer))


def _calls_backward(optimizer: SharpnessAware, losses: Losses, *, is_vector: bool) -> Any:
    optimizer.zero_grad()
    found = losses()
    found.mean().backward()  # type: ignore[no-untyped-call]
    return found if is_vector else found.mean().item()


def _buffers_after(before: dict[str, Tensor], place: dict[str, Tensor]) -> dict[str, Tensor]:
    twin = Net(dropout=0.0)
    twin.load_state_dict({**before, **{key: place[key] for key in dict(twin.named_parameters())}})
    twin.gnn()
    return {key: value.detach() for key, value in twin.named_buffers()}


class Tally:
    """Counts calls of the closures, and what flows back from the losses to the weights."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.calls: Counter[str] = Counter()
        self.name = ""
        net.second.register_forward_hook(self._watch)

    def of_step(self, subject: Subject, optimizer: SharpnessAware) -> Counts:
        """Take a step and count its passes."""
        self.calls.clear()
        before = int(self.net.statistics.num_batches_tracked or 0)
        subject.step(optimizer, self._named("gnn", self.net.gnn), self._named("peer", self.net.peer))
        clean = int(self.net.statistics.num_batches_tracked or 0) - before
        calls = self.calls
        expect(calls["peer back"] == calls["peer"], "a peer pass should have one gradient")
        # The way of a Hessian product leads back through the slopes, and from there through the losses once more.
        backwards = calls["gnn back"] - calls["gnn product"]
        return Counts(calls["gnn"], backwards, calls["peer"], calls["gnn product"], clean)

    def _watch(self, module: nn.Module, args: Any, out: Tensor) -> Any:
        return _Forward.apply(out, self.calls, self.name)  # type: ignore[no-untyped-call]

    def _named(self, name: str, losses: Losses) -> Losses:
        def run() -> Tensor:
            self.calls[name] += 1
            self.name = name
            return losses()

        return run


class _Forward(torch.autograd.Function):
    """The identity, which counts what flows back through it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, calls: Counter[str], name: str) -> Tensor:
        ctx.calls, ctx.name = calls, name
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        ctx.calls[f"{ctx.name} back"] += 1
        return _Back.apply(grad, ctx.calls, ctx.name), None, None  # type: ignore[no-untyped-call]


class _Back(torch.autograd.Function):
    """The identity on the way back, which counts what flows back through it in turn."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, calls: Counter[str], name: str) -> Tensor:
        ctx.calls, ctx.name = calls, name
        return grad.view_as(grad)

    @staticmethod
    def backward(ctx: Any, product: Tensor) -> tuple[Tensor, None, None]:
        ctx.calls[f"{ctx.name} product"] += 1
        return product, None, None
