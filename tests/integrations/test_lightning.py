"""Lightning's trainer around an optimizer: what works as it is, and what a closure of one's own is needed for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

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

lightning = pytest.importorskip("lightning")

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.* is deprecated"),
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*The number of training batches"),
]


class Automatic(lightning.LightningModule):
    """A module as Lightning's users write it; the optimizer is one line of it."""

    rule = "sam"

    def __init__(self, max_norm: float | None = None) -> None:
        super().__init__()
        self.net = net()
        self.max_norm = max_norm
        self.num_passes = 0

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.num_passes += 1
        value = loss(self.net, batch)
        self.log("loss", value, batch_size=len(batch.x))
        return value

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        torch.manual_seed(self.global_step)

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = optimizer_of(self.rule, self.net, max_norm=self.max_norm)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler_of(optimizer), "interval": "step"}}


class Manual(Automatic):
    """With a peer: the module calls ``step`` itself."""

    rule = "fgsam"

    def __init__(self, max_norm: float | None = None) -> None:
        super().__init__(max_norm)
        self.automatic_optimization = False

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("loss", self.optimizers().step(lambda: loss(self.net, batch), peer_closure=lambda: self.peer(batch)))
        self.lr_schedulers().step()

    def peer(self, batch: Batch) -> Tensor:
        self.num_passes += 1
        return peer_loss(self.net, batch)


class ManualPlus(Manual):
    rule = "fgsam_plus"


class Hooked(Automatic):
    """With a peer through the hook of automatic optimization, which insists that its own closure is called."""

    rule = "fgsam"

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.batch = batch
        return super().training_step(batch, batch_idx)

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any) -> None:
        optimizer.step(optimizer_closure, peer_closure=lambda: peer_loss(self.net, self.batch))


class HookedPlus(Hooked):
    rule = "fgsam_plus"


def trained(module: Any, folder: Path, num_epochs: int = 1, resume: Path | None = None, **options: Any) -> Any:
    """Fit a module on the batches, and return the trainer."""
    trainer = lightning.Trainer(
        max_epochs=num_epochs, accelerator="cpu", devices=1, default_root_dir=folder, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, **options,
    )  # fmt: skip
    loader = torch.utils.data.DataLoader(batches(), batch_size=None)
    trainer.fit(module, loader, ckpt_path=resume, weights_only=True)
    return trainer


@pytest.mark.parametrize("module", [Automatic, Manual, ManualPlus, Hooked])
def test_steps_equal_those_of_a_plain_loop(module: type[Automatic], tmp_path: Path):
    fitted = module()
    trainer = trained(fitted, tmp_path)
    assert same_bits(values(fitted.net), plain_loop(module.rule))
    assert trainer.global_step == 4
    assert "loss" in trainer.callback_metrics


def test_the_training_step_runs_once_a_pass(tmp_path: Path):
    module = Automatic()
    trained(module, tmp_path)
    assert module.num_passes == 2 * 4


@pytest.mark.parametrize("module", [Automatic, ManualPlus])
def test_a_checkpoint_goes_on_as_if_never_stopped(module: type[Automatic], tmp_path: Path):
    path = tmp_path / "half.ckpt"
    trained(module(), tmp_path).save_checkpoint(path)
    resumed = module()
    trainer = trained(resumed, tmp_path, num_epochs=2, resume=path)
    assert trainer.optimizers[0].num_calls == 8
    assert same_bits(values(resumed.net), plain_loop(module.rule, num_epochs=2))


@pytest.mark.parametrize("module", [Automatic, Manual])
def test_schedulers_reach_the_base(module: type[Automatic], tmp_path: Path):
    optimizer = trained(module(), tmp_path).optimizers[0]
    assert optimizer.base_optimizer.param_groups[0]["lr"] == 0.05 * DECAY**2


def test_fgsam_plus_needs_manual_optimization(tmp_path: Path):
    # Its cheap steps run the peer alone, and automatic optimization wants to have its own closure called in each step.
    with pytest.raises(Exception, match="The closure hasn't been executed"):
        trained(HookedPlus(), tmp_path)


def test_the_trainer_clips_the_closure_it_knows_and_not_the_step(tmp_path: Path):
    # A closure of the trainer clips what it leaves, in every pass. FGSAM adds the peer's gradient, which has no clip.
    clipped, hooked = Automatic(), Hooked()
    trained(clipped, tmp_path, gradient_clip_val=0.01)
    trained(hooked, tmp_path, gradient_clip_val=0.01)
    assert gradient_norm(clipped.net) == pytest.approx(0.01, rel=1e-3)
    assert gradient_norm(hooked.net) > 0.1


def test_the_optimizer_clips_the_step(tmp_path: Path):
    module = ManualPlus(max_norm=0.01)
    trained(module, tmp_path)
    assert gradient_norm(module.net) == pytest.approx(0.01, rel=1e-3)


def test_accumulation_of_the_trainer_loses_all_batches_but_the_last(tmp_path: Path):
    # It runs them outside of step, which begins each of its passes with empty gradients.
    module = Automatic()
    trained(module, tmp_path, accumulate_grad_batches=2)
    lost = plain_loop("sam", batches()[1::2], weight=0.5)
    assert module.num_passes == (1 + 2) * 2
    assert same_bits([p.detach() for p in module.net.parameters()], lost[: len(list(module.net.parameters()))])


def gradient_norm(model: torch.nn.Module) -> float:
    """Length of the gradient that the last base step has used."""
    return float(torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm())
