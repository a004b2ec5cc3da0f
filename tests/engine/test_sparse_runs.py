"""Rules that end with a sparse network are judged, and stored, as they would end."""

from __future__ import annotations

import pytest
import torch

from fgsam.engine.checkpoint import load_checkpoint, weights_digest
from fgsam.engine.episode_task import EpisodeTask
from fgsam.engine.faults import ConfigError
from fgsam.engine.train import Trainer
from fgsam.episodes.sampler import EpisodeSampler
from fgsam.optim.safe import SAFE
from tests.engine.tiny import SHAPE, tiny_bank, tiny_graph, tiny_method, tiny_run

RULES = ["safe", "safe_plus", "admm_pruning", "iht", "magnitude_pruning"]
ENCODER = {"name": "gcn", "hidden": 8, "dim": 4}


def is_sparse(weights: dict[str, torch.Tensor], sparsity: float) -> bool:
    matrices = [value for value in weights.values() if value.ndim > 1]
    vectors = [value for value in weights.values() if value.ndim == 1]
    num_kept = sum(int(value.count_nonzero()) for value in matrices)
    return num_kept == round((1 - sparsity) * sum(value.numel() for value in matrices)) and any(map(torch.any, vectors))


@pytest.mark.parametrize("sparsity", [0.8, 0.95])
@pytest.mark.parametrize("rule", RULES)
def test_a_run_stores_exactly_sparse_weights(rule, sparsity, tmp_path):
    # Training is stopped by its patience long before the schedule ends, as it may be.
    options = {"name": rule, "sparsity": sparsity, "num_steps": 100}
    run = tiny_run(tmp_path, method="protonet", encoder=ENCODER, optimizer=options)
    stored = load_checkpoint(run.directory / "weights.fgsam")
    assert is_sparse(stored["weights"], sparsity)


def trainer(val_every: int, **options) -> Trainer:
    method = tiny_method()
    sampler = EpisodeSampler(tiny_graph().labels, range(6), **SHAPE)
    optimizer = SAFE(method, lr=0.01, sparsity=0.9, dual_every=3, schedule="constant", **options)
    made = Trainer(
        EpisodeTask(tiny_graph(), sampler, tiny_bank()), method, optimizer, num_steps=10, val_every=val_every
    )
    made.fit()
    return made


def test_every_candidate_is_sparse_and_the_weights_in_training_are_not():
    often, rarely = trainer(val_every=2), trainer(val_every=10)
    assert all(is_sparse(candidate.weights, 0.9) for candidate in often.candidates)
    assert not is_sparse(often.method.state_dict(), 0.9)
    assert weights_digest(often.method.state_dict()) == weights_digest(rarely.method.state_dict())
    often.choose()
    assert is_sparse(often.method.state_dict(), 0.9)


def test_weights_of_training_cut_short_are_sparse():
    made = trainer(val_every=10)
    made.history, made.candidates = [], []
    made.choose()
    assert is_sparse(made.method.state_dict(), 0.9)


@pytest.mark.parametrize("rule", ["sassha", "m_sassha", "adahessian", "sophia_h"])
def test_rules_that_make_the_step_themselves_take_no_base(rule, tmp_path):
    run = tiny_run(tmp_path, method="protonet", encoder=ENCODER, optimizer={"name": rule, "hessian_every": 3})
    assert run.test.accuracy > 0.4
    with pytest.raises(ConfigError, match=f"Expected no 'optimizer.base' for rule '{rule}', .* Leave it out"):
        tiny_run(tmp_path, method="protonet", optimizer={"name": rule, "base": "sgd"})
