"""Learners without training, which every trained one has to beat."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import product
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor

from fgsam.checks import check_choice, check_count, check_positive
from fgsam.episodes.bank import EpisodeBank
from fgsam.episodes.streams import generator
from fgsam.functional.distances import squared_euclidean
from fgsam.functional.logistic import logistic_logits
from fgsam.functional.prototypes import class_prototypes
from fgsam.graph.graph import Graph
from fgsam.methods.smoothing import Smoothing, smoothed_features
from fgsam.typing import EdgeKind

NUM_SCREENED = 50
"""Validation episodes on which every candidate is scored."""

NUM_FINALISTS = 3
"""Candidates that are scored on the whole validation bank."""

_CHUNK = 100
"""Episodes scored at once, which bounds the memory."""


Setting = dict[str, Any]
"""What a floor chooses on validation episodes, as plain values by name."""


class Floor(ABC):
    """A classifier without training that sees labels of support nodes only.

    ``fit`` chooses among a few settings by their accuracy on validation episodes; test episodes play no part.

    Args:
        num_trials: Settings that are tried, drawn from the candidates; all of them when not given.

    Attributes:
        uses_queries: Whether the query nodes of an episode tell about each other (transductive inference). Compare
            such a learner with its like only.
    """

    is_trained: ClassVar[bool] = False
    uses_queries: ClassVar[bool] = False

    def __init__(self, *, num_trials: int | None = None) -> None:
        if num_trials is not None:
            check_count(num_trials=num_trials)
        self.num_trials = num_trials
        self._known: Any = None
        self._setting: Setting | None = None

    @abstractmethod
    def candidates(self) -> list[Setting]:
        """Settings to choose from, simplest first; of equally good ones the first is taken."""

    def trials(self) -> list[Setting]:
        """The candidates that are tried, in their order; the same for every graph and seed."""
        candidates = self.candidates()
        if self.num_trials is None or self.num_trials >= len(candidates):
            return candidates
        drawn = generator("trials", len(candidates)).permutation(len(candidates))[: self.num_trials]
        return [candidates[place] for place in sorted(drawn)]

    def fit(self, graph: Graph, val_bank: EpisodeBank) -> dict[str, Any]:
        """Choose a setting: all trials on the first 50 episodes, the best three of them on the whole bank.

        Args:
            graph: Gives features and edges; labels are not read.
            val_bank: Episodes of validation classes.

        Returns:
            ``setting``, its ``val_accuracy``, and ``candidates``: each setting with its ``screen_accuracy`` and, for
            the finalists, its ``val_accuracy``.
        """
        screen = val_bank.head(NUM_SCREENED)
        rows: list[dict[str, Any]] = []
        for setting in self.trials():
            self._use(graph, setting)
            rows.append({"setting": setting, "screen_accuracy": float(self.score(screen).mean())})
        finalists = sorted(rows, key=lambda row: -row["screen_accuracy"])[:NUM_FINALISTS]
        for row in finalists:
            self._use(graph, row["setting"])
            row["val_accuracy"] = float(self.score(val_bank).mean())
        best = max(finalists, key=lambda row: row["val_accuracy"])
        self._use(graph, best["setting"])
        return {"setting": best["setting"], "val_accuracy": best["val_accuracy"], "candidates": rows}

    def use(self, graph: Graph) -> None:
        """Classify nodes of another graph from now on, in the setting that was chosen.

        Raises:
            RuntimeError: If ``fit`` was not called before.
        """
        self._use(graph, self._chosen)

    def predict(
        self,
        support: Tensor,
        support_labels: Tensor,
        query: Tensor,
        n_way: int,
        *,
        is_query: Tensor | None = None,
    ) -> Tensor:
        """Classify query nodes, in one episode or in a batch of them.

        Args:
            support: Support nodes, shape ``[..., num_support]``.
            support_labels: Episode labels in ``0..n_way-1``, shape ``[num_support]`` or ``[..., num_support]``.
            query: Query nodes, shape ``[..., num_query]``.
            n_way: Number of classes in the episode.
            is_query: False where a query node is only repeated to fill its row, of the shape of ``query``; all count
                when not given.

        Returns:
            Episode labels, shape ``[..., num_query]``.

        Raises:
            RuntimeError: If ``fit`` was not called before.
        """
        setting = self._chosen
        counts = torch.ones_like(query, dtype=torch.bool) if is_query is None else is_query
        return self._logits(setting, support, support_labels, query, n_way, counts).argmax(-1)

    def score(self, bank: EpisodeBank) -> Tensor:
        """Accuracy of each episode, between 0 and 1, shape ``[num_episodes]``.

        Raises:
            RuntimeError: If ``fit`` was not called before.
        """
        return self.hits(bank, _CHUNK).sum(-1).double() / bank.num_queries

    def hits(self, bank: EpisodeBank, num_episodes: int) -> Tensor:
        """Find the queries of a bank that are classified as they should be.

        Args:
            bank: The episodes.
            num_episodes: Episodes scored at once, which bounds the memory.

        Returns:
            Booleans of the shape of ``bank.query``, False where a query is only repeated.

        Raises:
            RuntimeError: If ``fit`` was not called before.
        """
        return self.answers(bank, num_episodes) == bank.query_labels

    def answers(self, bank: EpisodeBank, num_episodes: int) -> Tensor:
        """Classify the queries of a bank.

        Args:
            bank: The episodes.
            num_episodes: Episodes classified at once, which bounds the memory.

        Returns:
            Episode labels of the shape of ``bank.query``, any where a query is only repeated.

        Raises:
            RuntimeError: If ``fit`` was not called before.
        """
        labels = bank.query_labels
        found = [
            self.predict(
                bank.support[part], bank.support_labels, bank.query[part], bank.n_way, is_query=labels[part] >= 0
            )
            for part in bank.batches(num_episodes)
        ]
        return torch.cat(found)

    @abstractmethod
    def _prepare(self, graph: Graph, setting: Setting) -> Any:
        """Compute what scoring looks up, ``self._known``, once for a graph and a setting."""

    @abstractmethod
    def _logits(
        self, setting: Setting, support: Tensor, support_labels: Tensor, query: Tensor, n_way: int, is_query: Tensor
    ) -> Tensor:
        """Score query nodes, see :meth:`predict`; shape ``[..., num_query, n_way]``."""

    @property
    def _chosen(self) -> Setting:
        if self._setting is None:
            raise RuntimeError("Expected a floor with chosen settings (got none). Call fit(graph, val_bank) first.")
        return self._setting

    def _use(self, graph: Graph, setting: Setting) -> None:
        self._known = self._prepare(graph, setting)
        self._setting = setting


class FeatureFloor(Floor):
    """A floor that compares smoothed features, in settings of :func:`smoothing_settings`.

    Args:
        dim: Number of directions kept of more than 256 features.
        num_trials: Settings that are tried, drawn from the candidates; all of them when not given.
    """

    def __init__(self, *, dim: int, num_trials: int | None) -> None:
        super().__init__(num_trials=num_trials)
        check_positive(dim=dim)
        self.dim = dim

    def _prepare(self, graph: Graph, setting: Setting) -> Tensor:
        edges, num_hops, smoothing = setting["edges"], setting["num_hops"], setting["smoothing"]
        return smoothed_features(graph, edges, num_hops, self.dim, smoothing=smoothing)


class _Regression(FeatureFloor):
    """Logistic regression, whose cost is part of the setting."""

    def __init__(self, *, costs: Sequence[float], dim: int, num_trials: int | None) -> None:
        super().__init__(dim=dim, num_trials=num_trials)
        self.costs = checked_values(costs=costs)

    def _logits(
        self, setting: Setting, support: Tensor, support_labels: Tensor, query: Tensor, n_way: int, is_query: Tensor
    ) -> Tensor:
        return logistic_logits(self._known[support], support_labels, self._known[query], n_way, cost=setting["cost"])


class RawLR(_Regression):
    """Logistic regression on the features alone: what can be had without a graph.

    Args:
        costs: Values of scikit-learn's ``C`` to choose from, positive.
        dim: Number of directions kept of more than 256 features.
        num_trials: Settings that are tried, drawn from the candidates; all of them when not given.
    """

    def __init__(
        self, *, costs: Sequence[float] = (0.1, 1.0, 10.0, 100.0), dim: int = 128, num_trials: int | None = None
    ) -> None:
        super().__init__(costs=costs, dim=dim, num_trials=num_trials)

    def candidates(self) -> list[Setting]:
        """One setting for each cost."""
        return [{"smoothing": "hops", "edges": "raw", "num_hops": 0, "cost": cost} for cost in self.costs]


class SGCLR(_Regression):
    """Logistic regression on smoothed features.

    Args:
        hops: Numbers of smoothing steps to choose from, at least 1.
        edges: Normalisations to choose from, ``"row"`` and ``"sym"``.
        costs: Values of scikit-learn's ``C`` to choose from, positive.
        dim: Number of directions kept of more than 256 features.
        smoothing: Ways of smoothing to choose from: ``"hops"``, ``"pagerank"`` and ``"scales"``.
        num_trials: Settings that are tried, drawn from the candidates; all of them when not given.

    Source:
        Wu et al., Simplifying Graph Convolutional Networks, 2019.
    """

    def __init__(
        self,
        *,
        hops: Sequence[int] = (1, 2, 3, 4),
        edges: Sequence[EdgeKind] = ("row", "sym"),
        costs: Sequence[float] = (0.1, 1.0, 10.0, 100.0),
        dim: int = 128,
        smoothing: Sequence[Smoothing] = ("hops",),
        num_trials: int | None = None,
    ) -> None:
        super().__init__(costs=costs, dim=dim, num_trials=num_trials)
        self.smoothings = smoothing_settings(smoothing, hops, edges)

    def candidates(self) -> list[Setting]:
        """Every combination of smoothing, hops, normalisation and cost."""
        return [{**setting, "cost": cost} for setting, cost in product(self.smoothings, self.costs)]


class SGCPrototype(FeatureFloor):
    """Nearest class mean of smoothed features.

    Args:
        hops: Numbers of smoothing steps to choose from, at least 1.
        edges: Normalisations to choose from, ``"row"`` and ``"sym"``.
        dim: Number of directions kept of more than 256 features.
        smoothing: Ways of smoothing to choose from: ``"hops"``, ``"pagerank"`` and ``"scales"``.
        num_trials: Settings that are tried, drawn from the candidates; all of them when not given.
    """

    def __init__(
        self,
        *,
        hops: Sequence[int] = (1, 2, 3, 4),
        edges: Sequence[EdgeKind] = ("row", "sym"),
        dim: int = 128,
        smoothing: Sequence[Smoothing] = ("hops",),
        num_trials: int | None = None,
    ) -> None:
        super().__init__(dim=dim, num_trials=num_trials)
        self.smoothings = smoothing_settings(smoothing, hops, edges)

    def candidates(self) -> list[Setting]:
        """Every combination of smoothing, hops and normalisation."""
        return self.smoothings

    def _logits(
        self, setting: Setting, support: Tensor, support_labels: Tensor, query: Tensor, n_way: int, is_query: Tensor
    ) -> Tensor:
        prototypes = class_prototypes(self._known[support], support_labels, n_way)
        return -squared_euclidean(self._known[query], prototypes)


def smoothing_settings(smoothing: Sequence[Smoothing], hops: Sequence[int], edges: Sequence[EdgeKind]) -> list[Setting]:
    """Combine ways of smoothing, numbers of steps and normalisations.

    Raises:
        ValueError: If one of the lists is empty, or holds something else than it should.
    """
    check_positive(number_of_smoothings=len(smoothing))
    for name in smoothing:
        check_choice(get_args(Smoothing), smoothing=name)
    every = product(smoothing, checked_values(hops=hops), checked_edges(edges))
    return [{"smoothing": name, "edges": kind, "num_hops": num_hops} for name, num_hops, kind in every]


def checked_values(**values: Sequence[float]) -> tuple[Any, ...]:
    """Return the values of the one list given; raise ``ValueError`` if there are none, or one is not positive."""
    ((name, given),) = values.items()
    check_positive(**{f"number_of_{name}": len(given)})
    for value in given:
        check_positive(**{name: value})
    return tuple(given)


def checked_edges(edges: Sequence[EdgeKind]) -> tuple[EdgeKind, ...]:
    """Return normalisations, or raise ``ValueError`` if there are none or one is neither ``"row"`` nor ``"sym"``."""
    check_positive(number_of_edges=len(edges))
    for kind in edges:
        check_choice(("row", "sym"), edges=kind)
    return tuple(edges)
