"""What holds for every method, optimizer and encoder of the tables, once it is run."""

from __future__ import annotations

import math

import pytest
import torch

from fgsam.engine.checkpoint import load_checkpoint, weights_digest
from fgsam.engine.outcome import load_run
from fgsam.engine.train import Trainer
from fgsam.registry import ENCODERS, METHODS, OPTIMIZERS
from tests.engine.tiny import tiny_graph, tiny_run
from tests.helpers import SHORTER

TRAINED = sorted(name for name in METHODS if METHODS.load(name).is_trained)

PAIRS = [
    (method, rule) for i, method in enumerate(TRAINED) for j, rule in enumerate(sorted(OPTIMIZERS)) if (i + j) % 3 == 0
]
"""Every method with a third of the rules, every rule with a third of the methods."""

SHORT = {"num_episodes": 6, "train": {"val_episodes": 5}, "evaluate": {"num_episodes": 5}}
"""For these pairs; two validations, the last at the end."""


def rule_of(name):
    """The settings of an optimizer."""
    # A floor of rows without edges is too steep for the large steps that a flat curvature gives.
    gentle = {"lr": 1e-4} if name in ("sassha", "m_sassha") else {}
    return {"name": name, **SHORTER.get(name, {}), **gentle}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def by_optimizer(root):
    return {name: tiny_run(root, method="protonet", optimizer=rule_of(name)) for name in OPTIMIZERS}


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_gives_a_result_that_opens_again(method, root):
    found = tiny_run(root, method=method, optimizer="fgsam_plus")
    assert 0 <= found.test.accuracy <= 1
    assert math.isfinite(found.test.interval)
    assert all(0 <= count <= found.results["num_queries"] for count in found.results["test_correct"])
    assert load_run(found.directory, graph=tiny_graph()).evaluate() == found.test


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_predicts_labels_of_the_users_own(method, root):
    found = tiny_run(root, method=method, optimizer="fgsam_plus")
    predicted = found.predict([0, 1, 120, 121, 122], ["x", "x", "y", "y", "y"], [2, 123, 60])
    assert set(predicted) <= {"x", "y"}


@pytest.mark.parametrize("encoder", sorted(ENCODERS))
@pytest.mark.parametrize("optimizer", ["adam", "fgsam"])
def test_every_encoder_trains(encoder, optimizer, root):
    found = tiny_run(root, method="protonet", optimizer=optimizer, encoder=encoder, num_episodes=3)
    losses = [line["loss"] for line in found.history if "loss" in line]
    assert len(losses) == 3
    assert all(math.isfinite(loss) for loss in losses)


@pytest.mark.parametrize(("method", "optimizer"), PAIRS)
def test_the_same_run_gives_the_same_bits(method, optimizer, root, tmp_path):
    first, second = (
        tiny_run(place, method=method, optimizer=rule_of(optimizer), **SHORT) for place in (root, tmp_path)
    )
    assert first.results == second.results
    assert first.directory.name == second.directory.name


def test_no_two_optimizers_are_one_run(by_optimizer):
    assert len({found.results["config_hash"] for found in by_optimizer.values()}) == len(OPTIMIZERS)
    assert len({found.results["weights_digest"] for found in by_optimizer.values()}) >= len(OPTIMIZERS) - 1


def test_all_optimizers_share_graph_split_and_banks(by_optimizer):
    assert len({str(found.results["digests"]) for found in by_optimizer.values()}) == 1


def test_all_optimizers_start_from_the_same_weights(tmp_path, monkeypatch):
    starts = []
    fit = Trainer.fit

    def recording(self, should_stop=None):
        starts.append(weights_digest(self.method.state_dict()))
        return fit(self, should_stop)

    monkeypatch.setattr(Trainer, "fit", recording)
    for name in OPTIMIZERS:
        tiny_run(tmp_path, method="gpn", optimizer=rule_of(name), num_episodes=1)
    assert len(starts) == len(OPTIMIZERS)
    assert len(set(starts)) == 1, dict(zip(OPTIMIZERS, starts, strict=True))


def test_weights_files_hold_the_weights_of_the_result(by_optimizer):
    for found in by_optimizer.values():
        stored = load_checkpoint(found.directory / "weights.fgsam")
        assert weights_digest(stored["weights"]) == found.results["weights_digest"]
        assert stored["step"] == found.results["best_step"]
        assert all(torch.isfinite(value).all() for value in stored["weights"].values())
