"""Learners without training, which every trained one has to beat."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, ClassVar

import torch
from torch import Tensor

from fgsam.checks import check_choice, check_positive
from fgsam.episodes.bank import EpisodeBank
from fgsam.functional.distances import squared_euclidean
from fgsam.functional.logistic import logistic_regression
from fgsam.functional.prototypes import class_prototypes
from fgsam.graph.graph import Graph
from fgsam.methods.smoothing import smoothed_features
from fgsam.typing import EdgeKind

NUM_SCREENED = 50
"""Validation episodes on which every candidate is scored."""

NUM_FINALISTS = 3
"""Candidates that are scored on the whole validation bank."""

_CHUNK = 100
"""Episodes scored at once, which bounds the memory."""


@dataclass(frozen=True)
class Setting:
    """What a floor chooses on validation episodes.

    Attributes:
        edges: Weights of the smoothing; ``"raw"`` for none.
        num_hops: How often features are smoothed.
        cost: Weight of the loss in the logistic regression, scikit-learn's ``C``; None for prototypes.
    """

    edges: EdgeKind
    num_hops: int
    cost: float | None = None


class Floor(ABC):
    """A classifier on fixed features that sees labels of support nodes only.

    ``fit`` chooses among a few settings by their accuracy on validation episodes; test episodes play no part.

    Args:
        dim: Number of directions kept of more than 256 features.
    """

    is_trained: ClassVar[bool] = False

    def __init__(self, *, dim: int = 128) -> None:
        check_positive(dim=dim)
        self.dim = dim
        self._features: Tensor | None = None
        self._setting: Setting | None = None

    @abstractmethod
    def candidates(self) -> list[Setting]:
        """Settings to choose from, simplest first; of equally good ones the first is taken."""

    def fit(self, graph: Graph, val_bank: EpisodeBank) -> dict[str, Any]:
        """Choose a setting: all candidates on the first 50 episodes, the best three of them on the whole bank.

        Args:
            graph: Gives features and edges; labels are not read.
            val_bank: Episodes of validation classes.

        Returns:
            ``setting``, its ``val_accuracy``, and ``candidates``: each setting with its ``screen_accuracy`` and, for
            the finalists, its ``val_accuracy``.
        """
        screen = val_bank.head(NUM_SCREENED)
        rows: list[dict[str, Any]] = []
        for setting in self.candidates():
            self._use(graph, setting)
            rows.append({"setting": setting, "screen_accuracy": float(self.score(screen).mean())})
        finalists = sorted(rows, key=lambda row: -row["screen_accuracy"])[:NUM_FINALISTS]
        for row in finalists:
            self._use(graph, row["setting"])
            row["val_accuracy"] = float(self.score(val_bank).mean())
        best = max(finalists, key=lambda row: row["val_accuracy"])
        self._use(graph, best["setting"])
        return {
            "setting": asdict(best["setting"]),
            "val_accuracy": best["val_accuracy"],
            "candidates": [{**row, "setting": asdict(row["setting"])} for row in rows],
        }

    def use(self, graph: Graph) -> None:
        """Classify nodes of another graph from now on, in the setting that was chosen.

        Raises:
            RuntimeError: If ``fit`` was not called before.
        """
        self._use(graph, self._chosen)

    def predict(self, support: Tensor, support_labels: Tensor, query: Tensor, n_way: int) -> Tensor:
        """Classify query nodes, in one episode or in a batch of them.

        Args:
            support: Support nodes, shape ``[..., num_support]``.
            support_labels: Episode labels in ``0..n_way-1``, shape ``[num_support]`` or ``[..., num_support]``.
            query: Query nodes, shape ``[..., num_query]``.
            n_way: Number of classes in the episode.

        Returns:
            Episode labels, shape ``[..., num_query]``.

        Raises:
            RuntimeError: If ``fit`` was not called before.
        """
        cost = self._chosen.cost
        assert self._features is not None
        logits = self._logits(self._features[support], support_labels, self._features[query], n_way, cost=cost)
        return logits.argmax(-1)

    def score(self, bank: EpisodeBank) -> Tensor:
        """Accuracy of each episode, between 0 and 1, shape ``[num_episodes]``.

        Raises:
            RuntimeError: If ``fit`` was not called before.
        """
        parts = bank.batches(_CHUNK)
        found = [self.predict(bank.support[part], bank.support_labels, bank.query[part], bank.n_way) for part in parts]
        return (torch.cat(found) == bank.query_labels).sum(-1).double() / bank.num_queries

    @abstractmethod
    def _logits(
        self, support: Tensor, support_labels: Tensor, query: Tensor, n_way: int, *, cost: float | None
    ) -> Tensor:
        """Scores of query features, shape ``[..., num_query, n_way]``."""

    @property
    def _chosen(self) -> Setting:
        if self._setting is None:
            raise RuntimeError("Expected a floor with chosen settings (got none). Call fit(graph, val_bank) first.")
        return self._setting

    def _use(self, graph: Graph, setting: Setting) -> None:
        self._features = smoothed_features(graph, setting.edges, setting.num_hops, self.dim)
        self._setting = setting


class RawLR(Floor):
    """Logistic regression on the features alone: what can be had without a graph.

    Args:
        costs: Values of scikit-learn's ``C`` to choose from, positive.
        dim: Number of directions kept of more than 256 features.
    """

    def __init__(self, *, costs: Sequence[float] = (0.1, 1.0, 10.0, 100.0), dim: int = 128) -> None:
        super().__init__(dim=dim)
        self.costs = _checked_costs(costs)

    def candidates(self) -> list[Setting]:
        """One setting for each cost."""
        return [Setting("raw", 0, cost) for cost in self.costs]

    def _logits(
        self, support: Tensor, support_labels: Tensor, query: Tensor, n_way: int, *, cost: float | None
    ) -> Tensor:
        return _logistic_logits(support, support_labels, query, n_way, cost=cost)


class SGCLR(Floor):
    """Logistic regression on smoothed features.

    Args:
        hops: Numbers of smoothing steps to choose from, at least 1.
        edges: Normalisations to choose from, ``"row"`` and ``"sym"``.
        costs: Values of scikit-learn's ``C`` to choose from, positive.
        dim: Number of directions kept of more than 256 features.

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
    ) -> None:
        super().__init__(dim=dim)
        self.hops, self.edges = _checked_smoothing(hops, edges)
        self.costs = _checked_costs(costs)

    def candidates(self) -> list[Setting]:
        """Every combination of hops, normalisation and cost."""
        return [Setting(kind, count, cost) for count, kind, cost in product(self.hops, self.edges, self.costs)]

    def _logits(
        self, support: Tensor, support_labels: Tensor, query: Tensor, n_way: int, *, cost: float | None
    ) -> Tensor:
        return _logistic_logits(support, support_labels, query, n_way, cost=cost)


