from __future__ import annotations

import contextlib
import copy
import pickle

import pytest
import torch
from torch import nn

from fgsam.contract.subject import Subject, expect_same, values
from fgsam.optim.fgsam_plus import FGSAMPlus
from fgsam.optim.sam import SAM
from fgsam.registry import OPTIMIZERS

SHORTER = {"sa_gd": {"num_ascents": 2}}


def net_and_data():
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3))
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) / 2)
    return net, torch.randn(12, 4, generator=generator), torch.arange(12) % 3


def train(name, where, *, num_steps=4, in_parts=False, **options):
    """Weights after some steps with autocast within the closure or around the step."""
    net, x, y = net_and_data()
    optimizer = OPTIMIZERS.load(name)(net, lr=0.05, **options)
    torch.manual_seed(0)

    def on(place):
        return torch.autocast("cpu", torch.bfloat16) if place == where else contextlib.nullcontext()

    def loss(rows):
        hidden = net[:2](x[rows])
        with torch.autocast("cpu", enabled=False):  # its backward is in full precision, too
            return nn.functional.cross_entropy(net[2](hidden.float()), y[rows])

    def closure():
        with on("inside"):
            return loss(slice(None))

    def parts():
        with on("inside"):
            yield loss(slice(0, 6))
            yield loss(slice(6, 12))

    for _ in range(num_steps):
        with on("around"):
            chosen = parts if in_parts else closure
            optimizer.step(*[chosen] * (2 if optimizer.peer == "required" else 1))
            assert torch.is_autocast_enabled("cpu") == (where == "around")
    assert not torch.is_autocast_enabled("cpu")
    return torch.cat([p.detach().flatten() for p in net.parameters()])


@pytest.mark.parametrize("in_parts", [False, True])
@pytest.mark.parametrize("name", ["sam", "fgsam_plus", "sassha", "zeroth_order_tilted_sam", "adam"])
def test_autocast_around_the_step_gives_the_bits_of_autocast_within_the_closure(name, in_parts):
    around, inside, without = (train(name, where, in_parts=in_parts) for where in ("around", "inside", "nowhere"))
    assert torch.equal(around, inside)
    assert not torch.equal(around, without)


def test_the_second_pass_sees_moved_weights_under_autocast():
    assert not torch.equal(train("sam", "around", rho=1.0), train("sam", "around", rho=0.0))


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_a_scaler_changes_no_bit_in_full_precision(name, enabled):
    """The scale is a power of two, and gradients are in true units wherever a rule sees or keeps them."""
    subject = Subject(OPTIMIZERS.load(name), SHORTER.get(name, {}))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2, enabled=enabled)
    (net, plain), (scaled_net, scaled) = subject.train(4), subject.train(4, scaler=scaler)
    expect_same(values(net), values(scaled_net), "the net")
    expect_same(plain.state_dict(), scaled.state_dict(), "the state")
    assert scaler.get_scale() == (2.0**12 if enabled else 1.0)


def overflowing(w, at_call):
    calls = []

    def closure():
        calls.append(len(calls))
        return (w**2).sum() * (1e5 if calls[-1] == at_call else 1.0)

    return closure


@pytest.mark.parametrize("nonfinite", ["raise", "skip"])
@pytest.mark.parametrize("at_call", [0, 1])
def test_a_step_in_which_a_pass_overflows_is_skipped_whole_and_lowers_the_scale(at_call, nonfinite):
    w = torch.tensor([1.0], requires_grad=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120, growth_interval=1)
    optimizer = SAM([w], torch.optim.SGD, lr=0.25, rho=0.0, scaler=scaler, nonfinite=nonfinite)
    closure = overflowing(w, at_call)
    optimizer.step(closure)
    assert (w.item(), optimizer.num_skipped, scaler.get_scale()) == (1.0, 1, 2.0**119)
    optimizer.step(closure if at_call == 1 else lambda: (w**2).sum())
    assert (w.item(), optimizer.num_skipped, scaler.get_scale()) == (0.5, 1, 2.0**120)


def test_own_state_stays_when_the_last_pass_overflows():
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120)
    optimizer = FGSAMPlus([w], torch.optim.SGD, lr=0.25, refresh_every=1, scaler=scaler)
    optimizer.step(lambda: (w**2).sum(), lambda: w.sum())
    before = {key: value for key, value in optimizer.state_dict()["own"].items() if "num" not in key}
    optimizer.step(lambda: (w**2).sum(), overflowing(w, 1))
    after = {key: value for key, value in optimizer.state_dict()["own"].items() if "num" not in key}
    expect_same(before, after, "the stored vector")
    assert optimizer.num_skipped == 1


