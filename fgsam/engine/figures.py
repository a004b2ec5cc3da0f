"""What the results of a run say about its validation and test episodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from fgsam.engine.config_model import EpisodeConfig
from fgsam.engine.evaluate import mean_recall
from fgsam.functional.intervals import mean_interval

if TYPE_CHECKING:
    from fgsam.engine.data import Data


def figures(episode: EpisodeConfig, data: Data, val_hits: Tensor, test_hits: Tensor) -> dict[str, Any]:
    """Return accuracies and correct queries, and what a reader must know where episodes are not as usual.

    Where classes differ in their number of query nodes, the accuracy is mostly that of the large ones; the balanced
    accuracy, the mean of the share of right answers in each class, then stands beside it.

    Args:
        episode: Says what was asked for.
        data: The episodes.
        val_hits: Validation queries that are right, of the shape of the bank's ``query``.
        test_hits: Test queries that are right, likewise.

    Returns:
        Plain values. ``num_queries``, of a test episode, is one number, or one for each where all nodes are queries.
    """
    val_bank, test_bank = data.val_bank, data.test_bank
    val_correct, test_correct = val_hits.sum(-1), test_hits.sum(-1)
    accuracy, interval = mean_interval(test_correct.double() / test_bank.num_queries)
    numbers = test_bank.num_queries.tolist()
    found: dict[str, Any] = {
        "test_accuracy": accuracy,
        "test_interval": interval,
        "val_accuracy": mean_interval(val_correct.double() / val_bank.num_queries)[0],
        "num_queries": numbers if episode.num_query == "all" else numbers[0],
        "test_correct": test_correct.tolist(),
        "val_correct": val_correct.tolist(),
    }
    if episode.query_imbalance is not None or episode.num_query == "all":
        balanced, half_width = mean_interval(mean_recall(test_hits, test_bank))
        found["test_balanced_accuracy"], found["test_balanced_interval"] = balanced, half_width
        found["val_balanced_accuracy"] = mean_interval(mean_recall(val_hits, val_bank))[0]
        found["val_num_queries"] = val_bank.num_queries.tolist()
    if episode.without_replacement:
        found["bank_sizes"] = {"val_bank": len(val_bank), "test_bank": len(test_bank)}
    if not data.split.meta_val:
        found["validated_on"] = "training classes"
    return found
