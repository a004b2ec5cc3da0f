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
        ({"x": np.ones(3)}, r"to be an episode bank \(got keys \['x'\]\)"),
        ({"format": "another"}, "to be an episode bank"),
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


def test_bank_needs_an_episode():
    with pytest.raises(ValueError, match="'num_episodes' to be positive"):
        draw_bank(0)
