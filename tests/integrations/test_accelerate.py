"""Accelerate's wrappers around a model, an optimizer and a scheduler."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.integrations.problem import (
    DECAY,
    Batch,
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

accelerate = pytest.importorskip("accelerate")


class Loop:
    """A model, an optimizer and a scheduler under Accelerate, and a loop over the batches."""

    def __init__(self, rule: str, *, backward: bool = False, num_micro_batches: int = 1) -> None:
        accelerate.state.PartialState._reset_state()
        accelerate.state.AcceleratorState._reset_state()
        accelerate.state.GradientState._reset_state()
        self.accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=num_micro_batches)
        model = net()
        optimizer = optimizer_of(rule, model)
        self.model, self.optimizer, self.scheduler = self.accelerator.prepare(model, optimizer, scheduler_of(optimizer))
        self.backward = backward
        self.num_steps = 0

    def run(self) -> None:
        for batch in batches():
            torch.manual_seed(self.num_steps)
            with self.accelerator.accumulate(self.model):
                self.step(batch)
                self.scheduler.step()
            self.num_steps += 1

    def step(self, batch: Batch) -> None:
        def closure() -> torch.Tensor:
            value = loss(self.model, batch)
            if self.backward:
                self.accelerator.backward(value)
            return value

        if self.optimizer.optimizer.peer == "refused":
            self.optimizer.step(closure)
        else:  # Accelerate's step takes one closure; its optimizer is ours
            self.optimizer.optimizer.step(closure, lambda: peer_loss(self.model, batch))


@pytest.mark.parametrize("backward", [False, True], ids=["optimizer_runs_backward", "accelerate_runs_backward"])
@pytest.mark.parametrize("rule", ["sam", "fgsam", "fgsam_plus"])
def test_steps_equal_those_of_a_plain_loop(rule: str, backward: bool):
    loop = Loop(rule, backward=backward)
    loop.run()
    assert same_bits(values(loop.model), plain_loop(rule))
    assert loop.optimizer.optimizer.base_optimizer.param_groups[0]["lr"] == 0.05 * DECAY**2


def test_the_wrapper_takes_no_peer_closure():
    loop = Loop("fgsam")
    with pytest.raises(TypeError, match="positional arguments"):
        loop.optimizer.step(lambda: loss(loop.model, batches()[0]), lambda: peer_loss(loop.model, batches()[0]))


@pytest.mark.parametrize("rule", ["sam", "fgsam_plus"])
def test_a_saved_and_loaded_run_goes_on_as_if_never_stopped(rule: str, tmp_path: Path):
    whole = Loop(rule)
    whole.run()
    whole.accelerator.save_state(tmp_path / "half")
    half = Loop(rule)
    half.accelerator.load_state(tmp_path / "half")
    half.num_steps = whole.num_steps
    half.run()
    assert half.optimizer.optimizer.num_calls == 8
    assert same_bits(values(half.model), plain_loop(rule, num_epochs=2))


def test_its_accumulation_takes_every_other_batch_alone():
    # Its step does nothing for all batches but the last of a group, and so never calls their closures.
    loop = Loop("sam", num_micro_batches=2)
    loop.run()
    assert loop.optimizer.optimizer.num_calls == 2
