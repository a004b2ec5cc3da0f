"""What a step reads from the device: the host then waits for all that the device still has to do."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fgsam.contract.subject import Net, Subject
from fgsam.functional import trees
from fgsam.optim.base import SharpnessAware
from fgsam.optim.sam import SAM
from fgsam.registry import OPTIMIZERS

NUM_STEPS = 4

OPTIONS = {
    "sa_gd": {"num_ascents": 1},
    "ssam_dynamic": {"mask_every": 1},
    "ssam_fisher": {"mask_every": 1},
    "iht": {"num_steps": 2},
    "magnitude_pruning": {"num_steps": 3},
}
"""Options with which a rule does in a few steps all that it does in many."""

WAITING = {
    "aesam": ([1, 1, 1, 1], "compares the length of each gradient with averages that are plain numbers"),
    "ausam": ([2, 5, 5, 5], "draws queries on the host, by their losses"),
    "magnitude_pruning": ([2, 2, 2, 2], "counts the weights that are left in each tensor, in steps that remove some"),
    "sa_gd": ([11, 11, 11, 11], "climbs, and looks after each trial whether it went up"),
    "ssam_dynamic": ([0, 1, 1, 1], "counts the marked weights, in steps that renew the mask"),
    "tilted_sam": ([3, 3, 3, 3], "reads the radius of each draw, a number that is drawn on the host in any case"),
}
"""Reads beside the question of finiteness, in each of the first steps, and what they are for."""

READS = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default, torch.ops.aten.equal.default}


class Reads(TorchDispatchMode):
    """Counts what is read from tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func in READS
        return func(*args, **(kwargs or {}))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """A counter, with tensors that are treated as if on an accelerator and base steps that are PyTorch's own affair."""
    counter = Reads()
    monkeypatch.setattr(trees, "_is_near", lambda tensor: False)
    as_list, base_step = torch.Tensor.tolist, SharpnessAware._base_step

    def tolist(tensor):
        counter.count += 1
        return as_list(tensor)

    def uncounted(self, params, direction):
        before = counter.count
        base_step(self, params, direction)
        counter.count = before

    monkeypatch.setattr(torch.Tensor, "tolist", tolist)
    monkeypatch.setattr(SharpnessAware, "_base_step", uncounted)
    return counter


def reads_per_step(name, counter, **options):
    net = Net()
    optimizer = (subject := Subject(OPTIMIZERS.load(name), OPTIONS.get(name, {}))).build(net, "momentum", **options)
    found = []
    for _ in range(NUM_STEPS):
        counter.count = 0
        with counter:
            subject.step(optimizer, net.gnn, net.peer)
        found.append(counter.count)
    return found


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_a_step_asks_one_question_and_none_where_everything_is_allowed(name, reads):
    beside, _ = WAITING.get(name, ([0] * NUM_STEPS, ""))
    assert reads_per_step(name, reads) == [1 + count for count in beside]
    assert reads_per_step(name, reads, nonfinite="allow") == beside


def test_what_is_not_finite_is_taken_if_allowed():
    w = torch.ones(1, requires_grad=True)
    optimizer = SAM([w], lr=0.1, nonfinite="allow")
    optimizer.step(lambda: (w * float("nan")).sum())
    assert w.isnan().all()
    assert optimizer.num_skipped == 0


def test_an_error_is_raised_where_everything_is_allowed():
    w = torch.ones(1, requires_grad=True)
    with pytest.raises(ZeroDivisionError):
        SAM([w], lr=0.1, nonfinite="allow").step(lambda: 1 / 0)
    assert torch.equal(w, torch.ones(1))


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with CUDA")
on_cuda = pytest.mark.parametrize("name", ["adam", "sam", "asam", "gsam", "looksam", "fgsam", "fgsam_plus"])


def net_on_cuda():
    net = Net().cuda()
    net.x, net.mixing, net.labels = net.x.cuda(), net.mixing.cuda(), net.labels.cuda()
    return net


@needs_cuda
@on_cuda
def test_no_step_waits_for_the_device_where_everything_is_allowed(name):
    net, subject = net_on_cuda(), Subject(OPTIMIZERS.load(name))
    optimizer = subject.build(net, "momentum", nonfinite="allow")
    subject.step(optimizer, net.gnn, net.peer)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(NUM_STEPS):
            subject.step(optimizer, net.gnn, net.peer)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@needs_cuda
@on_cuda
def test_a_step_copies_once_from_the_device(name):
    net, subject = net_on_cuda(), Subject(OPTIMIZERS.load(name))
    optimizer = subject.build(net, "momentum")
    subject.step(optimizer, net.gnn, net.peer)
    torch.cuda.synchronize()
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(NUM_STEPS):
            subject.step(optimizer, net.gnn, net.peer)
        torch.cuda.synchronize()
    assert sum(event.name.startswith("Memcpy DtoH") for event in profile.events()) == NUM_STEPS
