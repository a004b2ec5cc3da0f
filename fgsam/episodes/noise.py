"""Wrong labels among the support nodes, as many as one asks for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor

from fgsam.episodes.episode import Episode


def num_wrong(share: float, n_way: int, k_shot: int) -> int:
    """Number of support nodes with a wrong label, ``share * n_way * k_shot`` rounded; 0 for a share of 0.

    Args:
        share: Share of the support nodes, in ``[0, 1)``.
        n_way: Classes in an episode.
        k_shot: Support nodes a class.

    Raises:
        ValueError: If the share is out of range, or stands for a number that no exchange of nodes can give: fewer
            than two nodes, or an odd number among two classes.

    Example:
        >>> num_wrong(0.2, n_way=5, k_shot=3)
        3
    """
    if not 0 <= share < 1:
        raise ValueError(f"Expected 'support_noise' to be a share in [0, 1) (got support_noise={share})")
    total = n_way * k_shot
    number = round(share * total)
    if share and (n_way < 2 or number < 2 or (n_way == 2 and number % 2)):
        even = "an even number of" if n_way == 2 else "at least 2"
        raise ValueError(
            f"Expected 'support_noise' to give a wrong label to {even} support nodes, because classes exchange nodes "
            f"(got support_noise={share}, {number} of {total} nodes). The smallest share is {2 / total:.3g}."
        )
    return number


def noisy_support(support: Tensor, n_way: int, share: float, rng: np.random.Generator) -> Tensor:
    """Exchange support nodes among classes, so that a share of them comes to stand under a wrong label.

    Which places are chosen, and who changes with whom, is drawn; no class has more than half of the chosen places, so
    that moving their nodes in a cycle by half its length gives every chosen place a node of another class.

    Args:
        support: Support nodes, class by class, shape ``[n_way * k_shot]``.
        n_way: Classes in the episode.
        share: Share of the nodes, in ``[0, 1)``.
        rng: Where the choice comes from.

    Returns:
        The same nodes in another order, shape ``[n_way * k_shot]``.

    Raises:
        ValueError: If the share stands for a number of nodes that cannot be exchanged, see :func:`num_wrong`.
    """
    k_shot = len(support) // n_way
    number = num_wrong(share, n_way, k_shot)
    room = [number // 2] * n_way
    chosen: list[int] = []
    for place in np.argsort(rng.random(len(support)), kind="stable").tolist():
        if len(chosen) < number and room[place // k_shot]:
            room[place // k_shot] -= 1
            chosen.append(place)
    turn = rng.random(n_way)
    chosen.sort(key=lambda place: turn[place // k_shot])
    moved = support.clone()
    moved[chosen] = support[chosen[number // 2 :] + chosen[: number // 2]]
    return moved


def with_support_noise(episode: Episode, share: float, rng: np.random.Generator) -> Episode:
    """The same episode with wrong labels for a share of its support nodes; its queries stay as they are.

    Args:
        episode: The clean episode.
        share: Share of the support nodes, in ``[0, 1)``.
        rng: Where the choice comes from.

    Raises:
        ValueError: If the share stands for a number of nodes that cannot be exchanged, see :func:`num_wrong`.
    """
    return replace(episode, support=noisy_support(episode.support, episode.n_way, share, rng))
