from __future__ import annotations

import numpy as np
import pytest
import torch

from fgsam.episodes.bank import EpisodeBank
from fgsam.episodes.sampler import EpisodeSampler
from fgsam.methods.floors import SGCPrototype
from fgsam.methods.sgc_kmeans import SGCKMeans, balanced
from fgsam.methods.smoothing import smoothed_features
from fgsam.registry import METHODS
from tests.methods.tiny import tiny_graph


def tiny_bank(num_query: int = 4) -> EpisodeBank:
    sampler = EpisodeSampler(tiny_graph().labels, range(4), n_way=3, k_shot=1, num_query=num_query)
    return EpisodeBank.draw(sampler, 30, np.random.default_rng(0))


def uneven_bank() -> EpisodeBank:
    """Every other episode has four, two and one query nodes of its classes; the last one fills the row."""
    bank = tiny_bank()
    query, counts = bank.query.clone(), torch.full((30, 3), 4)
    query[::2] = query[::2][:, [0, 1, 2, 3, 4, 5, 8, 8, 8, 8, 8, 8]]
    counts[::2] = torch.tensor([4, 2, 1])
    return EpisodeBank(bank.classes, bank.support, query, counts)


def fitted(**options: object) -> SGCKMeans:
    single = {
        "hops": [2],
        "edges": ["row"],
        "temperatures": [0.3],
        "steps": [4],
        "smoothing": ["hops"],
        "balances": [0.0],
    }
    floor = SGCKMeans(**{**single, **options})  # type: ignore[arg-type]
    floor.fit(tiny_graph(), tiny_bank())
    return floor


@pytest.mark.parametrize("balance", [0.0, 0.7])
def test_each_step_moves_the_means_to_their_shares_of_the_queries(balance: float):
    floor, rows = fitted(balances=[balance]), smoothed_features(tiny_graph(), "row", 2, 128).double().numpy()

    def scores(queries: np.ndarray, means: list[np.ndarray]) -> np.ndarray:
        found = np.array([[-((row - mean) ** 2).sum() / 0.3 for mean in means] for row in queries])
        for _ in range(3):
            shares = np.exp(found) / np.exp(found).sum(1, keepdims=True)
            found = found - balance * np.log((shares.sum(0) + 0.5) / (len(queries) / 3 + 0.5))
        return found

    for episode in tiny_bank():
        queries = rows[episode.query.tolist()]
        means = [rows[episode.support[episode.support_labels == c].tolist()].mean(0) for c in range(3)]
        for _ in range(4):
            sums, sizes = np.array(means) * 0, np.zeros(3)
            for node, label in zip(episode.support.tolist(), episode.support_labels.tolist(), strict=True):
                sums[label] += rows[node]
                sizes[label] += 1
            for row, found in zip(queries, scores(queries, means), strict=True):
                weights = np.exp(found)
                sums += np.outer(weights / weights.sum(), row)
                sizes += weights / weights.sum()
            means = list(sums / sizes[:, None])
        expected = scores(queries, means).argmax(1).tolist()
        assert floor.predict(episode.support, episode.support_labels, episode.query, 3).tolist() == expected


def test_repeated_queries_of_uneven_episodes_do_not_count():
    bank = uneven_bank()
    floor = fitted(temperatures=[0.05])
    alone = [floor.predict(e.support, e.support_labels, e.query, e.n_way) for e in bank]
    hits = floor.hits(bank, 30)
    for row, found, episode in zip(hits, alone, bank, strict=True):
        assert torch.equal(row[: len(found)], found == episode.query_labels)
    counting_them = floor.predict(bank.support, bank.support_labels, bank.query, bank.n_way)
    assert not torch.equal(counting_them == bank.query_labels, hits)


def test_only_floors_that_say_so_let_queries_tell_about_each_other():
    episode = next(iter(tiny_bank()))
    for name in METHODS:
        kind = METHODS.load(name)
        if kind.is_trained:
            continue
        floor = kind()
        floor.fit(tiny_graph(), tiny_bank())
        together = floor._logits(
            floor._chosen, episode.support, episode.support_labels, episode.query, 3, torch.ones(12, dtype=torch.bool)
        )
        alone = floor._logits(
            floor._chosen, episode.support, episode.support_labels, episode.query[:1], 3, torch.ones(1).bool()
        )
        assert torch.allclose(together[:1], alone, atol=1e-5) != kind.uses_queries, name


def test_queries_help_where_supports_are_few():
    floor, plain = SGCKMeans(), SGCPrototype(hops=[2, 4, 8], smoothing=["hops", "pagerank", "scales"])
    for learner in (floor, plain):
        learner.fit(tiny_graph(), tiny_bank())
    assert floor.score(tiny_bank(7)).mean() > plain.score(tiny_bank(7)).mean()


def test_a_balance_pulls_classes_to_equal_sizes():
    scores, counts = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.5, 0.0], [0.0, 9.0]]), torch.ones(4, 1)
    sizes = [(balanced(scores, counts, balance).softmax(-1)[:3]).sum(0)[0] for balance in (0.0, 0.5, 2.0)]
    assert sizes[0] > sizes[1] > sizes[2]
    assert torch.equal(balanced(scores, counts, 0.0), scores)
    alone = balanced(scores[:3], counts[:3], 1.0)
    hidden = balanced(scores, torch.tensor([[1.0], [1.0], [1.0], [0.0]]), 1.0)
    assert torch.equal(hidden[:3], alone)


def test_it_takes_as_many_trials_as_logistic_regression_by_default():
    assert len(SGCKMeans().trials()) == 32


@pytest.mark.parametrize(
    "options",
    [{"temperatures": [0.0]}, {"steps": [0]}, {"steps": []}, {"dim": 0}, {"balances": [-1.0]}, {"balances": []}],
)
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match="Expected '"):
        SGCKMeans(**options)
