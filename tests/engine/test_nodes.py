from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.nn import GraphSAGE

import fgsam
from fgsam.engine import node_task
from fgsam.engine.build import Entries, build_method, build_optimizer
from fgsam.engine.checkpoint import load_checkpoint, save_checkpoint, weights_digest
from fgsam.engine.config import ConfigError, load_config
from fgsam.engine.inputs import build_inputs
from fgsam.engine.interrupts import Interrupted
from fgsam.engine.node_data import packed, unpacked
from fgsam.engine.node_task import NodeScorer, NodeTask
from fgsam.engine.outcome import NodeRun, load_run
from fgsam.engine.train import Trainer
from fgsam.functional.intervals import share_interval
from fgsam.graph.graph import Graph
from fgsam.nn.encoders import field_of
from fgsam.registry import ENCODERS, OPTIMIZERS
from tests.engine.tiny import tiny_graph
from tests.helpers import SHORTER

TASK = {"task": "node_classification"}
SMALL = {"hidden": 8, "dim": 8}


def run_of(root: Path, **options):
    options = {"num_steps": 12, "optimizer": "adam", "lr": 0.02, "progress": "none", **options}
    return fgsam.run(options.pop("graph", tiny_graph()), **TASK, root=str(root), **options)


def config_of(**sections):
    return load_config(values={**TASK, **sections}, objects={"dataset": "tiny"})


def trainer_of(optimizer="adam", *, num_steps=8, method=None, graph=None, **train):
    config = config_of(
        optimizer={"name": optimizer, "lr": 0.02},
        train={"num_steps": num_steps, **train},
        method=method or {},
        encoder=SMALL,
    )
    data = build_inputs(config, graph or tiny_graph())
    entries = Entries.load(config)
    nets = build_method(config, data.graph, entries, "split", 0, given=data.given(entries.method))
    made = build_optimizer(config, nets, entries)
    return Trainer(data.task(nets), nets, made, stream=("split", 0), num_steps=num_steps, val_every=2)


def digest(trainer):
    return weights_digest(trainer.method.state_dict())


def two_class_graph() -> Graph:
    graph = tiny_graph()
    return graph.replaced(labels=graph.labels % 2)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def finished(root):
    return run_of(root, optimizer="fgsam", num_steps=60)


def test_a_run_learns_and_says_what_it_found(finished):
    results = finished.results
    assert isinstance(finished, NodeRun)
    assert finished.test.accuracy > 3 / 12  # of 12 classes
    assert results["num_nodes"] == {"train": 144, "val": 48, "test": 48}
    assert (results["metric"], results["split"], results["interval_over"]) == (
        "accuracy",
        {"name": "0", "kind": "drawn"},
        "test nodes",
    )
    assert results["num_steps"] == 60
    assert results["stopped_by"] == "num_steps"
    assert math.isfinite(finished.timing["ms_per_step"])
    assert str(finished.test).endswith("(48 test nodes)")
    assert {"task", "metric", "split", "num_nodes", "num_steps", "ms_per_step"} <= set(finished.summary())


def test_the_hits_of_every_test_node_are_kept(finished):
    split = finished._loaded().data.split
    predicted = finished.predict(split.test)
    assert finished.test_hits.tolist() == (predicted == tiny_graph().labels[split.test]).tolist()
    assert finished.test.accuracy == float(finished.test_hits.double().mean())
    assert finished.test.interval == share_interval(int(finished.test_hits.sum()), 48)[1]


def test_a_stored_run_opens_predicts_and_scores_the_same(finished):
    again = load_run(finished.directory, graph=tiny_graph())
    assert isinstance(again, NodeRun)
    assert again.test == finished.test == again.evaluate()
    nodes = [5, 3, 5, 200]
    assert again.predict(nodes).tolist() == finished.predict(nodes).tolist()
    assert again.predict([]).shape == (0,)
    with pytest.raises(ValueError, match=r"node numbers in 0\.\.239"):
        again.predict([240])


