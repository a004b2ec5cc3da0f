from __future__ import annotations

import pytest

from fgsam.engine.checkpoint import load_checkpoint
from tests.engine.tiny import tiny_run


def test_it_is_taught_every_class_of_the_split(tmp_path):
    found = tiny_run(tmp_path, method="ceiling", optimizer="adam")
    weights = load_checkpoint(found.directory / "weights.fgsam")["weights"]
    assert len(weights["head.bias"]) == 12


def test_it_ends_above_the_probe_that_knows_the_base_classes_only(tmp_path):
    options = {"optimizer": "adam", "lr": 0.02, "num_episodes": 100, "k_shot": 1, "evaluate": {"num_episodes": 100}}
    probe, ceiling = (tiny_run(tmp_path, method=name, **options).test for name in ("linear_probe", "ceiling"))
    assert ceiling.accuracy > probe.accuracy + 0.1


def test_it_is_refused_where_training_does_not_see_all_classes(tmp_path):
    with pytest.raises(ValueError, match=r"graph.setting=transductive .*\(got inductive\)"):
        tiny_run(tmp_path, method="ceiling", optimizer="adam", setting="inductive")
