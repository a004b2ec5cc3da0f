from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from fgsam.episodes.bank import EpisodeBank
from fgsam.episodes.sampler import EpisodeSampler
from fgsam.methods.floors import SGCLR, RawLR, SGCPrototype
from fgsam.methods.smoothing import smoothed_features
from tests.methods.tiny import tiny_graph


def tiny_bank(num_episodes: int, seed: int = 0) -> EpisodeBank:
    sampler = EpisodeSampler(tiny_graph().labels, range(4), n_way=3, k_shot=2, num_query=4)
    return EpisodeBank.draw(sampler, num_episodes, np.random.default_rng(seed))


def test_logistic_floor_predicts_as_scikit_learn_does():
    graph, bank = tiny_graph(), tiny_bank(20)
    floor = RawLR(costs=[10.0])
    floor.fit(graph, bank)
    rows = smoothed_features(graph, "raw", 0, 128).numpy()
    for i, episode in enumerate(bank):
        model = LogisticRegression(C=10.0, tol=1e-8, max_iter=1000)
        expected = model.fit(rows[episode.support], episode.support_labels).predict(rows[episode.query])
        assert floor.score(bank)[i] == np.mean(expected == episode.query_labels.numpy())


def test_prototype_floor_takes_the_nearest_class_mean():
    graph, bank = tiny_graph(), tiny_bank(5)
    floor = SGCPrototype(hops=[2], edges=["row"])
    floor.fit(graph, bank)
    rows = smoothed_features(graph, "row", 2, 128)
    for episode in bank:
        means = [rows[episode.support[episode.support_labels == c]].mean(0) for c in range(3)]
        expected = [int(np.argmin([float((rows[node] - mean).norm()) for mean in means])) for node in episode.query]
        found = floor.predict(episode.support, episode.support_labels, episode.query, 3)
        assert found.tolist() == expected


def test_all_candidates_meet_on_fifty_episodes_and_three_on_the_whole_bank():
    floor, bank = SGCLR(hops=[1, 2], costs=[1.0, 10.0]), tiny_bank(70)
    lengths = []
    score = floor.score
    floor.score = lambda part: (lengths.append(len(part)), score(part))[1]
    report = floor.fit(tiny_graph(), bank)
    assert lengths == [50] * 8 + [70] * 3
    assert len(report["candidates"]) == 8
    finalists = [row for row in report["candidates"] if "val_accuracy" in row]
    assert len(finalists) == 3
    assert min(row["screen_accuracy"] for row in finalists) >= max(
        row["screen_accuracy"] for row in report["candidates"] if row not in finalists
    )
    assert report["val_accuracy"] == max(row["val_accuracy"] for row in finalists)


def test_the_setting_in_use_is_the_reported_one():
    floor, bank = SGCLR(), tiny_bank(60)
    report = floor.fit(tiny_graph(), bank)
    assert float(floor.score(bank).mean()) == report["val_accuracy"]
    chosen = report["setting"]
    same = SGCLR(hops=[chosen["num_hops"]], edges=[chosen["edges"]], costs=[chosen["cost"]])
    same.fit(tiny_graph(), tiny_bank(2))
    torch.testing.assert_close(same.score(bank), floor.score(bank), rtol=0, atol=0)


def test_smoothing_beats_the_raw_features_where_neighbours_share_a_class():
    graph, val, test = tiny_graph(), tiny_bank(60), tiny_bank(60, seed=1)
    accuracy = {}
    for floor in (RawLR(), SGCLR(), SGCPrototype()):
        floor.fit(graph, val)
        accuracy[type(floor)] = float(floor.score(test).mean())
    assert accuracy[SGCLR] > accuracy[RawLR] > 1 / 3
    assert accuracy[SGCPrototype] > accuracy[RawLR]


@pytest.mark.parametrize("options", [{"hops": [0]}, {"costs": [-1.0]}, {"dim": 0}, {"hops": []}, {"edges": ["raw"]}])
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match="Expected '"):
        SGCLR(**options)


@pytest.mark.parametrize("kind", [SGCLR, SGCPrototype])
def test_stronger_smoothing_is_a_choice_beside_hops(kind):
    floor = kind(hops=[2], edges=["sym"], smoothing=["hops", "pagerank", "scales"])
    graph, bank = tiny_graph(), tiny_bank(10)
    floor.fit(graph, bank)
    names = [setting["smoothing"] for setting in floor.candidates()]
    assert list(dict.fromkeys(names)) == ["hops", "pagerank", "scales"]
    floor._use(graph, floor.candidates()[-1])
    expected = smoothed_features(graph, "sym", 2, 128, smoothing="scales")
    torch.testing.assert_close(floor._known, expected, rtol=0, atol=0)


def test_as_many_trials_as_asked_are_drawn_from_the_candidates():
    floor = SGCLR(num_trials=5)
    tried = floor.fit(tiny_graph(), tiny_bank(5))["candidates"]
    places = [floor.candidates().index(row["setting"]) for row in tried]
    assert len(set(places)) == 5
    assert places == sorted(places) != list(range(5))
    assert SGCLR(num_trials=5).trials() == floor.trials()
    assert len(SGCLR(num_trials=99).trials()) == 32


@pytest.mark.parametrize("options", [{"num_trials": 0}, {"smoothing": []}, {"smoothing": ["walks"]}])
def test_impossible_choices_are_refused(options):
    with pytest.raises(ValueError, match="Expected '"):
        SGCLR(**options)