def test_the_same_run_is_read_and_not_computed_again(finished, root, monkeypatch):
    def fail(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(Trainer, "fit", fail)
    assert run_of(root, optimizer="fgsam", num_steps=60).results == finished.results


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_every_optimizer_trains_and_gives_the_same_bits(optimizer, root, tmp_path):
    rule = {"name": optimizer, **SHORTER.get(optimizer, {})}
    first, second = (run_of(place, optimizer=rule, encoder=SMALL) for place in (root, tmp_path))
    assert first.results == second.results
    assert first.directory.name == second.directory.name


@pytest.mark.parametrize("encoder", sorted(ENCODERS))
@pytest.mark.parametrize("message_passing", ["always", "test", "never"])
def test_every_encoder_trains_in_every_way(encoder, message_passing, root):
    found = run_of(root, encoder=encoder, optimizer="fgsam", message_passing=message_passing, num_steps=2)
    assert all(math.isfinite(line["loss"]) for line in found.history if "loss" in line)
    assert load_run(found.directory, graph=tiny_graph()).evaluate() == found.test


def test_a_module_of_pytorch_geometric_trains(root):
    def make(num_features):
        return GraphSAGE(num_features, 8, 2, out_channels=8)

    for message_passing in ("always", "test"):
        found = run_of(root, encoder=make, optimizer="fgsam", message_passing=message_passing, num_steps=3)
        assert 0 <= found.test.accuracy <= 1


@pytest.mark.parametrize("optimizer", ["adam", "fgsam", "fgsam_plus", "sassha"])
@pytest.mark.parametrize("batch_size", [None, 50])
@pytest.mark.parametrize("num_steps", [1, 5])
def test_stopping_saving_and_going_on_changes_no_bit(optimizer, batch_size, num_steps, tmp_path):
    whole = trainer_of(optimizer, batch_size=batch_size)
    whole.fit()
    half = trainer_of(optimizer, batch_size=batch_size)
    assert half.fit(lambda: half.step == num_steps) == "stopped"
    save_checkpoint(tmp_path / "state", half.state_dict())
    resumed = trainer_of(optimizer, batch_size=batch_size)
    resumed.load_state_dict(load_checkpoint(tmp_path / "state"))
    resumed.fit()
    assert digest(resumed) == digest(whole)
    assert [v.score for v in resumed.history] == [v.score for v in whole.history]
    assert resumed.choose()[0] == whole.choose()[0]


def test_an_interrupted_run_goes_on(tmp_path, root):
    import signal

    class Stop(fgsam.Callback):
        def on_step(self, trainer):
            if trainer.step == 4:
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted, match="Stopped after step 4 of 12"):
        run_of(tmp_path, callbacks=[Stop()])
    assert run_of(tmp_path).results == run_of(root).results


def test_fields_are_built_once_for_the_whole_training(monkeypatch):
    made = []
    real = node_task.field_of

    def counting(encoder, graph, nodes, *, peer=False):
        made.append(peer)
        return real(encoder, graph, nodes, peer=peer)

    monkeypatch.setattr(node_task, "field_of", counting)
    trainer = trainer_of("fgsam")
    trainer.fit()
    assert sorted(made) == [False, True]
    made.clear()
    trainer_of("fgsam", batch_size=50).fit()
    assert made == [False, True] * 8


def test_peer_mlp_and_mlp_never_build_a_field_with_edges_while_training(monkeypatch):
    made = []
    real = node_task.field_of
    monkeypatch.setattr(node_task, "field_of", lambda *args, peer=False: (made.append(peer), real(*args, peer=peer))[1])
    for message_passing in ("test", "never"):
        trainer_of("fgsam", method={"message_passing": message_passing}).fit()
    assert set(made) == {True}


def test_an_mlp_does_not_see_edges_and_the_others_do():
    graph = tiny_graph()
    for message_passing, depends in (("always", True), ("test", True), ("never", False)):
        trainer = trainer_of(method={"message_passing": message_passing})
        x = field_of(trainer.method.encoder, graph, torch.arange(240), peer=True).dense_x()
        alone = Graph.from_arrays(x, np.zeros((2, 0), dtype=int), graph.labels, directed=False)
        nodes = torch.arange(20)
        with_edges, without = (NodeScorer(g, nodes).logits(trainer.method) for g in (graph, alone))
        assert torch.allclose(with_edges, without) != depends


