import logging

import numpy as np
import pytest
import torch

from fgsam.episodes.bank import EpisodeBank
from fgsam.episodes.sampler import EpisodeSampler
from fgsam.episodes.streams import generator
from fgsam.files import array_bytes
from tests.twins.episodes import check_episode

LABELS = np.arange(80) % 5


def draw_bank(num_episodes=6, seed=0):
    sampler = EpisodeSampler(LABELS, range(5), n_way=3, k_shot=2, num_query=4)
    return EpisodeBank.draw(sampler, num_episodes, generator("bank", seed))


def test_episodes_of_a_bank_are_those_of_the_sampler():
    bank = draw_bank()
    assert (len(bank), bank.n_way, bank.k_shot, bank.num_query) == (6, 3, 2, 4)
    for episode in bank:
        check_episode(episode, LABELS, set(range(5)), 3, 2, 4)
    assert sum(1 for _ in bank) == 6


def test_nodes_are_all_nodes_once():
    bank = draw_bank()
    assert bank.nodes.tolist() == sorted({node for episode in bank for node in episode.nodes.tolist()})


def test_head_keeps_the_first_episodes():
    bank = draw_bank()
    assert torch.equal(bank.head(2).query, bank.query[:2])
    assert bank.head(100).digest == bank.digest


def test_digest_tells_banks_apart():
    assert draw_bank().digest == draw_bank().digest
    assert len({draw_bank().digest, draw_bank(seed=1).digest, draw_bank(5).digest}) == 3


def test_saved_bank_comes_back_equal(tmp_path):
    bank = draw_bank()
    bank.save(tmp_path / "bank.npz")
    loaded = EpisodeBank.load(tmp_path / "bank.npz")
    assert loaded.digest == bank.digest
    assert loaded.classes.dtype == torch.int64
    assert torch.equal(loaded[3].query, bank[3].query)
    assert torch.equal(loaded[3].query_labels, bank[3].query_labels)


@pytest.mark.parametrize("kept", [0, 10, 300, -1])
def test_truncated_bank_is_refused(tmp_path, kept):
    path = tmp_path / "bank.npz"
    draw_bank().save(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"bank\.npz.* Delete the file: the same bank is drawn again"):
        EpisodeBank.load(path)


def test_altered_bank_is_refused(tmp_path):
    bank = draw_bank()
    arrays = {"classes": bank.classes.numpy(), "support": bank.support.numpy() + 1, "query": bank.query.numpy()}
    content = array_bytes({"format": "fgsam episode bank 1", "digest": bank.digest, **arrays})
    (tmp_path / "bank.npz").write_bytes(content)
    with pytest.raises(ValueError, match="The file was altered"):
        EpisodeBank.load(tmp_path / "bank.npz")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.ones(3)}, r"to be an episode bank that this version can read \(got keys \['x'\], format 'None'\)"),
        ({"format": "another"}, "to be an episode bank"),
        (
            {"format": "fgsam episode bank 3", "digest": "", "classes": 1, "support": 1, "query": 2},
            "this version can read .*format 'fgsam episode bank 3'",
        ),
        (
            {"format": "fgsam episode bank 2", "digest": "", "classes": 1, "support": 1, "query": 2},
            "this version can read",
        ),
        (
            {"format": "fgsam episode bank 1", "digest": "", "classes": 1, "support": 1.5, "query": 2},
            "whole numbers, one row an episode",
        ),
    ],
)
def test_foreign_file_is_refused(tmp_path, arrays, message):
    (tmp_path / "bank.npz").write_bytes(array_bytes(arrays))
    with pytest.raises(ValueError, match=message):
        EpisodeBank.load(tmp_path / "bank.npz")


def test_pickled_bank_is_refused_unread(tmp_path):
    np.savez(tmp_path / "bank.npz", format=np.array([print], dtype=object))
    with pytest.raises(ValueError, match="never unpickled"):
        EpisodeBank.load(tmp_path / "bank.npz")


