"""The few layers that the encoders are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from fgsam.checks import check_fraction, check_positive
from fgsam.typing import EdgeKind


class Affine(nn.Module):
    """``h @ weight + bias``, initialised like the layers of PyTorch Geometric: Glorot weights, zero bias.

    The weight lies as ``[in, out]``, the way a product of feature rows reads it and its gradient is written.

    Args:
        num_in: Width of the input.
        num_out: Width of the output.
    """

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(glorot(num_in, num_out))
        self.bias = nn.Parameter(torch.zeros(num_out))

    def forward(self, h: Tensor) -> Tensor:
        """Map rows, shape ``[num_rows, num_in]`` to ``[num_rows, num_out]``."""
        return torch.addmm(self.bias, h, self.weight)


class Layers(nn.ModuleList):
    """Affine layers in a row.

    Args:
        widths: Width of the input, between the layers, and of the output.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        check_positive(**{f"width of layer {depth}": width for depth, width in enumerate(widths)})
        super().__init__(Affine(num_in, num_out) for num_in, num_out in pairwise(widths))

    def __iter__(self) -> Iterator[Affine]:
        return iter(self._modules.values())  # type: ignore[arg-type]


class Dropout(nn.Module):
    """Sets a share of the entries to zero while training and scales the others up.

    torch's own dropout draws its mask three times more slowly on the CPU, which shows on matrices as small as these.

    Args:
        share: Chance of an entry to become zero, in ``[0, 1]``.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        check_fraction(dropout=share)
        self.share = share

    def forward(self, h: Tensor) -> Tensor:
        """Drop entries of ``h``, any shape; in evaluation mode nothing happens."""
        if not self.training or self.share == 0.0:
            return h
        if self.share == 1.0:
            return h * 0.0
        kept = torch.rand(h.shape, device=h.device) >= self.share
        return h * (kept.to(h.dtype) / (1.0 - self.share))


def glorot(num_in: int, num_out: int) -> Tensor:
    """Draw a weight of shape ``[num_in, num_out]``, uniform with Glorot's bound."""
    return nn.init.xavier_uniform_(torch.empty(num_in, num_out))


def checked_normalisation(edges: EdgeKind) -> EdgeKind:
    """Return an encoder's ``normalise`` option.

    Raises:
        ValueError: If it is not ``"row"`` or ``"sym"``.
    """
    if edges not in ("row", "sym"):
        raise ValueError(f"Expected 'normalise' to be 'row' or 'sym' (got '{edges}')")
    return edges
