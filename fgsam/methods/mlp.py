"""A learner that never sees an edge."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from fgsam.functional.distances import squared_euclidean
from fgsam.functional.prototypes import class_prototypes
from fgsam.graph.field import Field
from fgsam.methods.base import Method


class MLP(Method):
    """A prototypical network whose encoder sees no edges, neither in training nor in test: the floor without a graph.

    Both passes of FGSAM then read the same field, and differ in dropout alone.

    Args:
        make_encoder: Makes the encoder, with fresh weights at each call.
    """

    trains_on_edges: ClassVar[bool] = False
    tests_on_edges: ClassVar[bool] = False

    def represent(self, field: Field) -> tuple[Tensor, ...]:
        """Embed the targets: one tensor of shape ``[num_targets, dim]``."""
        return (self.encoder(field),)

    def logits(
        self, support: tuple[Tensor, ...], support_labels: Tensor, query: tuple[Tensor, ...], n_way: int
    ) -> Tensor:
        """Score by distance to the class means, shape ``[..., num_query, n_way]``."""
        return -squared_euclidean(query[0], class_prototypes(support[0], support_labels, n_way))
