"""Whole runs in every setting of episodes and graph."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from fgsam.engine.episode_task import EpisodeTask
from fgsam.engine.evaluate import BankScorer, mean_recall
from fgsam.engine.floors import difference
from fgsam.engine.outcome import load_run
from fgsam.registry import METHODS
from tests.engine.test_data import graph_with_sizes
from tests.engine.tiny import tiny_graph, tiny_run

SETTINGS = [
    {"num_query": "all"},
    {"query_imbalance": 0.5},
    {"without_replacement": True},
    {"support_noise": 0.5},
    {"edge_noise": 0.3},
    {"setting": "inductive"},
    {"k_shot": 1},
    {"setting": "inductive", "edge_noise": 0.3, "support_noise": 0.5, "query_imbalance": 2.0},
]

each_setting = pytest.mark.parametrize("setting", SETTINGS, ids=str)
EVERY_METHOD = [
    pytest.param(name, setting, id=f"{name}-{setting}")
    for name in sorted(METHODS)
    for setting in SETTINGS
    if name != "ceiling" or "setting" not in setting  # it refuses graphs without the classes that it is taught
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@cache
def uneven_graph(num_classes=12):
    graph = tiny_graph(num_classes)
    keep = torch.rand(graph.num_nodes, generator=torch.Generator().manual_seed(0)) < 0.8
    labels = graph.labels.masked_fill(~keep, -1)
    return type(graph)(graph.x, labels, graph.adjacency, is_weighted=False, is_directed=False, name="uneven")


def run_of(root, method="protonet", **options):
    return tiny_run(root, method=method, optimizer="fgsam_plus", **{"num_episodes": 10, **options})


@pytest.mark.parametrize(("method", "setting"), EVERY_METHOD)
def test_every_method_runs_in_every_setting_and_opens_again(method, setting, root):
    short = {"num_episodes": 4, "train": {"val_episodes": 6}, "evaluate": {"num_episodes": 6}}
    found = run_of(root, method, **setting, **short, graph=uneven_graph())
    opened = load_run(found.directory, graph=uneven_graph())
    assert opened.evaluate() == found.test
    assert opened.results == found.results
    nodes = ([0, 1, 120, 121], ["x", "x", "y", "y"], [2, 123])
    assert opened.predict(*nodes).tolist() == found.predict(*nodes).tolist()


def test_gpn_of_the_other_form_learns_from_one_shot(root):
    found = run_of(root, {"name": "gpn", "variant": "fgsam"}, k_shot=1)
    assert 1 / 3 < found.test.accuracy <= 1


@each_setting
def test_the_same_run_gives_the_same_bits_also_when_it_was_interrupted(setting, root, tmp_path):
    whole = run_of(root, **setting, graph=uneven_graph())
    cut = run_of(tmp_path, **setting, graph=uneven_graph(), max_seconds=1e-9)
    assert cut.results["stopped_by"] == "max_seconds"
    assert run_of(tmp_path, **setting, graph=uneven_graph()).results == whole.results


def test_results_of_uneven_queries_state_the_balanced_accuracy(root):
    found = run_of(root, num_query="all", n_way=2, graph=uneven_graph(20))
    bank = found._loaded().data.test_bank
    results = found.results
    assert results["num_queries"] == bank.num_queries.tolist()
    assert len(set(results["num_queries"])) > 1
    shares = [right / number for right, number in zip(results["test_correct"], results["num_queries"], strict=True)]
    assert results["test_accuracy"] == pytest.approx(sum(shares) / 30)
    assert str(found.balanced) != str(found.test)
    assert found.summary()["test_balanced_accuracy"] == found.balanced.accuracy == results["test_balanced_accuracy"]
    assert 0 < results["val_balanced_accuracy"] <= 1
    assert len(results["val_num_queries"]) == len(results["val_correct"])


def test_results_of_imbalanced_queries_have_one_number_of_queries(root):
    found = run_of(root, query_imbalance=0.5)
    assert found.results["num_queries"] == 12
    assert found.balanced.num_episodes == 30


def test_results_of_even_queries_state_no_balanced_accuracy(root):
    found = run_of(root)
    assert found.balanced is None
    assert not {"test_balanced_accuracy", "val_num_queries", "bank_sizes", "validated_on"} & found.results.keys()


def test_recall_counts_classes_alike_and_leaves_out_those_without_queries(root):
    found = run_of(root, query_imbalance=0.2)
    data, method = found._loaded().data, found._loaded().learner
    hits = BankScorer(data.graph, data.test_bank).hits(method)
    for i, episode in enumerate(data.test_bank):
        right = hits[i, : len(episode.query)]
        recalls = [float(right[episode.query_labels == label].double().mean()) for label in range(3)]
        known = [recall for recall in recalls if recall == recall]
        assert float(mean_recall(hits, data.test_bank)[i]) == pytest.approx(sum(known) / len(known))
    assert any(0 in counts for counts in data.test_bank.query_counts.tolist())


def test_fewer_episodes_than_asked_for_are_recorded(root):
    found = run_of(root, without_replacement=True)
    sizes = found.results["bank_sizes"]
    assert sizes == {"val_bank": len(found.results["val_correct"]), "test_bank": len(found.results["test_correct"])}
    assert 2 <= sizes["test_bank"] < 30


def test_validation_on_training_classes_is_recorded(root):
    found = run_of(root, graph=graph_with_sizes(9, 9, 9, 9, 9), n_way=2)
    assert found.results["validated_on"] == found.summary()["validated_on"] == "training classes"


def test_training_episodes_have_the_same_share_of_wrong_labels(root, monkeypatch):
    seen = []
    draw = EpisodeTask.draw

    def watching(self, stream, step):
        episode, labels = draw(self, stream, step), tiny_graph().labels
        seen.append((int((labels[episode.support] != episode.classes[episode.support_labels]).sum()), episode))
        return episode

    monkeypatch.setattr(EpisodeTask, "draw", watching)
    run_of(root, support_noise=0.5, seed=9)
    noisy, seen[:] = list(seen), []
    run_of(root, seed=9)
    assert {wrong for wrong, _ in noisy} == {3}
    assert {wrong for wrong, _ in seen} == {0}
    for (_, one), (_, other) in zip(noisy, seen, strict=True):
        assert one.query.tolist() == other.query.tolist()
        assert sorted(one.support.tolist()) == sorted(other.support.tolist())


def test_learner_and_floor_share_a_noisy_bank(root):
    learner, floor = (run_of(root, method, support_noise=0.5) for method in ("protonet", "sgc_prototype"))
    assert -1 <= difference(learner, floor).accuracy <= 1


def test_uneven_learner_and_floor_can_be_compared(root):
    options = {"num_query": "all", "n_way": 2, "graph": uneven_graph(20)}
    learner, floor = (run_of(root, method, **options) for method in ("protonet", "sgc_prototype"))
    assert difference(learner, floor).accuracy == pytest.approx(learner.test.accuracy - floor.test.accuracy)


def test_an_older_run_without_the_new_keys_opens(root):
    found = run_of(root, seed=3)
    config = found.directory / "config.yaml"
    lines = config.read_text().splitlines()
    new = ("graph:", "  setting:", "  edge_noise:", "  query_imbalance:", "  without_replacement:", "  support_noise:")
    kept = [line for line in lines if not line.startswith((*new, "  features:"))]
    assert len(lines) - len(kept) == 7
    config.write_text("\n".join(kept) + "\n")
    assert load_run(found.directory, graph=tiny_graph()).evaluate() == found.test
    assert run_of(root, seed=3).results == found.results
