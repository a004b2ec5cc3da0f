"""What is left after a step that could not be taken: nothing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fgsam.contract.check import Promises
from fgsam.contract.subject import Losses, Subject, expect, expect_error, expect_same, values

PROMISES = Promises()

NUM_FAILING_CALLS = 6
"""Calls of a step that are made to fail in turn; more are alike."""


@PROMISES.check(num_before=(0, 1, 2))
def a_closure_that_raises_leaves_no_trace(subject: Subject, num_before: int) -> None:
    """In whichever call it happens, the step can be taken anew as if it had not been tried."""
    error = KeyboardInterrupt if num_before == 1 else ZeroDivisionError
    net, optimizer = subject.train(num_before, subject.bases[-1])
    before, state, start = values(net), optimizer.state_dict(), torch.get_rng_state()
    net.gnn()
    after_first = torch.get_rng_state()
    for failing_call in range(NUM_FAILING_CALLS):
        torch.set_rng_state(start)
        net.load_state_dict(before)
        faulty = _Faulty(failing_call, lambda losses: _fail(error))
        try:
            subject.step(optimizer, faulty.watch(net.gnn), faulty.watch(net.peer))
        except error:
            where = f"after an error in call {failing_call} of step {num_before},"
            expect_same(values(net), before, f"{where} the net")
            expect_same(optimizer.state_dict(), state, f"{where} the state")
            expect_same(torch.get_rng_state(), after_first, f"{where} the global random state")
            expect(all(p.grad is None for p in net.parameters()), f"{where} gradients remain")
        else:
            expect(not faulty.is_reached, f"an error in call {failing_call} of step {num_before} was swallowed")
            break
    expect(failing_call > 0, "no closure was called")
    torch.set_rng_state(start)
    net.load_state_dict(before)
    optimizer.load_state_dict(state)
    subject.step(optimizer, net.gnn, net.peer)
    whole = subject.train(num_before + 1, subject.bases[-1])[0]
    expect_same(values(net), values(whole), "the net that took its step after failed tries")


@PROMISES.check(nonfinite=("raise", "skip"), poison=("loss", "gradient"), num_before=(1, 2))
def a_step_that_is_not_finite_changes_nothing(subject: Subject, nonfinite: str, poison: str, num_before: int) -> None:
    """In whichever call it happens, weights, buffers and stored vectors stay, and training can go on."""
    net, optimizer = subject.train(num_before, subject.bases[-1], nonfinite=nonfinite)
    before, state = values(net), optimizer.state_dict()

    def nan(losses: Tensor) -> Tensor:
        return losses * float("nan")

    def steep(losses: Tensor) -> Tensor:
        # The square root has a finite value and an infinite slope at zero.
        return losses + (net.second.bias * 0).sum().abs().sqrt()

    for failing_call in range(NUM_FAILING_CALLS):
        faulty = _Faulty(failing_call, nan if poison == "loss" else steep)
        where = f"after a {poison} that is not finite in call {failing_call} of step {num_before},"
        caught = None
        try:
            subject.step(optimizer, faulty.watch(net.gnn), faulty.watch(net.peer))
        except FloatingPointError as error:
            caught = error
        if not faulty.is_reached:
            break
        # Losses that are asked for without a graph have no slope that could be infinite.
        if poison == "loss" or faulty.has_graph:
            if nonfinite == "raise":
                expect("Expected finite losses and gradients (got " in str(caught), f"{where} an error should say so")
                expect_same(optimizer.state_dict(), state, f"{where} the state")
            else:
                own = {**state["own"], "num_calls": num_before + 1, "num_skipped": 1}
                expect_same(optimizer.state_dict(), {**state, "own": own}, f"{where} the state")
            expect_same(values(net), before, f"{where} the net")
        net.load_state_dict(before)
        optimizer.load_state_dict(state)
    expect(failing_call > 0, "no closure was called")
    for _ in range(3):
        subject.step(optimizer, net.gnn, net.peer)
    expect(all(bool(p.isfinite().all()) for p in net.parameters()), "weights should be finite afterwards")


@PROMISES.check()
def a_closure_that_fails_at_weights_moved_by_nan_is_reported_as_not_finite(subject: Subject) -> None:
    """The message tells of the loss that came first, not of what it led to."""
    w = torch.tensor([[1.0, 2.0]], requires_grad=True)
    optimizer = subject.build([w])
    raised = []

    def gnn() -> Tensor:
        if not w.isfinite().all():
            raised.append(AssertionError("hidden cause"))
            raise raised[0]
        return w.flatten() * float("inf")

    def peer() -> Tensor:
        if not w.isfinite().all():
            raised.append(AssertionError("hidden cause"))
            raise raised[0]
        return w.flatten()

    caught = expect_error(FloatingPointError, "Expected finite", lambda: subject.step(optimizer, gnn, peer))
    expect(caught.__cause__ is (raised[0] if raised else None), "the error should name its cause")
    expect_same(w.detach(), torch.tensor([[1.0, 2.0]]), "weights")


class _Faulty:
    """Closures of which one call, counted over both, goes wrong.

    Args:
        failing_call: Which one, from 0.
        fault: What becomes of its losses.
    """

    def __init__(self, failing_call: int, fault: Callable[[Tensor], Tensor]) -> None:
        self.is_reached = False
        self.has_graph = False
        self._failing_call = failing_call
        self._fault = fault
        self._num_calls = 0

    def watch(self, losses: Losses) -> Losses:
        """Return the closure with its fault."""

        def run() -> Tensor:
            found = losses()
            is_due = self._num_calls == self._failing_call
            self._num_calls += 1
            if not is_due:
                return found
            self.is_reached, self.has_graph = True, torch.is_grad_enabled()
            return self._fault(found)

        return run


def _fail(error: type[BaseException]) -> Tensor:
    raise error
