"""Promises that every registered optimizer keeps."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from fgsam.optim.base import SharpnessAware
from fgsam.registry import OPTIMIZERS
from tests.twins.optimizers import take_step

NAMES = sorted(OPTIMIZERS)
BASES = {
    "adam": (torch.optim.Adam, {"lr": 0.05, "weight_decay": 1e-3}),
    "adamw": (torch.optim.AdamW, {"lr": 0.05}),
    "momentum": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
}
PLAIN = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
# Every way in which a step may end up calling the closures, in the order of the calls.
NUM_EXACT_CALLS = {"adam": 1, "adamw": 1, "sgd": 1, "sam": 2, "asam": 2, "fgsam": 2, "fgsam_plus": 3}

every_name = pytest.mark.parametrize("name", NAMES)
every_pass = pytest.mark.parametrize(
    ("name", "failing_call"), [(name, call) for name in NAMES for call in range(NUM_EXACT_CALLS[name])]
)
every_base = pytest.mark.parametrize("base", sorted(BASES))


class Net(nn.Module):
    """Two linear maps with dropout, batch statistics, and a parameter that no loss reaches."""

    def __init__(self, *, dropout: float = 0.5, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.first = nn.Linear(4, 5)
        self.statistics = nn.BatchNorm1d(5)
        self.dropout = nn.Dropout(dropout)
        self.second = nn.Linear(5, 3)
        self.unused = nn.Parameter(torch.ones(2))
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=generator))
        self.x = torch.randn(8, 4, generator=generator).to(dtype)
        mixing = torch.rand(8, 8, generator=generator).to(dtype)
        self.mixing = mixing / mixing.sum(1, keepdim=True)
        self.labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
        self.to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.dropout(self.statistics(self.first(x))))

    def gnn_loss(self, reduction: str = "mean") -> Tensor:
        logits = self(self.mixing @ self.x) + self.x[:, :3]
        return nn.functional.cross_entropy(logits, self.labels, reduction=reduction)

    def peer_loss(self, reduction: str = "mean") -> Tensor:
        return nn.functional.cross_entropy(self(self.x), self.labels, reduction=reduction)


def build(name: str, target: Any, base: str = "adam", **options: Any) -> SharpnessAware:
    base_class, base_options = BASES[base]
    if name in PLAIN:
        own = {"lr": 0.05, "momentum": 0.9} if name == "sgd" else {"lr": 0.05}
        return OPTIMIZERS.load(name)(target, **{**own, **options})
    return OPTIMIZERS.load(name)(target, base_class, **{**base_options, **options})


def train(name: str, num_steps: int, base: str = "adam", net: Net | None = None, **options: Any) -> tuple[Net, Any]:
    net = net or Net()
    optimizer = build(name, net, base, **options)
    torch.manual_seed(3)
    for _ in range(num_steps):
        take_step(optimizer, net.gnn_loss, net.peer_loss)
    return net, optimizer


def values(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


def assert_same(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert first.keys() == second.keys()
    for key, value in first.items():
        if isinstance(value, dict):
            assert_same(value, second[key])
        elif isinstance(value, Tensor):
            assert torch.equal(value, second[key]), key
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for one, other in zip(value, second[key], strict=True):
                assert_same(one, other)
        else:
            assert value == second[key], key


def counting(closure: Callable[[], Tensor], calls: list[str], label: str) -> Callable[[], Tensor]:
    def counted() -> Tensor:
        calls.append(label)
        return closure()

    return counted


@every_name
def test_entry_states_what_it_is(name):
    rule = OPTIMIZERS.load(name)
    assert rule.rule == name
    assert rule.peer in ("required", "refused")
    assert isinstance(rule.passes, str)
    assert isinstance(rule.needs_vectors, bool)
    assert rule.neutral is None or isinstance(rule.neutral, dict)
    assert isinstance(build(name, Net()), torch.optim.Optimizer)


@every_base
@pytest.mark.parametrize("name", [name for name in NAMES if OPTIMIZERS.load(name).neutral is not None])
def test_neutral_setting_equals_the_base_bit_for_bit(name, base):
    rule = OPTIMIZERS.load(name)
    if name in PLAIN:
        base_class, options = PLAIN[name], ({"lr": 0.05, "momentum": 0.9} if name == "sgd" else {"lr": 0.05})
    else:
        base_class, options = BASES[base]
    plain = Net()
    reference = base_class(plain.parameters(), **options)
    torch.manual_seed(3)
    for _ in range(5):
        reference.zero_grad()
        plain.gnn_loss().backward()
        reference.step()
    random_state = torch.get_rng_state()
    net, _ = train(name, 5, base, **rule.neutral)
    assert_same(values(net), values(plain))
    assert torch.equal(torch.get_rng_state(), random_state)


@every_name
def test_no_learning_rate_leaves_every_bit(name):
    net = Net()
    before = {key: p.detach().clone() for key, p in net.named_parameters()}
    train(name, 4, "momentum", net, lr=0.0, weight_decay=0.0)
    assert_same({key: p.detach() for key, p in net.named_parameters()}, before)


@every_name
def test_storage_is_never_rebound(name):
    net = Net()
    pointers = [t.data_ptr() for t in (*net.parameters(), *net.buffers())]
    train(name, 4, net=net)
    assert [t.data_ptr() for t in (*net.parameters(), *net.buffers())] == pointers


@every_name
def test_parameter_that_no_pass_reaches_is_left_alone(name):
    net, optimizer = train(name, 4, "adamw")
    assert torch.equal(net.unused, Net().unused)
    assert net.unused not in optimizer.state


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
@every_pass
def test_a_closure_that_raises_leaves_no_trace(name, failing_call, error):
    steps = 2  # after two steps FGSAM+ is due for an exact one, with vectors stored
    net, optimizer = train(name, steps, "momentum")
    before, state, random_start = values(net), optimizer.state_dict(), torch.get_rng_state()
    net.gnn_loss()
    after_first = torch.get_rng_state()
    torch.set_rng_state(random_start)
    net.load_state_dict(before)
    calls: list[str] = []

    def failing(closure: Callable[[], Tensor]) -> Callable[[], Tensor]:
        def wrapped() -> Tensor:
            loss = closure()
            calls.append("call")
            if len(calls) == failing_call + 1:
                raise error
            return loss

        return wrapped

    with pytest.raises(error):
        take_step(optimizer, failing(net.gnn_loss), failing(net.peer_loss))
    assert_same(values(net), before)
    assert_same(optimizer.state_dict(), state)
    assert torch.equal(torch.get_rng_state(), after_first)
    assert all(p.grad is None for p in net.parameters())
    torch.set_rng_state(random_start)
    take_step(optimizer, net.gnn_loss, net.peer_loss)
    assert_same(values(net), values(train(name, steps + 1, "momentum")[0]))


@every_name
def test_random_state_stands_where_the_first_pass_left_it(name):
    net, optimizer = train(name, 1)
    for _ in range(2):
        start = torch.get_rng_state()
        torch.empty(8, 5).bernoulli_(0.5)
        expected = torch.get_rng_state()
        torch.set_rng_state(start)

        def draw(loss: Callable[[], Tensor]) -> Callable[[], Tensor]:
            return lambda: loss() * torch.empty(8, 5).bernoulli_(0.5).add(1).mean()

        net.eval()
        take_step(optimizer, draw(net.gnn_loss), draw(net.peer_loss))
        assert torch.equal(torch.get_rng_state(), expected)


@every_name
def test_passes_share_their_dropout_mask(name):
    net, masks = Net(), []
    net.dropout.register_forward_hook(lambda module, args, out: masks.append(out.detach() == 0))
    optimizer = build(name, net)
    per_step = []
    for _ in range(3):
        masks.clear()
        take_step(optimizer, net.gnn_loss, net.peer_loss)
        assert all(torch.equal(mask, masks[0]) for mask in masks)
        per_step.append(masks[0])
    assert not torch.equal(per_step[0], per_step[1])


@every_name
def test_buffers_move_once_for_each_clean_pass(name):
    net, calls = Net(dropout=0.0), []
    optimizer = build(name, net)
    twin = copy.deepcopy(net)
    for _ in range(4):
        calls.clear()
        twin.load_state_dict({**twin.state_dict(), **dict(net.named_parameters())})
        take_step(optimizer, counting(net.gnn_loss, calls, "gnn"), counting(net.peer_loss, calls, "peer"))
        if "gnn" in calls:
            twin.gnn_loss()
    assert net.statistics.num_batches_tracked == twin.statistics.num_batches_tracked
    assert torch.equal(net.statistics.running_mean, twin.statistics.running_mean)
    assert torch.equal(net.statistics.running_var, twin.statistics.running_var)


@every_name
def test_buffers_may_be_guarded_for_bare_parameters(name):
    guarded = Net()
    optimizer = build(name, [{"params": list(guarded.parameters())}])
    optimizer.guard_buffers(guarded)
    torch.manual_seed(3)
    for _ in range(3):
        take_step(optimizer, guarded.gnn_loss, guarded.peer_loss)
    assert_same(values(guarded), values(train(name, 3)[0]))


@pytest.mark.parametrize("how", ["backward", "vector", "vector_column", "no_grad_around"])
@every_name
def test_every_kind_of_closure_gives_the_same_step(name, how):
    expected = values(train(name, 4)[0])
    net = Net()
    optimizer = build(name, net)

    def closure(loss: Callable[..., Tensor]) -> Callable[[], Any]:
        def backward() -> Any:
            optimizer.zero_grad()
            value = loss()
            value.backward()
            return value.item()

        kinds = {
            "backward": backward,
            "vector": lambda: loss(reduction="none"),
            "vector_column": lambda: loss(reduction="none").unsqueeze(-1),
            "no_grad_around": loss,
        }
        return kinds[how]

    torch.manual_seed(3)
    with torch.set_grad_enabled(how != "no_grad_around"):
        for _ in range(4):
            take_step(optimizer, closure(net.gnn_loss), closure(net.peer_loss))
    found = values(net)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-12, atol=1e-14)


@every_name
def test_loss_of_the_first_pass_is_returned_without_graph(name):
    net = Net(dropout=0.0)
    expected = copy.deepcopy(net).gnn_loss()
    found = take_step(build(name, net), lambda: net.gnn_loss(reduction="none"), net.peer_loss)
    torch.testing.assert_close(found, expected.detach())
    assert found.ndim == 0
    assert not found.requires_grad


@every_name
def test_old_gradients_do_not_enter_the_step(name):
    net = Net()
    for p in net.parameters():
        p.grad = torch.full_like(p, 100.0)
    train(name, 2, net=net)
    assert_same(values(net), values(train(name, 2)[0]))


@every_base
@pytest.mark.parametrize("num_before", [1, 2, 3])
@every_name
def test_saved_and_reloaded_run_continues_exactly(name, num_before, base):
    whole = values(train(name, 6, base)[0])
    net, optimizer = train(name, num_before, base)
    file = io.BytesIO()
    torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict(), "random": torch.get_rng_state()}, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    fresh = Net()
    with torch.no_grad():
        for p in fresh.parameters():
            p.mul_(2)
    restored = build(name, fresh, base)
    fresh.load_state_dict(loaded["net"])
    restored.load_state_dict(loaded["optimizer"])
    torch.set_rng_state(loaded["random"])
    for _ in range(6 - num_before):
        take_step(restored, fresh.gnn_loss, fresh.peer_loss)
    assert_same(values(fresh), whole)
    assert restored.num_calls == 6


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
@every_name
def test_a_copy_of_model_and_optimizer_continues_by_itself(name, copied):
    whole = values(train(name, 5)[0])
    net, optimizer = train(name, 3)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1.0)
    random_state = torch.get_rng_state()
    twin, twin_optimizer = copied((net, optimizer))
    assert [id(p) for p in twin_optimizer.param_groups[0]["params"]] == [id(p) for p in twin.parameters()]
    for one, its_optimizer in ((net, optimizer), (twin, twin_optimizer)):
        torch.set_rng_state(random_state)
        for _ in range(2):
            take_step(its_optimizer, one.gnn_loss, one.peer_loss)
        assert_same(values(one), whole)
    assert scheduler.optimizer is optimizer


@every_name
def test_saved_state_shares_no_memory(name):
    net, optimizer = train(name, 3)
    state = optimizer.state_dict()
    kept = copy.deepcopy(state)
    take_step(optimizer, net.gnn_loss, net.peer_loss)
    assert_same(state, kept)
    other_net = Net()
    other = build(name, other_net)
    other.load_state_dict(state)
    for _ in range(2):
        take_step(other, other_net.gnn_loss, other_net.peer_loss)
    assert_same(state, kept)


@every_name
def test_foreign_states_are_refused_and_change_nothing(name):
    net, optimizer = train(name, 3)
    state = optimizer.state_dict()
    with pytest.raises(ValueError, match=f"Expected a state of rule '{name}' \\(got 'other'\\)"):
        optimizer.load_state_dict({**state, "rule": "other"})
    with pytest.raises(ValueError, match="Expected a state of version 1 \\(got version 99\\)"):
        optimizer.load_state_dict({**state, "version": 99})
    with pytest.raises(ValueError, match=r"base_optimizer\.load_state_dict"):
        optimizer.load_state_dict(optimizer.base_optimizer.state_dict())
    with pytest.raises(ValueError, match="Expected stored vectors to have the shapes"):
        optimizer.load_state_dict({**state, "own": {**state["own"], "shift.0": torch.ones(1)}})
    with pytest.raises(ValueError, match="different number of parameter groups"):
        optimizer.load_state_dict({**state, "base": {"state": {}, "param_groups": []}})
    assert_same(optimizer.state_dict(), state)
    assert all(p.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("when", ["before", "after"])
@every_name
def test_schedulers_reach_the_base_before_and_after_loading(name, when):
    _, source = train(name, 3)
    net = Net()
    optimizer = build(name, net)
    if when == "after":
        optimizer.load_state_dict(source.state_dict())
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    if when == "before":
        optimizer.load_state_dict(source.state_dict())
    start = optimizer.param_groups[0]["lr"]
    for _ in range(2):
        take_step(optimizer, net.gnn_loss, net.peer_loss)
        scheduler.step()
    assert optimizer.base_optimizer.param_groups[0]["lr"] == pytest.approx(start / 4)
    before = values(net)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
        group["weight_decay"] = 0.0
    take_step(optimizer, net.gnn_loss, net.peer_loss)
    assert torch.equal(net.first.weight, before["first.weight"])


@every_name
def test_step_hooks_fire_once_with_this_optimizer(name):
    net, seen = Net(), []
    optimizer = build(name, net)
    handles = [
        register_optimizer_step_pre_hook(lambda o, a, k: seen.append(("global before", o))),
        register_optimizer_step_post_hook(lambda o, a, k: seen.append(("global after", o))),
        optimizer.register_step_pre_hook(lambda o, a, k: seen.append(("before", o))),
        optimizer.base_optimizer.register_step_post_hook(lambda o, a, k: seen.append(("after", o))),
    ]
    try:
        take_step(optimizer, net.gnn_loss, net.peer_loss)
    finally:
        for handle in handles:
            handle.remove()
    assert seen == [(when, optimizer) for when in ("global before", "before", "after", "global after")]


@every_name
def test_state_hooks_see_this_optimizer(name):
    _, optimizer = train(name, 1)
    seen = []
    optimizer.register_state_dict_pre_hook(lambda o: seen.append(o))
    optimizer.register_state_dict_post_hook(lambda o, state: {**state, "note": 1})
    optimizer.register_load_state_dict_pre_hook(lambda o, state: {**state, "own": {**state["own"], "num_calls": 40}})
    optimizer.register_load_state_dict_post_hook(lambda o: seen.append(o))
    state = optimizer.state_dict()
    assert state["note"] == 1
    optimizer.load_state_dict(state)
    assert seen == [optimizer, optimizer]
    assert optimizer.num_calls == 40


@every_name
def test_one_group_equals_several(name):
    single, several = Net(), Net()
    params = list(several.parameters())
    groups = [{"params": params[:3]}, {"params": params[3:5]}, {"params": params[5:]}]
    optimizers = build(name, single), build(name, groups)
    for net, optimizer in zip((single, several), optimizers, strict=True):
        optimizer.guard_buffers(net)
        torch.manual_seed(3)
        for _ in range(4):
            take_step(optimizer, net.gnn_loss, net.peer_loss)
    assert_same(values(single), values(several))


@every_name
def test_added_groups_take_the_defaults(name):
    net = Net()
    optimizer = build(name, [net.first.weight])
    optimizer.add_param_group({"params": [net.second.weight], "lr": 0.2})
    assert optimizer.param_groups[1]["lr"] == 0.2
    first, second = optimizer.param_groups
    assert first.keys() == second.keys()
    assert all(second[key] == first[key] for key in first if key not in ("params", "lr"))
    take_step(optimizer, net.gnn_loss, net.peer_loss)


@every_name
def test_named_parameters_are_taken(name):
    net = Net()
    optimizer = build(name, net.named_parameters())
    assert optimizer.param_groups[0]["param_names"][:2] == ["unused", "first.weight"]
    take_step(optimizer, net.gnn_loss, net.peer_loss)


@every_name
def test_frozen_parameters_never_move(name):
    net = Net()
    net.first.weight.requires_grad_(False)
    before, seen = net.first.weight.clone(), []

    def watched(loss: Callable[[], Tensor]) -> Callable[[], Tensor]:
        def run() -> Tensor:
            seen.append(torch.equal(net.first.weight, before))
            return loss()

        return run

    optimizer = build(name, net, "adamw")
    for _ in range(3):
        take_step(optimizer, watched(net.gnn_loss), watched(net.peer_loss))
    assert all(seen)
    assert torch.equal(net.first.weight, before)
    assert not net.first.weight.requires_grad


@every_name
def test_tied_weights_count_once(name):
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
            self.first.weight = nn.Parameter(torch.eye(3, dtype=torch.float64) * 0.5)
            self.second.weight = self.first.weight

    tied, single = Tied(), torch.nn.Parameter(torch.eye(3, dtype=torch.float64) * 0.5)
    x = torch.arange(6, dtype=torch.float64).view(2, 3) / 6
    optimizers = build(name, tied, "momentum"), build(name, [single], "momentum")
    for _ in range(4):
        take_step(optimizers[0], lambda: tied.second(tied.first(x)).pow(2).sum(), lambda: tied.first(x).pow(2).sum())
        take_step(optimizers[1], lambda: (x @ single.T @ single.T).pow(2).sum(), lambda: (x @ single.T).pow(2).sum())
    torch.testing.assert_close(tied.first.weight.detach(), single.detach(), rtol=1e-12, atol=1e-14)


@every_name
def test_zero_gradients_move_nothing(name):
    net = Net()
    before = {key: p.detach().clone() for key, p in net.named_parameters()}
    optimizer = build(name, net, "momentum", weight_decay=0.0)
    for _ in range(4):
        take_step(optimizer, lambda: 0 * net.gnn_loss(), lambda: 0 * net.peer_loss())
    assert_same({key: p.detach() for key, p in net.named_parameters()}, before)


@every_name
def test_gradients_that_come_and_go_are_zero_when_gone(name):
    params = [torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True) for _ in range(3)]
    dense = [p.detach().clone().requires_grad_() for p in params]
    options = {"lr": 0.02} if name in ("adam", "adamw") else {"lr": 0.02, "momentum": 0.0}
    optimizers = build(name, params, "momentum", **options), build(name, dense, "momentum", **options)
    for t in range(6):
        for optimizer, (a, b, c), rest in ((optimizers[0], params, 0.0), (optimizers[1], dense, 1.0)):

            def gnn(a: Tensor = a, b: Tensor = b, c: Tensor = c, rest: float = rest, t: int = t) -> Tensor:
                loss = a.pow(4).sum() + (b.pow(2).sum() if t % 2 else 0)
                return loss + 0 * (b.sum() + c.sum()) if rest else loss

            def peer(a: Tensor = a, b: Tensor = b, c: Tensor = c, rest: float = rest, t: int = t) -> Tensor:
                loss = a.pow(2).sum() + (c.pow(2).sum() if t % 3 else 0)
                return loss + 0 * (b.sum() + c.sum()) if rest else loss

            take_step(optimizer, gnn, peer)
    assert all(p.isfinite().all() for p in params)
    # Adam alone moves on for a zero gradient and stays for a missing one; its other parameters do not feel that.
    for one, other in list(zip(params, dense, strict=True))[: 1 if name in ("adam", "adamw") else 3]:
        torch.testing.assert_close(one.detach(), other.detach(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("poisoned", ["loss", "gradient"])
@pytest.mark.parametrize("nonfinite", ["raise", "skip"])
@every_pass
def test_a_step_that_is_not_finite_changes_nothing(name, nonfinite, failing_call, poisoned):
    net, optimizer = train(name, 2, "momentum", nonfinite=nonfinite)
    before, state, calls = values(net), optimizer.state_dict(), []

    def poison(closure: Callable[[], Tensor]) -> Callable[[], Tensor]:
        def wrapped() -> Tensor:
            calls.append("call")
            loss = closure()
            if len(calls) != failing_call + 1:
                return loss
            # The square root has a finite value and an infinite slope at zero.
            return loss * float("nan") if poisoned == "loss" else loss + (net.second.bias * 0).sum().abs().sqrt()

        return wrapped

    def step() -> Tensor:
        return take_step(optimizer, poison(net.gnn_loss), poison(net.peer_loss))

    if nonfinite == "raise":
        with pytest.raises(FloatingPointError, match=r"Expected finite losses and gradients \(got .* loss .*norm"):
            step()
        assert_same(optimizer.state_dict(), state)
    else:
        step()
        state["own"].update(num_calls=3, num_skipped=1)
        assert_same(optimizer.state_dict(), state)
        assert optimizer.num_skipped == 1
    assert_same(values(net), before)
    for _ in range(3):
        take_step(optimizer, net.gnn_loss, net.peer_loss)
    assert all(p.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("name", [name for name in NAMES if NUM_EXACT_CALLS[name] > 1])
def test_a_closure_that_fails_at_weights_moved_by_nan_is_reported_as_not_finite(name):
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    optimizer = build(name, [w])

    def closure() -> Tensor:
        if w.isnan().any():
            raise AssertionError("hidden cause")
        return w.sum() * float("inf")

    with pytest.raises(FloatingPointError) as caught:
        take_step(optimizer, closure, lambda: closure() * 0 if w.isnan().any() else w.sum())
    assert isinstance(caught.value.__cause__, AssertionError)
    assert torch.equal(w, torch.tensor([1.0, 2.0]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@every_name
def test_every_precision_learns_and_keeps_its_type(name, dtype):
    w = torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=dtype, requires_grad=True)
    optimizer = build(name, [w], lr=0.05)
    losses = [float(take_step(optimizer, lambda: (w**2).sum(), lambda: (w**2).sum() + (w**4).sum())) for _ in range(10)]
    assert w.dtype == dtype
    assert losses[-2] < losses[0]
    assert all(not isinstance(v, Tensor) or v.dtype == dtype for v in optimizer.own.values())


@every_name
def test_types_may_be_mixed(name):
    a = torch.ones(2, 2, dtype=torch.float64, requires_grad=True)
    b = torch.ones(3, dtype=torch.bfloat16, requires_grad=True)
    c = torch.ones(2, dtype=torch.float32, requires_grad=True)
    optimizer = build(name, [a, b, c])

    def loss(power: int) -> Tensor:
        return a.pow(power).sum() + b.pow(power).sum().double() + c.pow(power).sum().double()

    for _ in range(4):
        take_step(optimizer, lambda: loss(2), lambda: loss(4))
    assert [p.dtype for p in (a, b, c)] == [torch.float64, torch.bfloat16, torch.float32]
    assert all(p.isfinite().all() and (p < 1).all() for p in (a, b, c))


@every_base
@every_name
def test_complex_parameters_move_like_pairs_of_real_ones(name, base):
    start = torch.tensor([[1 + 2j, -0.5 + 1j]], dtype=torch.complex128)
    z = start.clone().requires_grad_()
    # The operator of ASAM scales by the absolute value of the complex weight, not by those of its two parts.
    pairs = None if name == "asam" else torch.view_as_real(start).clone().requires_grad_()
    rotation = torch.tensor(0.6 + 0.8j, dtype=torch.complex128)

    def gnn(w: Tensor) -> Tensor:
        return (w * rotation - 1).abs().pow(2).sum() + w.abs().pow(4).sum()

    def peer(w: Tensor) -> Tensor:
        return (w - 1j).abs().pow(2).sum()

    optimizer = build(name, [z], base)
    for _ in range(4):
        take_step(optimizer, lambda: gnn(z), lambda: peer(z))
    assert z.isfinite().all()
    if pairs is not None:
        twin = build(name, [pairs], base)
        for _ in range(4):
            take_step(twin, lambda: gnn(torch.view_as_complex(pairs)), lambda: peer(torch.view_as_complex(pairs)))
        torch.testing.assert_close(torch.view_as_real(z.detach()), pairs.detach(), rtol=1e-10, atol=1e-12)


@every_name
def test_passes_are_as_many_as_stated(name):
    net, calls = Net(), []
    optimizer = build(name, net)
    take_step(optimizer, counting(net.gnn_loss, calls, "GNN"), counting(net.peer_loss, calls, "peer"))
    stated = optimizer.passes.split(" every ")[0].split(" + ")
    assert [f"{calls.count(kind)} {kind}" for kind in dict.fromkeys(calls)] == stated
    assert len(calls) == NUM_EXACT_CALLS[name]


@pytest.mark.parametrize("scale", [1.0, 37.0])
@pytest.mark.parametrize("name", ["sam", "fgsam", "fgsam_plus"])
def test_weights_move_by_the_radius_whatever_the_scale_of_the_loss(name, scale):
    net, seen = Net(dropout=0.0), []

    def watched(loss: Callable[[], Tensor]) -> Callable[[], Tensor]:
        def run() -> Tensor:
            seen.append(nn.utils.parameters_to_vector(net.parameters()).detach().clone())
            return scale * loss()

        return run

    take_step(build(name, net, rho=0.3), watched(net.gnn_loss), watched(net.peer_loss))
    torch.testing.assert_close((seen[-1] - seen[0]).norm(), torch.tensor(0.3, dtype=torch.float64))
    unscaled = Net(dropout=0.0)
    g = torch.autograd.grad(unscaled.gnn_loss(), list(unscaled.parameters()), allow_unused=True, materialize_grads=True)
    flat = torch.cat([one.flatten() for one in g])
    torch.testing.assert_close(seen[-1] - seen[0], 0.3 * flat / flat.norm(), rtol=1e-9, atol=1e-12)


@every_name
def test_closures_that_are_missing_or_not_wanted_are_refused(name):
    net = Net()
    optimizer = build(name, net)
    with pytest.raises(TypeError, match="Expected 'closure' to be a function"):
        optimizer.step(None)
    if optimizer.peer == "required":
        with pytest.raises(TypeError, match=f"Expected 'peer_closure' for rule '{name}'"):
            optimizer.step(net.gnn_loss)
    else:
        with pytest.raises(TypeError, match=f"Expected no 'peer_closure' for rule '{name}'"):
            optimizer.step(net.gnn_loss, net.peer_loss)


@every_name
def test_a_loss_without_gradient_is_refused(name):
    net = Net()
    optimizer = build(name, net)
    with pytest.raises(RuntimeError, match="Expected the GNN closure to return a loss that depends on the parameters"):
        take_step(optimizer, lambda: net.gnn_loss().detach(), net.peer_loss)
    with pytest.raises(RuntimeError, match="without detach, no_grad or item"):
        take_step(optimizer, lambda: net.gnn_loss().item(), net.peer_loss)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_gradients_that_a_closure_lends_are_not_written_to(name):
    w = torch.tensor([[1.0, 2.0]], requires_grad=True)
    lent = torch.tensor([[0.5, -1.0]])

    def closure():
        w.grad = lent
        return torch.tensor(1.0)

    optimizer = OPTIMIZERS.load(name)([w], lr=0.1)
    for _ in range(2):
        optimizer.step(*[closure] * (2 if optimizer.peer == "required" else 1))
    assert torch.equal(lent, torch.tensor([[0.5, -1.0]]))