DIGEST = "d762a129fa3e9b88ddfb681d4176b9aa97313198edfa390f2216a75f12b8812b"


def test_digest_of_an_even_bank_is_what_it_always_was():
    assert draw_bank().digest == DIGEST


SIZES = (7, 20, 9, 12, 30)
UNEVEN_LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(5), SIZES))


def draw_uneven(num_episodes=6, *, without_replacement=False, **options):
    options = {"n_way": 3, "k_shot": 2, "num_query": "all", **options}
    sampler = EpisodeSampler(UNEVEN_LABELS, range(5), **options)
    return EpisodeBank.draw(sampler, num_episodes, generator("bank"), without_replacement=without_replacement)


@pytest.mark.parametrize("options", [{}, {"num_query": 5, "query_imbalance": 0.5}], ids=["all", "imbalanced"])
def test_an_uneven_bank_gives_each_episode_its_own_queries(options):
    bank = draw_uneven(**options)
    assert bank.query_counts is not None
    assert bank.num_query is None
    for i, episode in enumerate(bank):
        assert len(episode.query) == len(episode.query_labels) == int(bank.num_queries[i])
        chosen = episode.classes[episode.query_labels]
        assert chosen.tolist() == UNEVEN_LABELS[episode.query.numpy()].tolist()
        assert episode.query_labels.bincount(minlength=3).tolist() == bank.query_counts[i].tolist()
        assert len(set(episode.nodes.tolist())) == len(episode.nodes)


def test_shorter_episodes_repeat_a_query_under_no_label():
    bank = draw_uneven()
    shortest = int(bank.num_queries.argmin())
    end = int(bank.num_queries[shortest])
    assert end < bank.query.shape[1] == int(bank.num_queries.max())
    assert set(bank.query[shortest, end:].tolist()) == {int(bank.query[shortest, end - 1])}
    assert set(bank.query_labels[shortest, end:].tolist()) == {-1}
    assert bool((bank.query_labels[shortest, :end] >= 0).all())


def test_an_uneven_bank_comes_back_equal_and_keeps_its_head(tmp_path):
    bank = draw_uneven()
    bank.save(tmp_path / "bank.npz")
    loaded = EpisodeBank.load(tmp_path / "bank.npz")
    assert loaded.digest == bank.digest
    assert torch.equal(loaded.query_labels, bank.query_labels)
    assert torch.equal(bank.head(2).query_labels, bank.query_labels[:2])
    other = EpisodeBank(bank.classes, bank.support, bank.query, bank.query_counts.flip(1))
    assert other.digest != bank.digest


def test_without_replacement_no_node_comes_twice(caplog):
    with caplog.at_level(logging.WARNING):
        bank = draw_uneven(50, without_replacement=True, n_way=2, k_shot=1, num_query=2)
    nodes = [node for episode in bank for node in episode.nodes.tolist()]
    assert len(nodes) == len(set(nodes))
    assert f"{len(bank)} of 50 episodes that share no node" in caplog.text
    # 78 nodes hold at most 13 episodes of 6; what is left over cannot hold another one.
    left = np.bincount(np.delete(UNEVEN_LABELS, nodes), minlength=5)
    assert 5 < len(bank) <= 13
    assert (left >= 3).sum() < 2


def test_without_replacement_as_many_as_asked_for_are_enough():
    assert len(draw_uneven(3, without_replacement=True, n_way=2, k_shot=1, num_query=2)) == 3
    assert len(draw_uneven(9, without_replacement=True, n_way=2)) == 2  # all queries use up both classes


def test_batches_hold_every_episode_and_few_queries():
    bank = draw_bank(7)
    assert [(part.start, part.stop) for part in bank.batches(3)] == [(0, 3), (3, 6), (6, 9)]
    wide = EpisodeBank(bank.classes, bank.support, bank.query.repeat(1, 4000))
    assert [part.stop - part.start for part in wide.batches(3)] == [2, 2, 2, 2]


def test_bank_needs_an_episode():
    with pytest.raises(ValueError, match="'num_episodes' to be positive"):
        draw_bank(0)
