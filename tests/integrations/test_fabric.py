"""Fabric's wrappers around a model and an optimizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.integrations.problem import Loop, batches, loss, peer_loss, plain_loop, same_bits, values

lightning = pytest.importorskip("lightning")

pytestmark = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.* is deprecated")


class SetUp(Loop):
    """A loop under Fabric."""

    def __init__(self, rule: str, *, backward: bool = False) -> None:
        super().__init__(lightning.Fabric(accelerator="cpu", devices=1), rule, backward=backward)
        self.model, self.optimizer = self.launcher.setup(self.model, self.optimizer)

    def state(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler}


@pytest.mark.parametrize("backward", [False, True], ids=["optimizer_runs_backward", "fabric_runs_backward"])
@pytest.mark.parametrize("rule", ["sam", "fgsam", "fgsam_plus"])
def test_steps_equal_those_of_a_plain_loop(rule: str, backward: bool):
    loop = SetUp(rule, backward=backward)
    loop.run()
    assert same_bits(values(loop.model), plain_loop(rule))


def test_the_wrapper_takes_no_peer_closure():
    loop = SetUp("fgsam")
    with pytest.raises(TypeError, match="positional arguments"):
        loop.optimizer.step(lambda: loss(loop.model, batches()[0]), lambda: peer_loss(loop.model, batches()[0]))
    with pytest.raises(TypeError, match="Expected 'peer_closure' for rule 'fgsam'"):
        loop.optimizer.step(lambda: loss(loop.model, batches()[0]))


@pytest.mark.parametrize("rule", ["sam", "fgsam_plus"])
def test_a_saved_and_loaded_run_goes_on_as_if_never_stopped(rule: str, tmp_path: Path):
    whole = SetUp(rule)
    whole.run()
    whole.launcher.save(tmp_path / "half.ckpt", whole.state())
    half = SetUp(rule)
    half.launcher.load(tmp_path / "half.ckpt", half.state(), weights_only=True)
    half.num_steps = whole.num_steps
    half.run()
    assert half.scheduler.get_last_lr() == [half.optimizer.base_optimizer.param_groups[0]["lr"]] == [0.05 / 16]
    assert same_bits(values(half.model), plain_loop(rule, num_epochs=2))
