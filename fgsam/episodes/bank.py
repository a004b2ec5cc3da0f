"""Validation and test episodes, drawn once and shared by everything that is compared."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fgsam.checks import check_positive
from fgsam.episodes.episode import Episode
from fgsam.episodes.noise import noisy_support
from fgsam.episodes.sampler import EpisodeSampler
from fgsam.files import array_bytes, read_arrays, write_atomically

FORMAT = "fgsam episode bank 1"
UNEVEN_FORMAT = "fgsam episode bank 2"
"""Has the number of query nodes of each class beside the arrays of the first format."""

MOST_QUERIES = 100_000
"""Query nodes of one batch; bounds the memory of their features and distances."""

_WAY_OUT = "Delete the file: the same bank is drawn again from its seed."
_KEYS = ("classes", "support", "query")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class EpisodeBank:
    """Episodes as arrays of node ids, ready to be scored all at once.

    Attributes:
        classes: Class ids, shape ``[num_episodes, n_way]``, int64.
        support: Support nodes, class by class, shape ``[num_episodes, n_way * k_shot]``, int64.
        query: Query nodes, class by class, shape ``[num_episodes, n_way * num_query]``, int64. Where episodes differ in
            size, the shorter ones repeat their last query node, which counts once.
        query_counts: Query nodes of each class, shape ``[num_episodes, n_way]``, int64; None where all are equal.

    Example:
        >>> sampler = EpisodeSampler(torch.tensor([0, 0, 1, 1, 2, 2]), [0, 1, 2], n_way=2, k_shot=1, num_query=1)
        >>> bank = EpisodeBank.draw(sampler, 4, np.random.default_rng(0))
        >>> len(bank), bank.query_labels[0].tolist(), bank[3].n_way
        (4, [0, 1], 2)
    """

    classes: Tensor
    support: Tensor
    query: Tensor
    query_counts: Tensor | None = None

    @classmethod
    def draw(
        cls,
        sampler: EpisodeSampler,
        num_episodes: int,
        rng: np.random.Generator,
        *,
        without_replacement: bool = False,
    ) -> EpisodeBank:
        """Draw a number of episodes.

        Args:
            sampler: Draws them.
            num_episodes: How many, at least 1.
            rng: Where the choice comes from.
            without_replacement: No node in two episodes. Where the classes are used up before, there are fewer
                episodes, and a line in the log says so. By default episodes do not depend on each other.

        Raises:
            ValueError: If no episode is asked for.
        """
        check_positive(num_episodes=num_episodes)
        if without_replacement:
            episodes = sampler.draw_disjoint(num_episodes, rng)
        else:
            episodes = [sampler.draw(rng) for _ in range(num_episodes)]
        if len(episodes) < num_episodes:
            logger.warning("Drew %d of %d episodes that share no node: there are no more", len(episodes), num_episodes)
        width = max(len(episode.query) for episode in episodes)
        counts = torch.stack([episode.query_labels.bincount(minlength=sampler.n_way) for episode in episodes])
        return cls(
            torch.stack([episode.classes for episode in episodes]),
            torch.stack([episode.support for episode in episodes]),
            torch.stack([_padded(episode.query, width) for episode in episodes]),
            counts if bool((counts != counts[0, 0]).any()) else None,
        )

    def __len__(self) -> int:
        return len(self.classes)

    def __getitem__(self, index: int) -> Episode:
        end = int(self.num_queries[index])
        query, labels = self.query[index, :end], self.query_labels[index, :end]
        return Episode(self.classes[index], self.support[index], self.support_labels, query, labels)

    def __iter__(self) -> Iterator[Episode]:
        return (self[i] for i in range(len(self)))

    @property
    def n_way(self) -> int:
        """Classes in an episode."""
        return self.classes.shape[1]

    @property
    def k_shot(self) -> int:
        """Support nodes a class."""
        return self.support.shape[1] // self.n_way

    @property
    def num_query(self) -> int | None:
        """Query nodes a class; None where classes differ."""
        return self.query.shape[1] // self.n_way if self.query_counts is None else None

    @cached_property
    def num_queries(self) -> Tensor:
        """Query nodes of each episode, shape ``[num_episodes]``, int64."""
        if self.query_counts is None:
            return torch.full((len(self),), self.query.shape[1])
        return self.query_counts.sum(-1)

    @cached_property
    def support_labels(self) -> Tensor:
        """Episode labels of the support nodes, the same in every episode, shape ``[n_way * k_shot]``."""
        return torch.arange(self.n_way).repeat_interleave(self.k_shot)

    @cached_property
    def query_labels(self) -> Tensor:
        """Episode labels of the query nodes, -1 where one is repeated, of the shape of ``query``."""
        num_episodes, width = self.query.shape
        if self.query_counts is None:
            return torch.arange(self.n_way).repeat_interleave(width // self.n_way).expand(num_episodes, -1)
        places = torch.arange(width).repeat(num_episodes, 1)
        labels = torch.searchsorted(self.query_counts.cumsum(-1), places, right=True)
        return labels.masked_fill(labels == self.n_way, -1)

    @cached_property
    def nodes(self) -> Tensor:
        """All nodes of the bank, once each, in ascending order."""
        return torch.from_numpy(np.unique(np.concatenate([self.support.numpy().ravel(), self.query.numpy().ravel()])))

    @cached_property
    def digest(self) -> str:
        """The sha256 of the arrays."""
        content = hashlib.sha256(self._format.encode())
        for values in self._arrays.values():
            content.update(repr(tuple(values.shape)).encode())
            content.update(values.numpy().astype("<i8").tobytes())
        return content.hexdigest()

    def head(self, num_episodes: int) -> EpisodeBank:
        """Keep the first episodes only; all of them if there are fewer."""
        return EpisodeBank(**{name: values[:num_episodes] for name, values in self._arrays.items()})

    def with_support_noise(self, share: float, rng: np.random.Generator) -> EpisodeBank:
        """The same bank with wrong labels for a share of the support nodes of each episode.

        Args:
            share: Share of the support nodes, in ``[0, 1)``.
            rng: Where the choice comes from.

        Raises:
            ValueError: If the share stands for a number of nodes that cannot be exchanged.
        """
        support = torch.stack([noisy_support(nodes, self.n_way, share, rng) for nodes in self.support])
        return replace(self, support=support)

    def batches(self, num_episodes: int) -> list[slice]:
        """Divide the episodes into batches that fit into memory.

        Args:
            num_episodes: Episodes in a batch at most, at least 1; fewer where a batch would have more than 100,000
                query nodes.
        """
        step = max(1, min(num_episodes, MOST_QUERIES // self.query.shape[1]))
        return [slice(start, start + step) for start in range(0, len(self), step)]

    def save(self, path: Path | str) -> None:
        """Write the bank to a file, whole or not at all.

        Raises:
            OSError: If the file cannot be written.
        """
        arrays = {name: values.numpy() for name, values in self._arrays.items()}
        write_atomically(path, array_bytes({"format": self._format, "digest": self.digest, **arrays}))

    @classmethod
    def load(cls, path: Path | str) -> EpisodeBank:
        """Read a bank that ``save`` wrote; nothing in the file is run.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is no episode bank, of an unknown version, or damaged or altered.
        """
        arrays = read_arrays(path, way_out=_WAY_OUT)
        kind = str(arrays.get("format"))
        names = (*_KEYS, "query_counts") if kind == UNEVEN_FORMAT else _KEYS
        if kind not in (FORMAT, UNEVEN_FORMAT) or not {*names, "digest"} <= arrays.keys():
            raise ValueError(
                f"Expected '{path}' to be an episode bank that this version can read (got keys {sorted(arrays)}, "
                f"format '{arrays.get('format')}'). {_WAY_OUT}"
            )
        parts = [arrays[name] for name in names]
        if any(part.ndim != 2 or part.dtype.kind != "i" or len(part) != len(parts[0]) for part in parts):
            raise ValueError(f"Expected '{path}' to hold whole numbers, one row an episode. {_WAY_OUT}")
        bank = cls(*(torch.from_numpy(part.astype(np.int64)) for part in parts))
        if bank.digest != str(arrays["digest"]):
            raise ValueError(
                f"Expected '{path}' to have the digest {arrays['digest']} (got {bank.digest}). "
                f"The file was altered. {_WAY_OUT}"
            )
        return bank

    @property
    def _format(self) -> str:
        return FORMAT if self.query_counts is None else UNEVEN_FORMAT

    @property
    def _arrays(self) -> dict[str, Tensor]:
        arrays = {"classes": self.classes, "support": self.support, "query": self.query}
        return arrays if self.query_counts is None else {**arrays, "query_counts": self.query_counts}


def _padded(query: Tensor, width: int) -> Tensor:
    return torch.cat([query, query[-1:].expand(width - len(query))]) if len(query) < width else query
