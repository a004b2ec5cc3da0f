"""Fabric's wrappers around a model and an optimizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.integrations.problem import (
    batches,
    loss,
    net,
    optimizer_of,
    peer_loss,
    plain_loop,
    same_bits,
    scheduler_of,
    values,
)

lightning = pytest.importorskip("lightning")

pytestmark = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.* is deprecated")


class Loop:
    """A model and an optimizer under Fabric, and a loop over the batches."""

    def __init__(self, rule: str, *, backward: bool = False) -> None:
        self.fabric = lightning.Fabric(accelerator="cpu", devices=1)
        self.model = net()
        optimizer = optimizer_of(rule, self.model)
        self.scheduler = scheduler_of(optimizer)
        self.wrapped, self.optimizer = self.fabric.setup(self.model, optimizer)
        self.backward = backward
        self.num_steps = 0

    def run(self) -> None:
        for batch in batches():
            torch.manual_seed(self.num_steps)
            self.step(batch)
            self.scheduler.step()
            self.num_steps += 1

    def step(self, batch: Any) -> None:
        def closure() -> torch.Tensor:
            value = loss(self.wrapped, batch)
            if self.backward:
                self.fabric.backward(value)
            return value

        if self.optimizer.peer == "refused":
            self.optimizer.step(closure)
        else:  # Fabric's step takes one closure; its optimizer is ours
            self.optimizer.optimizer.step(closure, lambda: peer_loss(self.wrapped, batch))

    def state(self) -> dict[str, Any]:
        return {"model": self.wrapped, "optimizer": self.optimizer, "scheduler": self.scheduler}


@pytest.mark.parametrize("backward", [False, True], ids=["optimizer_runs_backward", "fabric_runs_backward"])
@pytest.mark.parametrize("rule", ["sam", "fgsam", "fgsam_plus"])
def test_steps_equal_those_of_a_plain_loop(rule: str, backward: bool):
    loop = Loop(rule, backward=backward)
    loop.run()
    assert same_bits(values(loop.model), plain_loop(rule))


def test_the_wrapper_takes_no_peer_closure():
    loop = Loop("fgsam")
    with pytest.raises(TypeError, match="positional arguments"):
        loop.optimizer.step(lambda: loss(loop.wrapped, batches()[0]), lambda: peer_loss(loop.wrapped, batches()[0]))
    with pytest.raises(TypeError, match="Expected 'peer_closure' for rule 'fgsam'"):
        loop.optimizer.step(lambda: loss(loop.wrapped, batches()[0]))


@pytest.mark.parametrize("rule", ["sam", "fgsam_plus"])
def test_a_saved_and_loaded_run_goes_on_as_if_never_stopped(rule: str, tmp_path: Path):
    whole = Loop(rule)
    whole.run()
    whole.fabric.save(tmp_path / "half.ckpt", whole.state())
    half = Loop(rule)
    half.fabric.load(tmp_path / "half.ckpt", half.state(), weights_only=True)
    half.num_steps = whole.num_steps
    half.run()
    assert half.scheduler.get_last_lr() == [half.optimizer.base_optimizer.param_groups[0]["lr"]] == [0.05 / 16]
    assert same_bits(values(half.model), plain_loop(rule, num_epochs=2))
