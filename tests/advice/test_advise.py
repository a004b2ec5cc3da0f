from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.nn import GATConv

import fgsam
from fgsam.advice import advise as advice_module
from fgsam.advice import timing
from fgsam.advice.advise import Advice, advise, config_of_texts
from fgsam.graph.graph import Graph
from tests.nets import CoupledNet, DifferenceNet

ARRAYS: dict[str, Any] = {
    "x": np.random.default_rng(0).random((40, 6), dtype=np.float32),
    "edge_index": np.random.default_rng(1).integers(0, 40, (2, 90)),
    "labels": np.arange(40) % 3,
}


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(timing, "MOST_ROUNDS", 1)
    monkeypatch.setattr(advice_module, "NUM_STEPS", 6)


def graph() -> Graph:
    return Graph.from_arrays(ARRAYS["x"], ARRAYS["edge_index"], ARRAYS["labels"], directed=False)


def without_times(advice: Advice) -> dict[str, Any]:
    parts = ("graph", "encoder", "batch", "peer", "gradients", "homophily", "probes")
    return {name: advice.to_dict()[name] for name in parts}


def test_everything_but_the_times_is_repeated():
    first, second = (advise(graph(), encoder="gcn", hidden=8) for _ in range(2))
    assert without_times(first) == without_times(second)
    assert without_times(first) != without_times(advise(graph(), encoder="gcn", hidden=9))


def test_nothing_outside_is_moved():
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    advise(graph())
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.get_num_threads() == threads


def test_a_file_and_a_graph_say_the_same(tmp_path: Path):
    path = tmp_path / "own.npz"
    np.savez(path, **ARRAYS, directed=np.asarray(False))
    assert without_times(advise(path)) == without_times(advise(graph()))


def test_the_page_has_every_part_and_the_dict_is_json():
    advice = fgsam.advise(graph(), encoder="gat")
    page = str(advice)
    for title in ("Peer", "Time of a step", "Peer gradient", "Homophily", "What that suggests"):
        assert f"\n{title}" in page
    assert f"Suggested: {advice.suggestion}" in page
    content = json.loads(json.dumps(advice.to_dict()))
    assert content["suggestion"] == advice.suggestion
    assert max(map(len, page.splitlines())) < 200


def test_the_page_names_parameters_without_gradient_in_the_peer():
    advice = advise(graph(), encoder=lambda num_features: GATConv(num_features, 4))
    assert advice.peer.layers[0].dead == ("att_dst", "att_src")
    assert "att_dst, att_src" in str(advice)


def test_a_module_without_a_peer_is_a_finding():
    advice = advise(graph(), encoder=DifferenceNet)
    assert (advice.suggestion, advice.gradients, advice.probes.peer) == ("sam", None, None)
    assert advice.times.of("fgsam").mean is None
    assert advice.times.of("sam").mean is not None
    page = str(advice)
    assert re.search(r"^fgsam( +-){4}$", page, re.MULTILINE)
    assert "EdgeConv" in page


def test_coupled_rows_are_refused_unless_allowed():
    with pytest.raises(ValueError, match="norm"):
        advise(graph(), encoder=CoupledNet)
    advice = advise(graph(), encoder=CoupledNet, train={"allow_inexact": True})
    assert advice.peer.coupled
    assert advice.gradients is not None


def test_when_time_is_short_it_is_said():
    advice = advise(graph(), seconds=0.001)
    assert any("Training stopped after 1 of 6 steps" in note for note in advice.notes)
    assert all(f"Note: {note}" in str(advice) for note in advice.notes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.full(40, -1)}, "Expected a graph with at least 4 labelled nodes of 2 classes"),
        ({"x": np.zeros((40, 0), dtype=np.float32)}, "Expected a graph with nodes and features"),
    ],
)
def test_a_graph_that_cannot_be_learned_is_a_fault(changes: dict[str, Any], message: str):
    arrays = {**ARRAYS, **changes}
    with pytest.raises(ValueError, match=message):
        advise(Graph.from_arrays(arrays["x"], arrays["edge_index"], arrays["labels"], directed=False))


def test_settings_of_a_command_line_reach_encoder_and_graph():
    config = config_of_texts("synthetic", "gcn", ["encoder.hidden=7", "dataset.num_nodes=300"])
    assert config.encoder.options["hidden"] == 7
    assert config.dataset.options["num_nodes"] == 300
    assert config_of_texts("my.npz", "gat", []).dataset.path == "my.npz"


def test_settings_without_a_meaning_here_are_a_fault():
    with pytest.raises(ValueError, match=r"Expected settings of the encoder or the graph \(got 'train.lr=1'\)"):
        config_of_texts("synthetic", "gcn", ["train.lr=1"])
