from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fgsam.episodes.bank import EpisodeBank
from fgsam.episodes.noise import noisy_support, num_wrong, with_support_noise
from fgsam.episodes.sampler import EpisodeSampler
from fgsam.episodes.streams import generator

LABELS = np.arange(80) % 5


def draw(seed=0, **sizes):
    sampler = EpisodeSampler(LABELS, range(5), **{"n_way": 3, "k_shot": 2, "num_query": 4, **sizes})
    return sampler.draw(generator("episode", seed))


@settings(deadline=None, max_examples=200)
@given(st.integers(2, 6), st.integers(1, 5), st.floats(0, 1, exclude_max=True), st.integers(0, 10**6))
def test_exactly_the_share_of_places_holds_a_node_of_another_class(n_way, k_shot, share, seed):
    try:
        number = num_wrong(share, n_way, k_shot)
    except ValueError:
        return
    support = torch.arange(n_way * k_shot) + 100
    noisy = noisy_support(support, n_way, share, generator("noise", seed))
    assert sorted(noisy.tolist()) == support.tolist()
    owners, found = (support - 100) // k_shot, (noisy - 100) // k_shot
    assert int((owners != found).sum()) == number == round(share * n_way * k_shot)
    assert int((noisy != support).sum()) == number
    assert max((owners != found).view(n_way, k_shot).sum(-1).tolist()) <= number / 2


def test_queries_and_the_set_of_nodes_stay():
    clean = draw()
    noisy = with_support_noise(clean, 0.5, generator("noise"))
    assert noisy.support.tolist() != clean.support.tolist()
    assert sorted(noisy.nodes.tolist()) == sorted(clean.nodes.tolist())
    assert noisy.query.tolist() == clean.query.tolist()
    assert noisy.support_labels.tolist() == clean.support_labels.tolist()
    assert clean.support.tolist() == draw().support.tolist()


def test_every_place_is_chosen_as_often_as_any_other():
    counts = torch.zeros(6)
    support = torch.arange(6)
    rng = generator("even")
    for _ in range(3000):
        counts += noisy_support(support, 3, 1 / 3, rng) != support
    # 3000 * 2 / 6 = 1000 each, with standard deviation about 26.
    assert float((counts - 1000).abs().max()) < 120


def test_a_noisy_bank_is_paired_with_the_clean_one():
    sampler = EpisodeSampler(LABELS, range(5), n_way=3, k_shot=2, num_query=4)
    clean = EpisodeBank.draw(sampler, 6, generator("bank"))
    noisy = clean.with_support_noise(0.5, generator("noise", clean.digest))
    assert torch.equal(noisy.query, clean.query)
    assert torch.equal(noisy.classes, clean.classes)
    assert torch.equal(noisy.support.sort(-1).values, clean.support.sort(-1).values)
    assert noisy.digest != clean.digest
    assert noisy.digest == clean.with_support_noise(0.5, generator("noise", clean.digest)).digest
    assert torch.equal(
        noisy.head(2).support, clean.head(2).with_support_noise(0.5, generator("noise", clean.digest)).support
    )


@pytest.mark.parametrize(
    ("share", "n_way", "message"),
    [
        (0.1, 3, r"at least 2 support nodes.* \(got support_noise=0.1, 1 of 6 nodes\)\. The smallest share is 0.333"),
        (0.01, 3, "0 of 6 nodes"),
        (0.75, 2, "an even number of support nodes"),
        (1.0, 3, r"a share in \[0, 1\) \(got support_noise=1.0\)"),
        (float("nan"), 3, "a share in"),
        (0.5, 1, "at least 2 support nodes"),
    ],
)
def test_a_share_that_cannot_be_met_is_refused(share, n_way, message):
    episode = replace(draw(n_way=n_way))
    with pytest.raises(ValueError, match=message):
        with_support_noise(episode, share, generator("noise"))


def test_no_noise_changes_nothing():
    assert with_support_noise(draw(), 0.0, generator("noise")).support.tolist() == draw().support.tolist()
