"""Prototypical networks on graphs."""

from __future__ import annotations

from torch import Tensor

from fgsam.functional.distances import squared_euclidean
from fgsam.functional.prototypes import class_prototypes
from fgsam.methods.base import Method


class ProtoNet(Method):
    """Classifies a query node by the nearest mean of support embeddings.

    Logits are negative squared Euclidean distances to the class means.

    Args:
        make_encoder: Makes the encoder, with fresh weights at each call.

    Source:
        Snell et al., Prototypical Networks for Few-shot Learning, 2017, Eq. 1 and 2.
    """

    def logits(
        self, support: tuple[Tensor, ...], support_labels: Tensor, query: tuple[Tensor, ...], n_way: int
    ) -> Tensor:
        """Score by distance to the class means, shape ``[..., num_query, n_way]``."""
        prototypes = class_prototypes(support[0], support_labels, n_way)
        return -squared_euclidean(query[0], prototypes)
