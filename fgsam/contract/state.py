"""State that can be saved, copied and scheduled."""

from __future__ import annotations

import copy
import io
import pickle
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from fgsam.contract.check import Promises
from fgsam.contract.subject import Net, Subject, expect, expect_close, expect_error, expect_same, values

PROMISES = Promises()


@PROMISES.check(num_before=(1, 2, 5))
def saved_and_reloaded_run_continues_exactly(subject: Subject, base: str, num_before: int) -> None:
    """At every phase of a period, through a file that holds tensors and plain values only."""
    num_steps = num_before + 3
    whole = values(subject.train(num_steps, base)[0])
    net, optimizer = subject.train(num_before, base)
    file = io.BytesIO()
    torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict(), "random": torch.get_rng_state()}, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    fresh = Net()
    with torch.no_grad():
        for p in fresh.parameters():
            p.mul_(2)
    restored = subject.build(fresh, base)
    fresh.load_state_dict(loaded["net"])
    restored.load_state_dict(loaded["optimizer"])
    torch.set_rng_state(loaded["random"])
    for _ in range(3):
        subject.step(restored, fresh.gnn, fresh.peer)
    expect_same(values(fresh), whole, f"the net of a run that was saved after {num_before} steps")
    expect(restored.num_calls == num_steps, "'num_calls' should be saved")


@PROMISES.check()
def deepcopied_model_and_optimizer_continue_by_themselves(subject: Subject) -> None:
    """Copies belong together, go on exactly, and leave the originals alone."""
    _continue_copies(subject, copy.deepcopy)


def _can_be_pickled(subject: Subject) -> bool:
    # A class that was defined inside a function cannot be found again.
    rule = subject.rule
    return getattr(sys.modules.get(rule.__module__), rule.__qualname__, None) is rule


@PROMISES.check(applies=_can_be_pickled)
def pickled_model_and_optimizer_continue_by_themselves(subject: Subject) -> None:
    """Copies by way of bytes do the same."""
    _continue_copies(subject, lambda pair: pickle.loads(pickle.dumps(pair)))


def _continue_copies(subject: Subject, copied: Callable[[Any], Any]) -> None:
    whole = values(subject.train(5)[0])
    net, optimizer = subject.train(3)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1.0)
    random_state = torch.get_rng_state()
    twin, twin_optimizer = copied((net, optimizer))
    is_bound = [id(p) for p in twin_optimizer.param_groups[0]["params"]] == [id(p) for p in twin.parameters()]
    expect(is_bound, "the copied optimizer should hold the parameters of the copied model")
    for one, its_optimizer in ((net, optimizer), (twin, twin_optimizer)):
        torch.set_rng_state(random_state)
        for _ in range(2):
            subject.step(its_optimizer, one.gnn, one.peer)
        expect_same(values(one), whole, "the net of a copied run" if one is twin else "the net that was copied")
    expect(scheduler.optimizer is optimizer, "the scheduler should keep its optimizer")


@PROMISES.check()
def saved_state_shares_no_memory(subject: Subject) -> None:
    """Steps of the optimizer that gave a state, or took it, do not change it."""
    net, optimizer = subject.train(3)
    state = optimizer.state_dict()
    kept = copy.deepcopy(state)
    for _ in range(3):
        subject.step(optimizer, net.gnn, net.peer)
    expect_same(state, kept, "the state of an optimizer that went on")
    other_net = Net()
    other = subject.build(other_net)
    other.load_state_dict(state)
    for _ in range(3):
        subject.step(other, other_net.gnn, other_net.peer)
    expect_same(state, kept, "a state that was loaded elsewhere")


@PROMISES.check()
def foreign_states_are_refused_and_change_nothing(subject: Subject) -> None:
    """States of another rule, version, shape or number of groups."""
    net, optimizer = subject.train(3)
    state = optimizer.state_dict()
    name = subject.rule.rule
    foreign = [
        (f"Expected a state of rule '{name}' (got 'other')", {**state, "rule": "other"}),
        ("Expected a state of version 1 (got version 99)", {**state, "version": 99}),
        ("base_optimizer.load_state_dict", optimizer.base_optimizer.state_dict()),
        (
            "Expected stored vectors to have the shapes",
            {**state, "own": {**state["own"], "shift.0": torch.ones(1)}},
        ),
        ("different number of parameter groups", {**state, "base": {"state": {}, "param_groups": []}}),
    ]
    for words, other in foreign:
        expect_error(ValueError, words, lambda other=other: optimizer.load_state_dict(other))  # type: ignore[misc]
    expect_same(optimizer.state_dict(), state, "the state after refused ones")
    expect(all(bool(p.isfinite().all()) for p in net.parameters()), "weights should be finite")


