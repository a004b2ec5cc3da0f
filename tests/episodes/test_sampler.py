import logging
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fgsam.episodes.sampler import EpisodeSampler, _apportioned, _distinct
from fgsam.episodes.streams import generator
from tests.twins.episodes import check_episode, shuffled_prefix

PINNED = ([3, 0], [15, 27, 4, 52], [59, 36])


def labels_of(*sizes):
    """Shuffled labels with the given class sizes, and a few unlabelled nodes."""
    labels = np.concatenate([np.repeat(np.arange(len(sizes)), sizes), np.full(7, -1)])
    return np.random.default_rng(0).permutation(labels)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 4), st.integers(0, 10**6))
def test_every_episode_keeps_its_promises(n_way, k_shot, num_query, seed):
    labels = labels_of(7, 9, 30, 8, 12)
    sampler = EpisodeSampler(labels, [0, 1, 2, 4], n_way=n_way, k_shot=k_shot, num_query=num_query)
    check_episode(sampler.draw(generator("t", seed)), labels, {0, 1, 2, 4}, n_way, k_shot, num_query)


def test_same_generator_gives_the_same_episode():
    sampler = EpisodeSampler(torch.from_numpy(labels_of(20, 20, 20)), range(3), n_way=2, k_shot=3, num_query=5)
    assert sampler.draw(generator("a")).nodes.tolist() == sampler.draw(generator("a")).nodes.tolist()
    assert sampler.draw(generator("a")).nodes.tolist() != sampler.draw(generator("b")).nodes.tolist()


def test_episode_is_pinned_across_versions():
    sampler = EpisodeSampler(np.arange(60) % 4, range(4), n_way=2, k_shot=2, num_query=1)
    episode = sampler.draw(generator("pinned", 0))
    assert (episode.classes.tolist(), episode.support.tolist(), episode.query.tolist()) == PINNED


@settings(deadline=None)
@given(st.integers(1, 50), st.data())
def test_early_stop_equals_the_whole_shuffle(size, data):
    numbers = data.draw(st.lists(st.floats(0, 1, exclude_max=True), max_size=size))
    assert _distinct(size, numbers) == shuffled_prefix(size, numbers)


def test_nodes_and_classes_are_drawn_evenly():
    sampler = EpisodeSampler(np.arange(40) % 4, range(4), n_way=2, k_shot=1, num_query=2)
    rng = generator("even")
    counts = np.zeros(40)
    for _ in range(4000):
        counts[sampler.draw(rng).nodes.numpy()] += 1
    # 4000 episodes * 6 nodes / 40 nodes = 600 each, with standard deviation about 23.
    assert np.abs(counts - 600).max() < 120


def test_unlabelled_nodes_are_never_drawn():
    labels = labels_of(6, 6)
    sampler = EpisodeSampler(labels, [0, 1], n_way=2, k_shot=3, num_query=3)
    assert sorted(sampler.draw(generator("a")).nodes.tolist()) == np.flatnonzero(labels >= 0).tolist()


def test_too_many_ways_are_refused():
    with pytest.raises(ValueError, match=r"got n_way=3, classes=2\)\. Lower episode\.n_way or widen the class split"):
        EpisodeSampler(labels_of(9, 9, 9), [0, 1], n_way=3, k_shot=1, num_query=1)


def test_small_classes_are_named():
    with pytest.raises(ValueError, match=r"= 9 labelled nodes \(got class 0 has 8, class 3 has 0\)\. Lower episode"):
        EpisodeSampler(labels_of(8, 9, 9), range(4), n_way=2, k_shot=3, num_query=6)


def test_small_classes_can_be_left_out_with_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        sampler = EpisodeSampler(labels_of(8, 9, 9), range(3), n_way=2, k_shot=3, num_query=6, drop_small=True)
    assert sampler.classes == (1, 2)
    assert "fewer than 9 labelled nodes are left out: class 0 has 8" in caplog.text


def test_too_few_large_classes_are_refused():
    with pytest.raises(ValueError, match=r"at least n_way=3 classes .* \(got 2; class 0 has 8\)"):
        EpisodeSampler(labels_of(8, 9, 9), range(3), n_way=3, k_shot=3, num_query=6, drop_small=True)