def test_batches_go_through_all_training_nodes_before_one_comes_again():
    config = config_of(train={"batch_size": 50})
    task = build_inputs(config, tiny_graph()).task(None)
    epochs = [[task.draw(("s", 0), 3 * epoch + step).nodes for step in (1, 2, 3)] for epoch in (0, 1)]
    for batches in epochs:
        assert [len(nodes) for nodes in batches] == [50, 50, 44]
        assert torch.cat(batches).sort().values.tolist() == task.split.train.tolist()
    assert torch.cat(epochs[0]).tolist() != torch.cat(epochs[1]).tolist()
    again = build_inputs(config, tiny_graph()).task(None)
    assert again.draw(("s", 0), 5).nodes.tolist() == epochs[1][1].tolist()


def test_a_full_batch_step_is_the_step_of_a_plain_loop():
    trainer = trainer_of(num_steps=1)
    twin = trainer_of(num_steps=1)
    method, split, graph = twin.method.train(), twin.task.split, tiny_graph()
    optimizer = torch.optim.Adam(method.parameters(), lr=0.02, weight_decay=5e-4, fused=True)
    trainer.fit()
    fgsam.engine.train.seed_global(graph.device, "step", "split", 0, 1)
    logits = method(field_of(method.encoder, graph, split.train))
    torch.nn.functional.cross_entropy(logits, graph.labels[split.train]).backward()
    optimizer.step()
    for name, value in trainer.method.state_dict().items():
        torch.testing.assert_close(value, method.state_dict()[name], rtol=0, atol=1e-6)


def test_two_classes_are_chosen_and_reported_by_the_area_under_the_curve(root):
    from sklearn.metrics import roc_auc_score

    found = run_of(root, graph=two_class_graph())
    assert found.results["metric"] == "roc_auc"
    data = found._loaded().data
    logits = NodeScorer(data.graph, data.split.test).logits(found._loaded().learner)
    labels = data.graph.labels[data.split.test]
    area = roc_auc_score(labels.numpy(), (logits[:, 1] - logits[:, 0]).double().numpy())
    assert found.test.roc_auc == pytest.approx(area, abs=1e-12)
    assert "ROC AUC" in str(found.test)
    validations = [line for line in found.history if "val_roc_auc" in line]
    assert found.results["val_roc_auc"] == max(line["val_roc_auc"] for line in validations)


def test_unlabelled_nodes_are_in_no_part(root):
    graph = tiny_graph()
    labels = graph.labels.clone()
    labels[::3] = -1
    data = build_inputs(config_of(), graph.replaced(labels=labels))
    together = torch.cat([data.split.train, data.split.val, data.split.test])
    assert together.sort().values.tolist() == torch.where(labels >= 0)[0].tolist()


def test_the_split_is_part_of_what_a_run_is(root):
    names = {run_of(root, split=split, num_steps=1).directory.name for split in (0, 1)}
    assert len(names) == 2


def test_hits_are_packed_and_unpacked():
    hits = torch.rand(37, generator=torch.Generator().manual_seed(0)) < 0.5
    assert unpacked(packed(hits), 37).tolist() == hits.tolist()


@pytest.mark.dataset
def test_public_splits_are_used_where_there_are_any(data_root):
    def kind(name, **dataset):
        config = load_config(values={**TASK, "dataset": {"name": name, **dataset}})
        split = build_inputs(config).split
        return split.kind, split.name, sum(split.sizes.values())

    assert kind("texas", split=3) == ("public", "3", 183)
    assert kind("cora", split=0) == ("public", "0", 1640)
    assert kind("cora", split=1) == ("drawn_20", "1", 1640)
    assert kind("cora", split=0, split_kind="drawn") == ("drawn", "0", 2708)
    assert kind("cora_ml") == ("drawn", "0", 2995)


@pytest.mark.dataset
def test_a_changed_graph_under_a_public_name_is_refused(data_root):
    graph = fgsam.load_graph("texas", data_root)
    small = Graph.from_arrays(np.eye(100), [[0], [1]], graph.labels[:100], directed=False, name="texas")
    with pytest.raises(ValueError, match="to have the nodes of its public splits"):
        build_inputs(config_of(), small)


def faults(graph=None, **sections):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the text is what is looked at)
        build_inputs(config_of(**sections), graph or tiny_graph()).task(None)
    return str(caught.value)


def test_what_does_not_fit_the_graph_is_said():
    graph = tiny_graph()
    assert "public splits for dataset.split_kind=public" in faults(dataset={"split_kind": "public"})
    assert "batch_size=500, 144 nodes" in faults(train={"batch_size": 500})
    assert "Expected a graph with labels" in faults(graph.replaced(labels=torch.full((240,), -1)))
    few = torch.full((240,), -1)
    few[:2] = 0
    assert "got none in test" in faults(graph.replaced(labels=few))


