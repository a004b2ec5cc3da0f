"""What each of two ranks does for ``test_ranks``: its findings go to a file; at the end the second rank is killed."""

from __future__ import annotations

import copy
import json
import os
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fgsam.optim.base import SharpnessAware
from fgsam.optim.sam import SAM
from fgsam.optim.sassha import Sassha
from fgsam.registry import OPTIMIZERS
from tests.twins.optimizers import LinearNet

RULES = ("adam", "sam", "fgsam", "fgsam_plus", "sassha", "friendly_sam", "zeroth_order_tilted_sam")
"""Rules that are trained with shared passes."""

BY_RANK = ("sam", "fgsam_plus", "sassha", "wsam", "safe_plus", "micro_batch_sam")
"""Rules that each rank runs by itself."""

NUM_STEPS = 6


def train(name: str, seeds: list[int], **options: Any) -> dict[str, Any]:
    """Take steps on one micro-episode for each seed; return weights, losses and the rule's own state."""
    params = LinearNet().tensors()
    if options and dist.get_rank():
        torch.nn.init.ones_(params[0])  # what another rank starts with does not matter
    torch.manual_seed(dist.get_rank() if options else 0)
    optimizer: SharpnessAware = OPTIMIZERS.load(name)(params, lr=0.05, **options)
    nets = [LinearNet(seed) for seed in seeds]
    reduction = "none" if optimizer.needs_vectors else "mean"
    places = [0, 1][: 2 if optimizer.peer == "required" else 1]
    closures = [lambda place=place: (net.closures(params, reduction)[place]() for net in nets) for place in places]
    losses = [float(optimizer.step(*closures)) for _ in range(NUM_STEPS)]
    own = {key: value.tolist() if isinstance(value, Tensor) else value for key, value in optimizer.own.items()}
    return {"weights": flat(params), "losses": losses, "own": own}


def flat(params: Any) -> list[float]:
    """Values of all parameters."""
    return torch.cat([p.detach().flatten() for p in params]).tolist()


class Batches(nn.Module):
    """A net with batch statistics, and data of one seed."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, affine=False), nn.Linear(4, 2)).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def data(seed: int) -> tuple[Tensor, Tensor]:
    """Features and labels."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(8, 3, dtype=torch.float64, generator=generator), torch.arange(8) % 2


def train_batches(wrap: Callable[[nn.Module], nn.Module], seeds: list[int], **options: Any) -> dict[str, Any]:
    """Take SAM's steps on the net with batch statistics; return weights and running means."""
    net = Batches()
    model = wrap(net)
    optimizer = SAM(model, torch.optim.SGD, lr=0.1, **options)
    pairs = [data(seed) for seed in seeds]
    for _ in range(NUM_STEPS):
        optimizer.step(lambda: (nn.functional.cross_entropy(model(x), y) for x, y in pairs))
    return {"weights": flat(net.parameters()), "buffers": flat(b.double() for b in net.buffers())}


def trouble(data_parallel: str, nonfinite: str, what: str) -> dict[str, Any]:
    """Let something go wrong on the second rank in the second pass of the second step; return how each step ended."""
    net, params = LinearNet(1 + dist.get_rank()), LinearNet().tensors()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120) if what == "overflow" else None
    optimizer = SAM(params, lr=0.05, data_parallel=data_parallel, nonfinite=nonfinite, scaler=scaler)
    calls: list[int] = []

    def closure() -> Tensor:
        calls.append(len(calls))
        loss = net.closures(params)[0]()
        if calls[-1] != 3 or not dist.get_rank():
            return loss
        if what == "error":
            raise ZeroDivisionError("of this rank alone")
        if what == "unreached":
            return params[0].square().sum()
        return loss * {"nan": float("nan"), "overflow": 1e300}[what]

    ends = []
    for _ in range(3):
        before = flat(params)
        try:
            optimizer.step(closure)
            ends.append("moved" if flat(params) != before else "stayed")
        except Exception as error:
            ends.append(f"{type(error).__name__}: {error}")
            assert flat(params) == before
    scale = None if scaler is None else scaler.get_scale()
    return {"ends": ends, "weights": flat(params), "skipped": optimizer.num_skipped, "scale": scale}


def copied() -> list[float]:
    """Weights after a copy of an optimizer has taken a step with the other rank, and the optimizer itself another."""
    net, params = LinearNet(1 + dist.get_rank()), LinearNet().tensors()
    optimizer = SAM(params, lr=0.05, data_parallel="global", process_group=dist.new_group([0, 1]))
    twin = copy.deepcopy(optimizer)
    copies = twin.param_groups[0]["params"]
    twin.step(net.closures(copies)[0])
    optimizer.step(net.closures(params)[0])
    assert flat(copies) == flat(params)
    return flat(params)


def refusals() -> list[str]:
    """Errors for a model that averages gradients by itself: one for twice, one for products with the Hessian."""
    model = nn.parallel.DistributedDataParallel(nn.Linear(2, 2))
    said = []
    for build in (lambda: SAM(model, data_parallel="global"), lambda: Sassha(model)):
        try:
            build()
        except ValueError as error:
            said.append(str(error))
    return said


def be_killed() -> str:
    """Error of the first rank when the second one dies within a step."""
    net, params = LinearNet(1), LinearNet().tensors()
    optimizer = SAM(params, lr=0.05, data_parallel="global")

    def closure() -> Tensor:
        if dist.get_rank():
            os.kill(os.getpid(), signal.SIGKILL)
        return net.closures(params)[0]()

    try:
        optimizer.step(closure)
    except RuntimeError as error:
        return str(error)
    return ""


def main(rank: int, meeting_place: Path, result: Path) -> None:
    """Find out everything, in the same order on both ranks."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{meeting_place}", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    own = [1 + rank]
    wrapper = nn.parallel.DistributedDataParallel
    found = {
        "global": {name: train(name, own, data_parallel="global") for name in RULES},
        "clipped": train("sam", own, data_parallel="global", max_norm=0.05),
        "per_rank": {name: train(name, own, data_parallel="per_rank") for name in BY_RANK},
        "batches": train_batches(lambda net: net, own, data_parallel="global"),
        "wrapped": train_batches(lambda net: wrapper(net, broadcast_buffers=False), own),
        "trouble": {
            f"{how} {nonfinite} {what}": trouble(how, nonfinite, what)
            for how in ("global", "per_rank")
            for nonfinite in ("raise", "skip")
            for what in ("nan", "error", "unreached", "overflow")
        },
        "copied": copied(),
        "refusals": refusals(),
    }
    result.write_text(json.dumps(found))
    result.write_text(json.dumps({**found, "killed": be_killed()}))
