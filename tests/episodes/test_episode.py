import torch

from fgsam.episodes.episode import Episode


def test_support_nodes_come_first():
    episode = Episode(*(torch.tensor(v) for v in ([7, 3], [10, 11], [0, 1], [20, 21, 22, 23], [0, 0, 1, 1])))
    assert (episode.n_way, episode.num_support) == (2, 2)
    assert episode.nodes.tolist() == [10, 11, 20, 21, 22, 23]


def test_moved_episode_holds_the_same_ids():
    episode = Episode(*(torch.tensor(v) for v in ([7], [10], [0], [20], [0])))
    moved = episode.to("cpu")
    assert moved.nodes.tolist() == [10, 20]
    assert moved.classes.tolist() == [7]