def test_half_precision_keeps_gradients_that_would_vanish():
    found = {}
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=2.0**16)):
        net, x, y = net_and_data()

        def closure(net=net, x=x, y=y):
            with torch.autocast("cpu", torch.float16):
                logits = net(x)
            return 1e-8 * nn.functional.cross_entropy(logits.float(), y)

        optimizer = SAM(net, torch.optim.SGD, lr=1e8, rho=0.01, scaler=scaler)
        losses = [1e8 * optimizer.step(closure).item() for _ in range(10)]
        found[scaler is None] = losses
    assert found[True][-1] == found[True][0]
    assert found[False][-1] < found[False][0] / 2


def test_a_closure_that_calls_backward_scales_by_itself():
    found = []
    for calls_backward in (True, False):
        net, x, y = net_and_data()
        scaler = torch.amp.GradScaler("cpu")
        optimizer = SAM(net, lr=0.05, scaler=scaler)

        def closure(net=net, x=x, y=y, scaler=scaler, calls_backward=calls_backward):
            loss = nn.functional.cross_entropy(net(x), y)
            if calls_backward:
                scaler.scale(loss).backward()
            return loss

        found.append([optimizer.step(closure).item() for _ in range(4)])
    assert found[0] == found[1]


def test_a_scaler_that_takes_the_optimizer_for_an_ordinary_one_is_refused():
    w = torch.tensor([1.0], requires_grad=True)
    scaler = torch.amp.GradScaler("cpu")
    optimizer = SAM([w], lr=0.1, scaler=scaler)
    optimizer.step(lambda: (w**2).sum())
    for call in (
        lambda: scaler.step(optimizer, lambda: (w**2).sum()),
        lambda: scaler.step(optimizer),
    ):
        with pytest.raises(TypeError, match=r"SAM\(model, ..., scaler=scaler\).*optimizer.step\(closure\) alone"):
            call()
        optimizer.step(lambda: (w**2).sum())  # the way out works


def test_a_scaler_that_is_off_may_step_the_optimizer():
    w = torch.tensor([1.0], requires_grad=True)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    loss = scaler.step(SAM([w], torch.optim.SGD, rho=0.0, lr=0.25), lambda: (w**2).sum())
    scaler.update()
    assert (loss.item(), w.item()) == (1.0, 0.5)


def test_the_scale_is_saved_with_the_scaler():
    w = torch.tensor([1.0], requires_grad=True)
    scaler = torch.amp.GradScaler("cpu", growth_interval=1)
    optimizer = SAM([w], lr=0.1, scaler=scaler)
    optimizer.step(lambda: (w**2).sum())
    resumed = torch.amp.GradScaler("cpu", growth_interval=1)
    resumed.load_state_dict(scaler.state_dict())
    assert resumed.get_scale() == 2.0**17
    for twin in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        [v] = twin.param_groups[0]["params"]
        twin.step(lambda v=v: (v**2).sum())
        assert twin.scaler.get_scale() == 2.0**18
    assert scaler.get_scale() == 2.0**17


def test_what_cannot_be_scaled_is_refused():
    w = torch.ones(1, requires_grad=True)
    with pytest.raises(TypeError, match=r"Expected .scaler. to be a torch\.amp\.GradScaler"):
        SAM([w], lr=0.1, scaler=True)
    with pytest.raises(ValueError, match="float32 where losses are scaled"):
        SAM([w.detach().half().requires_grad_()], lr=0.1, scaler=torch.amp.GradScaler("cpu"))
    with pytest.raises(ValueError, match="nonfinite='raise' or 'skip' with 'scaler'"):
        SAM([w], lr=0.1, scaler=torch.amp.GradScaler("cpu"), nonfinite="allow")


def test_no_copy_of_moved_weights_outlives_a_step():
    torch.manual_seed(0)
    net, x = nn.Linear(8, 4), torch.randn(5, 8)
    optimizer = SAM(net, torch.optim.SGD, rho=5.0, lr=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        optimizer.step(lambda: net(x).square().mean())
        within = net(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(within, net(x))
