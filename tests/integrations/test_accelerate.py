"""Accelerate's wrappers around a model, an optimizer and a scheduler."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integrations.problem import DECAY, Batch, Loop, batches, loss, peer_loss, plain_loop, same_bits, values

accelerate = pytest.importorskip("accelerate")


class Prepared(Loop):
    """A loop under Accelerate."""

    def __init__(self, rule: str, *, backward: bool = False, num_micro_batches: int = 1) -> None:
        accelerate.state.PartialState._reset_state()
        accelerate.state.AcceleratorState._reset_state()
        accelerate.state.GradientState._reset_state()
        launcher = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=num_micro_batches)
        super().__init__(launcher, rule, backward=backward)
        self.model, self.optimizer, self.scheduler = launcher.prepare(self.model, self.optimizer, self.scheduler)

    def step(self, batch: Batch) -> None:
        with self.launcher.accumulate(self.model):
            super().step(batch)


@pytest.mark.parametrize("backward", [False, True], ids=["optimizer_runs_backward", "accelerate_runs_backward"])
@pytest.mark.parametrize("rule", ["sam", "fgsam", "fgsam_plus"])
def test_steps_equal_those_of_a_plain_loop(rule: str, backward: bool):
    loop = Prepared(rule, backward=backward)
    loop.run()
    assert same_bits(values(loop.model), plain_loop(rule))
    assert loop.optimizer.optimizer.base_optimizer.param_groups[0]["lr"] == 0.05 * DECAY**2


def test_the_wrapper_takes_no_peer_closure():
    loop = Prepared("fgsam")
    with pytest.raises(TypeError, match="positional arguments"):
        loop.optimizer.step(lambda: loss(loop.model, batches()[0]), lambda: peer_loss(loop.model, batches()[0]))


@pytest.mark.parametrize("rule", ["sam", "fgsam_plus"])
def test_a_saved_and_loaded_run_goes_on_as_if_never_stopped(rule: str, tmp_path: Path):
    whole = Prepared(rule)
    whole.run()
    whole.launcher.save_state(tmp_path / "half")
    half = Prepared(rule)
    half.launcher.load_state(tmp_path / "half")
    half.num_steps = whole.num_steps
    half.run()
    assert half.optimizer.optimizer.num_calls == 8
    assert same_bits(values(half.model), plain_loop(rule, num_epochs=2))


def test_its_accumulation_takes_every_other_batch_alone():
    # Its step does nothing for all batches but the last of a group, and so never calls their closures.
    loop = Prepared("sam", num_micro_batches=2)
    loop.run()
    assert loop.optimizer.optimizer.num_calls == 2
