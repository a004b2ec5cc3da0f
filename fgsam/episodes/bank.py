"""Validation and test episodes, drawn once and shared by everything that is compared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fgsam.checks import check_positive
from fgsam.episodes.episode import Episode
from fgsam.episodes.sampler import EpisodeSampler
from fgsam.files import array_bytes, read_arrays, write_atomically

FORMAT = "fgsam episode bank 1"
_WAY_OUT = "Delete the file: the same bank is drawn again from its seed."


@dataclass(frozen=True, eq=False)
class EpisodeBank:
    """Episodes as arrays of node ids, ready to be scored all at once.

    Attributes:
        classes: Class ids, shape ``[num_episodes, n_way]``, int64.
        support: Support nodes, class by class, shape ``[num_episodes, n_way * k_shot]``, int64.
        query: Query nodes, class by class, shape ``[num_episodes, n_way * num_query]``, int64.

    Example:
        >>> sampler = EpisodeSampler(torch.tensor([0, 0, 1, 1, 2, 2]), [0, 1, 2], n_way=2, k_shot=1, num_query=1)
        >>> bank = EpisodeBank.draw(sampler, 4, np.random.default_rng(0))
        >>> len(bank), bank.query_labels.tolist(), bank[3].n_way
        (4, [0, 1], 2)
    """

    classes: Tensor
    support: Tensor
    query: Tensor

    @classmethod
    def draw(cls, sampler: EpisodeSampler, num_episodes: int, rng: np.random.Generator) -> EpisodeBank:
        """Draw a number of episodes, independently of each other."""
        check_positive(num_episodes=num_episodes)
        episodes = [sampler.draw(rng) for _ in range(num_episodes)]
        return cls(
            torch.stack([episode.classes for episode in episodes]),
            torch.stack([episode.support for episode in episodes]),
            torch.stack([episode.query for episode in episodes]),
        )

    def __len__(self) -> int:
        return len(self.classes)

    def __getitem__(self, index: int) -> Episode:
        return Episode(
            self.classes[index], self.support[index], self.support_labels, self.query[index], self.query_labels
        )

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
    def num_query(self) -> int:
        """Query nodes a class."""
        return self.query.shape[1] // self.n_way

    @cached_property
    def support_labels(self) -> Tensor:
        """Episode labels of the support nodes, the same in every episode, shape ``[n_way * k_shot]``."""
        return torch.arange(self.n_way).repeat_interleave(self.k_shot)

    @cached_property
    def query_labels(self) -> Tensor:
        """Episode labels of the query nodes, the same in every episode, shape ``[n_way * num_query]``."""
        return torch.arange(self.n_way).repeat_interleave(self.num_query)

    @cached_property
    def nodes(self) -> Tensor:
        """All nodes of the bank, once each, in ascending order."""
        return torch.from_numpy(np.unique(np.concatenate([self.support.numpy().ravel(), self.query.numpy().ravel()])))

    @cached_property
    def digest(self) -> str:
        """The sha256 of the three arrays."""
        content = hashlib.sha256(FORMAT.encode())
        for values in (self.classes, self.support, self.query):
            content.update(repr(tuple(values.shape)).encode())
            content.update(values.numpy().astype("<i8").tobytes())
        return content.hexdigest()

    def head(self, num_episodes: int) -> EpisodeBank:
        """Keep the first episodes only; all of them if there are fewer."""
        return EpisodeBank(self.classes[:num_episodes], self.support[:num_episodes], self.query[:num_episodes])

    def save(self, path: Path | str) -> None:
        """Write the bank to a file, whole or not at all.

        Raises:
            OSError: If the file cannot be written.
        """
        arrays = {"classes": self.classes.numpy(), "support": self.support.numpy(), "query": self.query.numpy()}
        write_atomically(path, array_bytes({"format": FORMAT, "digest": self.digest, **arrays}))

    @classmethod
    def load(cls, path: Path | str) -> EpisodeBank:
        """Read a bank that ``save`` wrote; nothing in the file is run.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is no episode bank, or is damaged or altered.
        """
        arrays = read_arrays(path, way_out=_WAY_OUT)
        if str(arrays.get("format")) != FORMAT or not {"classes", "support", "query", "digest"} <= arrays.keys():
            raise ValueError(f"Expected '{path}' to be an episode bank (got keys {sorted(arrays)}). {_WAY_OUT}")
        parts = [arrays[key] for key in ("classes", "support", "query")]
        if any(part.ndim != 2 or part.dtype.kind != "i" for part in parts):
            raise ValueError(f"Expected '{path}' to hold whole numbers, one row an episode. {_WAY_OUT}")
        bank = cls(*(torch.from_numpy(part.astype(np.int64)) for part in parts))
        if bank.digest != str(arrays["digest"]):
            raise ValueError(
                f"Expected '{path}' to have the digest {arrays['digest']} (got {bank.digest}). "
                f"The file was altered. {_WAY_OUT}"
            )
        return bank
