from __future__ import annotations

import pytest

from fgsam.engine.arguments import config_of_call
from fgsam.engine.run import execute
from fgsam.engine.validate import validate
from tests.engine.tiny import SHAPE, tiny_graph

FEW_SHOT = {
    **SHAPE,
    "num_episodes": 10,
    "val_every": 5,
    "train": {"val_episodes": 20},
    "evaluate": {"num_episodes": 30},
}
NODES = {"task": "node_classification", "num_steps": 4, "val_every": 2}


def prepared(root, task=None, **options):
    entries = {name: options.pop(name, None) for name in ("encoder", "method", "optimizer")}
    return config_of_call(tiny_graph(), task=task, config=None, options={**options, "root": str(root)}, **entries)


@pytest.mark.parametrize(
    "options",
    [
        {**FEW_SHOT, "method": "gpn", "optimizer": "fgsam_plus"},
        {**FEW_SHOT, "method": "sgc_lr"},
        {**FEW_SHOT, "method": "tent", "num_query": "all"},
        {**FEW_SHOT, "method": "protonet", "setting": "inductive"},
        {**NODES, "optimizer": "sam"},
    ],
    ids=["trained", "floor", "uneven", "inductive", "nodes"],
)
def test_it_gives_the_validation_accuracy_of_a_run_without_its_test(options, tmp_path, monkeypatch):
    config, objects = prepared(tmp_path, **options)
    with monkeypatch.context() as patch:
        for name in ("data.Data.test_bank", "data.Data.test", "node_data.NodeData.test"):
            patch.setattr(f"fgsam.engine.{name}", property(lambda data: pytest.fail("a test was begun")))
        found = validate(config, **objects)
    run = execute(config, progress="none", **objects)
    assert found.accuracy == run.results["val_accuracy"]
    assert found.graph == run.results["digests"]["data"]
    assert found.bank == run.results["digests"].get("val_bank", run.results["digests"]["split"])


def test_only_the_validation_bank_is_kept(tmp_path):
    config, objects = prepared(tmp_path, **FEW_SHOT, method="raw_lr")
    validate(config, **objects, bank_folder=tmp_path / "banks")
    assert [path.name.partition("-")[0] for path in (tmp_path / "banks").iterdir()] == ["val_bank"]