def test_a_class_without_training_node_is_told(caplog):
    labels = tiny_graph().labels.clone()
    labels[labels == 11] = 0
    labels[-1] = 12
    config = config_of(dataset={"split_kind": "drawn_20"})
    with pytest.raises(ValueError, match="20 labelled nodes"):
        build_inputs(config, tiny_graph().replaced(labels=labels))
    from fgsam.engine.node_data import _check_parts
    from fgsam.nodes.split import NodeSplit

    _check_parts(NodeSplit("mine", [0], [1], [2]), tiny_graph())
    assert "no training node of class 1, 2, 3" in caplog.text


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["episode.n_way=3"], r"Expected no 'episode.n_way' with task=node_classification .*set task=few_shot"),
        (["train.num_episodes=3"], r"Expected no 'train.num_episodes' with task=node_classification"),
        (["evaluate.num_episodes=3"], r"Expected no 'evaluate.num_episodes'"),
        (["graph.setting=inductive"], r"Expected no 'graph.setting'"),
        (["method.name=raw_lr"], r"'method.name' to be a classifier of task=node_classification .*of task=few_shot"),
        (["method.name=gnp"], r"known classifier or 'package.module:Class'"),
        (["method.variant=fgsam"], r"classifier 'classifier' has .*Known by amm_gnn, gpn"),
        (["dataset.split=published"], r"'dataset.split' to be a valid integer"),
        (["dataset.split=-1"], r"greater than or equal to 0"),
        (["train.batch_size=0"], r"'train.batch_size'"),
    ],
)
def test_keys_of_the_other_task_are_faults_with_the_way_out(overrides, expected):
    with pytest.raises(ConfigError, match=expected):
        load_config(overrides=["task=node_classification", *overrides])


def test_a_key_of_nodes_is_a_fault_for_episodes():
    with pytest.raises(ConfigError, match=r"'train.batch_size' with task=few_shot .*set task=node_classification"):
        load_config(overrides=["train.batch_size=5"])
    with pytest.raises(ConfigError, match=r"'dataset.split_kind' with task=few_shot"):
        load_config(overrides=["dataset.split_kind=drawn"])
    with pytest.raises(ConfigError, match="'task' to be one of few_shot, node_classification"):
        load_config(overrides=["task=nodes"])


def test_what_a_file_says_of_the_other_task_gives_way_to_the_command_line():
    config = load_config("quickstart", ["task=node_classification", "train.num_steps=7"])
    assert (config.task, config.train.num_steps, config.method.name) == ("node_classification", 7, "classifier")
    back = load_config("node_classification/peer_mlp", ["task=few_shot", "dataset.name=synthetic"])
    assert (back.task, back.method.name, back.episode.n_way) == ("few_shot", "gpn", 5)


def test_a_config_of_nodes_is_read_back_unchanged(tmp_path):
    config = load_config("node_classification/gcn")
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    again = load_config(tmp_path / "config.yaml")
    assert again.resolved() == config.resolved()
    assert again.content() == config.content()
    assert config.content()["task"] == "node_classification"
    assert "task" not in load_config().content()
    assert [key for key, text in config.descriptions.items() if not text] == []


def test_keys_of_a_call_find_their_section():
    from fgsam.engine.arguments import config_of_call

    options = {"split": 3, "batch_size": 9, "message_passing": "test", "hidden": 5}
    config, _ = config_of_call("cora_ml", task="node_classification", options=options)
    assert (config.dataset.split, config.train.batch_size, config.encoder.hidden) == (3, 9, 5)
    assert config.method.message_passing == "test"
    with pytest.raises(ConfigError, match=r"'episode.n_way' with task=node_classification"):
        config_of_call("cora_ml", task="node_classification", options={"n_way": 3})


def test_a_few_shot_learner_is_no_classifier(root):
    from fgsam.methods.protonet import ProtoNet

    with pytest.raises((TypeError, ValueError), match=r"NodeClassifier|of task=few_shot"):
        run_of(root, method=ProtoNet)


def test_the_task_needs_a_batch_that_fits():
    data = build_inputs(config_of(), tiny_graph())
    with pytest.raises(ValueError, match="at most the number of training nodes"):
        NodeTask(data.graph, data.split, batch_size=145)
