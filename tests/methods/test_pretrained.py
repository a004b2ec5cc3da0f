"""What holds for every learner that is trained on nodes, once it is run."""

from __future__ import annotations

import os
import signal

import pytest

from fgsam.engine.callbacks import Callback
from fgsam.engine.interrupts import Interrupted
from tests.engine.tiny import tiny_run

LEARNERS = {
    "linear_probe": {"name": "linear_probe", "batch_size": 50},
    "fine_tune": {"name": "fine_tune", "batch_size": 50, "num_steps": 3},
    "tlp": {"name": "tlp", "batch_size": 50},
    "tlp_bgrl": {"name": "tlp", "batch_size": 50, "pretext": "bgrl"},
    "ceiling": {"name": "ceiling", "batch_size": 50},
}

each_learner = pytest.mark.parametrize("learner", sorted(LEARNERS))


class Signal(Callback):
    def __init__(self, step):
        self.step = step

    def on_step(self, trainer):
        if trainer.step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


@each_learner
@pytest.mark.parametrize("optimizer", ["adam", "fgsam_plus"])
def test_a_stopped_run_goes_on_to_the_same_bits(learner, optimizer, tmp_path):
    options = {"method": LEARNERS[learner], "optimizer": optimizer}
    whole = tiny_run(tmp_path / "whole", **options)
    with pytest.raises(Interrupted, match="after episode 7 of 20"):
        tiny_run(tmp_path / "cut", **options, callbacks=[Signal(7)])
    assert tiny_run(tmp_path / "cut", **options).results == whole.results


@each_learner
def test_training_lowers_the_loss(learner, tmp_path):
    found = tiny_run(tmp_path, method=LEARNERS[learner], optimizer="adam", lr=0.02, num_episodes=40)
    losses = [line["loss"] for line in found.history if "loss" in line]
    assert sum(losses[-5:]) < 0.95 * sum(losses[:5])


def test_epochs_bound_training_whatever_the_number_of_steps(tmp_path):
    # Six base classes of 20 nodes in batches of 50 are three steps an epoch.
    method = {"name": "linear_probe", "batch_size": 50, "max_epochs": 4}
    assert tiny_run(tmp_path, method=method, optimizer="adam").results["num_episodes"] == 12