class SGCPrototype(Floor):
    """Nearest class mean of smoothed features.

    Args:
        hops: Numbers of smoothing steps to choose from, at least 1.
        edges: Normalisations to choose from, ``"row"`` and ``"sym"``.
        dim: Number of directions kept of more than 256 features.
    """

    def __init__(
        self, *, hops: Sequence[int] = (1, 2, 3, 4), edges: Sequence[EdgeKind] = ("row", "sym"), dim: int = 128
    ) -> None:
        super().__init__(dim=dim)
        self.hops, self.edges = _checked_smoothing(hops, edges)

    def candidates(self) -> list[Setting]:
        """Every combination of hops and normalisation."""
        return [Setting(kind, count) for count, kind in product(self.hops, self.edges)]

    def _logits(
        self, support: Tensor, support_labels: Tensor, query: Tensor, n_way: int, *, cost: float | None
    ) -> Tensor:
        return -squared_euclidean(query, class_prototypes(support, support_labels, n_way))


def _logistic_logits(
    support: Tensor, support_labels: Tensor, query: Tensor, n_way: int, *, cost: float | None
) -> Tensor:
    assert cost is not None
    weight, bias = logistic_regression(support, support_labels, n_way, cost=cost)
    return query.double() @ weight + bias.unsqueeze(-2)


def _checked_costs(costs: Sequence[float]) -> tuple[float, ...]:
    values = tuple(costs)
    check_positive(number_of_costs=len(values))
    for cost in values:
        check_positive(costs=cost)
    return values


def _checked_smoothing(hops: Sequence[int], edges: Sequence[EdgeKind]) -> tuple[tuple[int, ...], tuple[EdgeKind, ...]]:
    counts, kinds = tuple(hops), tuple(edges)
    check_positive(number_of_hops=len(counts), number_of_edges=len(kinds))
    for count in counts:
        check_positive(hops=count)
    for kind in kinds:
        check_choice(("row", "sym"), edges=kind)
    return counts, kinds