@pytest.mark.parametrize("name", ["n_way", "k_shot", "num_query"])
def test_sizes_must_be_positive(name):
    sizes = {"n_way": 1, "k_shot": 1, "num_query": 1} | {name: 0}
    with pytest.raises(ValueError, match=f"'{name}' to be positive"):
        EpisodeSampler(labels_of(8, 9), range(2), **sizes)


def test_all_other_nodes_can_be_queries():
    labels = labels_of(7, 9, 30)
    episode = EpisodeSampler(labels, range(3), n_way=2, k_shot=3, num_query="all").draw(generator("a"))
    members = np.flatnonzero(np.isin(labels, episode.classes.numpy()))
    assert sorted(episode.nodes.tolist()) == members.tolist()
    assert episode.classes[episode.query_labels].tolist() == labels[episode.query.numpy()].tolist()


def test_with_all_queries_a_class_needs_one_node_more_than_its_supports():
    sampler = EpisodeSampler(labels_of(4, 4, 3), range(3), n_way=2, k_shot=3, num_query="all", drop_small=True)
    assert sampler.classes == (0, 1)
    with pytest.raises(ValueError, match=r"k_shot \+ 1 = 4 labelled nodes \(got class 2 has 3\)"):
        EpisodeSampler(labels_of(4, 4, 3), range(3), n_way=2, k_shot=3, num_query="all")


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 4), st.floats(0.01, 50), st.integers(0, 10**6))
def test_imbalanced_episodes_keep_their_number_of_queries(n_way, k_shot, num_query, alpha, seed):
    labels = labels_of(7, 9, 30, 8, 12)
    sizes = {"n_way": n_way, "k_shot": k_shot, "num_query": num_query}
    episode = EpisodeSampler(labels, range(5), **sizes, query_imbalance=alpha).draw(generator("t", seed))
    assert len(episode.query) == len(episode.query_labels) == n_way * num_query
    assert len(set(episode.nodes.tolist())) == len(episode.nodes)
    assert labels[episode.query.numpy()].tolist() == episode.classes[episode.query_labels].tolist()
    assert len(episode.support) == n_way * k_shot


def test_shares_of_imbalanced_queries_are_those_of_the_dirichlet_distribution():
    sampler = EpisodeSampler(np.arange(4000) % 4, range(4), n_way=4, k_shot=1, num_query=100, query_imbalance=2.0)
    rng = generator("shares")
    shares = np.stack([sampler.draw(rng).query_labels.bincount(minlength=4).numpy() for _ in range(1000)]) / 400
    # Dirichlet(2, 2, 2, 2): mean 1/4, variance 1/4 * 3/4 / 9; its standard error over 1000 draws is below 0.005.
    np.testing.assert_allclose(shares.mean(0), 0.25, atol=0.02)
    np.testing.assert_allclose(shares.var(0), 0.25 * 0.75 / 9, rtol=0.2)


def test_queries_that_a_class_has_no_room_for_go_to_the_others():
    assert _apportioned(np.array([0.9, 0.1, 0.0]), 10, np.array([4, 3, 9])) == [4, 3, 3]
    assert _apportioned(np.array([0.5, 0.25, 0.25]), 10, np.array([9, 9, 9])) == [5, 3, 2]


@pytest.mark.parametrize(("num_query", "alpha"), [(5, 0.0), (5, float("nan")), ("all", 2.0)])
def test_an_imbalance_that_makes_no_sense_is_refused(num_query, alpha):
    with pytest.raises(ValueError, match=r"'query_imbalance' to be at least 0\.01, beside a number of query nodes"):
        EpisodeSampler(labels_of(9, 9), range(2), n_way=2, k_shot=1, num_query=num_query, query_imbalance=alpha)


def test_drawing_costs_little():
    sampler = EpisodeSampler(np.arange(20_000) % 70, range(40), n_way=5, k_shot=3, num_query=10)
    best = min(_seconds(sampler) for _ in range(5))
    # About 60 microseconds on a free core; the bound leaves room for a busy one.
    assert best < 1e-3


def _seconds(sampler):
    rng = generator("speed")
    start = time.perf_counter()
    for _ in range(50):
        sampler.draw(rng)
    return (time.perf_counter() - start) / 50