@PROMISES.check(when=("before", "after"))
def schedulers_reach_the_base_before_and_after_loading(subject: Subject, base: str, when: str) -> None:
    """A scheduler may be made before a state is loaded, or after."""
    _, source = subject.train(3, base)
    net = Net()
    optimizer = subject.build(net, base, **subject.rule.at_rest)
    if when == "after":
        optimizer.load_state_dict(source.state_dict())
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    if when == "before":
        optimizer.load_state_dict(source.state_dict())
    start = optimizer.param_groups[0]["lr"]
    for _ in range(2):
        subject.step(optimizer, net.gnn, net.peer)
        scheduler.step()
    found = torch.tensor(optimizer.base_optimizer.param_groups[0]["lr"])
    expect_close(found, torch.tensor(start / 4), "the learning rate of the base", rtol=1e-6)
    before = values(net)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
        group["weight_decay"] = 0.0
    subject.step(optimizer, net.gnn, net.peer)
    expect_same(net.first.weight.detach(), before["first.weight"], "a weight at lr=0")


@PROMISES.check()
def step_hooks_fire_once_with_this_optimizer(subject: Subject) -> None:
    """Also those that were registered on the base, or for all optimizers."""
    net = Net()
    seen: list[tuple[str, object]] = []
    optimizer = subject.build(net)
    handles = [
        register_optimizer_step_pre_hook(lambda o, a, k: seen.append(("before all", o))),
        register_optimizer_step_post_hook(lambda o, a, k: seen.append(("after all", o))),
        optimizer.register_step_pre_hook(lambda o, a, k: seen.append(("before", o))),
        optimizer.base_optimizer.register_step_post_hook(lambda o, a, k: seen.append(("after", o))),
    ]
    try:
        subject.step(optimizer, net.gnn, net.peer)
    finally:
        for handle in handles:
            handle.remove()
    found = [(when, "this" if o is optimizer else "another") for when, o in seen]
    expected = [(when, "this") for when in ("before all", "before", "after", "after all")]
    expect(found == expected, f"hooks should fire as {expected}, and fire as {found}")


@PROMISES.check()
def state_hooks_see_this_optimizer(subject: Subject) -> None:
    """Hooks around saving and loading may change the state."""
    _, optimizer = subject.train(1)
    seen: list[object] = []
    optimizer.register_state_dict_pre_hook(lambda o: seen.append(o))
    optimizer.register_state_dict_post_hook(lambda o, state: {**state, "note": 1})
    optimizer.register_load_state_dict_pre_hook(lambda o, state: {**state, "own": {**state["own"], "num_calls": 40}})
    optimizer.register_load_state_dict_post_hook(lambda o: seen.append(o))
    state = optimizer.state_dict()
    expect(state.get("note") == 1, "the hook after saving was not asked")
    optimizer.load_state_dict(state)
    expect([one is optimizer for one in seen] == [True, True], "hooks should see this optimizer")
    expect(optimizer.num_calls == 40, "the hook before loading was not asked")


@PROMISES.check()
def weights_that_training_would_end_with_are_lent_and_returned(subject: Subject) -> None:
    """``deployed`` shows them for a while; the present ones come back bit for bit, also after an error."""
    net, optimizer = subject.train(3)
    before, state = values(net), optimizer.state_dict()
    for error in (None, ZeroDivisionError):
        try:
            with optimizer.deployed():
                expect(all(bool(p.isfinite().all()) for p in net.parameters()), "deployed weights should be finite")
                if error:
                    raise error
        except ZeroDivisionError:
            pass
        expect_same(values(net), before, "the net after 'deployed'")
        expect_same(optimizer.state_dict(), state, "the state after 'deployed'")
