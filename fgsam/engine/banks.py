"""The validation and the test episodes of a run, drawn once and kept in files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from fgsam.engine.config_model import FewShotConfig
from fgsam.episodes.bank import EpisodeBank
from fgsam.episodes.sampler import EpisodeSampler
from fgsam.episodes.split import ClassSplit
from fgsam.episodes.streams import generator
from fgsam.graph.graph import Graph


def build_bank(
    config: FewShotConfig, graph: Graph, split: ClassSplit, sampler: EpisodeSampler, part: str, folder: Path | None
) -> EpisodeBank:
    """Draw the episodes of a bank, or read them if they were drawn before, and give them the noise of the config.

    Args:
        config: Says how many episodes, of what kind.
        graph: The clean graph; its digest and the split's decide about the draw.
        split: The class split.
        sampler: Draws episodes of the classes of this part.
        part: ``"val_bank"`` or ``"test_bank"``.
        folder: Where clean banks are kept; None draws anew.

    Raises:
        ValueError: If a stored bank is damaged or another one, or fewer than two episodes share no node.
    """
    episode = config.episode
    num_episodes = config.train.val_episodes if part == "val_bank" else config.evaluate.num_episodes
    keys: tuple[Any, ...] = (graph.digest, split.digest, sorted(episode.shape.items()), num_episodes, part)
    if episode.without_replacement:
        keys += ("without replacement",)
    path = None if folder is None else folder / f"{part}-{hashlib.sha256(repr(keys).encode()).hexdigest()[:16]}.npz"
    if path is not None and path.is_file():
        bank = EpisodeBank.load(path)
        _check_bank(bank, sampler, num_episodes, episode.without_replacement, path)
    else:
        rng = generator(part, graph.digest, split.digest)
        bank = EpisodeBank.draw(sampler, num_episodes, rng, without_replacement=episode.without_replacement)
        if path is not None:
            bank.save(path)
    if len(bank) < 2:
        raise ValueError(
            f"Expected at least 2 episodes of '{part}' that share no node (got {len(bank)}). Lower episode.n_way, "
            "episode.k_shot or episode.num_query, or set episode.without_replacement=false."
        )
    if episode.support_noise:
        bank = bank.with_support_noise(episode.support_noise, generator("support noise", bank.digest))
    return bank


def _check_bank(
    bank: EpisodeBank, sampler: EpisodeSampler, num_episodes: int, may_be_shorter: bool, path: Path
) -> None:
    """Refuse a whole bank that lies under the name of another one."""
    found = (bank.n_way, bank.k_shot)
    has_length = len(bank) == num_episodes or (may_be_shorter and len(bank) < num_episodes)
    num_queries = None if sampler.num_query == "all" else sampler.n_way * sampler.num_query
    has_queries = num_queries is None or bool((bank.num_queries == num_queries).all())
    strange = sorted(set(bank.classes.flatten().tolist()) - set(sampler.classes))
    if found != (sampler.n_way, sampler.k_shot) or not has_length or not has_queries or strange:
        raise ValueError(
            f"Expected '{path}' to hold {num_episodes} episodes of this run (got {len(bank)} of "
            f"{bank.n_way}-way {bank.k_shot}-shot with {bank.num_query} queries"
            f"{f', with classes {strange} of another part' if strange else ''}). "
            "Delete the file: the same bank is drawn again from its seed."
        )
