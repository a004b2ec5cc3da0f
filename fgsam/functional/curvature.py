"""Estimates of the Hessian's diagonal from its product with one random vector.

A complex parameter counts as pairs of real ones here: its diagonal has a last dimension of size 2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fgsam.functional.trees import Grads


def rademacher(params: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
    """Draw plus or minus one, with equal chances, for every entry.

    Args:
        params: Give shapes, types and devices; complex ones get a sign for each of their two parts.
        generator: A generator on the CPU, so that the signs do not depend on the device.

    Example:
        >>> rademacher([torch.zeros(4)], torch.Generator().manual_seed(0))
        [tensor([-1., -1.,  1., -1.])]
    """
    return _drawn(params, lambda noise: noise.bernoulli_(0.5, generator=generator).mul_(2).sub_(1))


def gaussian(params: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
    """Draw a standard normal number for every entry; see ``rademacher``."""
    return _drawn(params, lambda noise: noise.normal_(generator=generator))


def hessian_diagonal(probe: Sequence[Tensor], product: Grads) -> Grads:
    r"""Estimate the diagonal of the Hessian by Hutchinson's method.

    .. math:: h = z \circ H z, \qquad \mathrm{E}[h_i] = H_{ii}

    The mean is right for entries of mean 0 and variance 1 that are independent. Signs (``rademacher``) give the
    smallest variance, and a diagonal Hessian exactly.

    Args:
        probe: The random vector ``z``, one tensor for each parameter.
        product: The product ``H z``, ``None`` where there is none.

    Returns:
        Real tensors, ``None`` where the product is missing.

    Example:
        >>> hessian_diagonal([torch.tensor([1.0, -1.0])], [torch.tensor([3.0, -2.0])])
        [tensor([3., 2.])]

    Source:
        Bekas et al., An Estimator for the Diagonal of a Matrix, 2007, Eq. 2, with one vector.
    """
    return [None if h is None else as_real(z) * as_real(h) for z, h in zip(probe, product, strict=True)]


def averaged_in_blocks(diagonal: Tensor, *, rows: bool) -> Tensor:
    """Give neighbouring entries their common mean.

    Args:
        diagonal: Of the shape of a parameter. With four dimensions it belongs to convolution kernels, which are
            averaged over their last two.
        rows: Whether to average the rows of a matrix, too.

    Returns:
        A tensor of the same shape.

    Example:
        >>> averaged_in_blocks(torch.tensor([[1.0, 3.0], [4.0, 6.0]]), rows=True)
        tensor([[2., 2.],
                [5., 5.]])

    Source:
        Yao et al., AdaHessian: An Adaptive Second Order Optimizer for Machine Learning, 2021, Eq. 10 and Fig. 2.
    """
    if diagonal.ndim == 4:
        return diagonal.mean((2, 3), keepdim=True).expand_as(diagonal)
    if diagonal.ndim == 2 and rows:
        return diagonal.mean(1, keepdim=True).expand_as(diagonal)
    return diagonal


def as_real(tensor: Tensor) -> Tensor:
    """View a complex tensor as pairs of real numbers; a real one is returned as it is."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _drawn(params: Sequence[Tensor], draw: Callable[[Tensor], Tensor]) -> list[Tensor]:
    drawn = []
    for p in params:
        shape = torch.Size((*p.shape, 2)) if p.is_complex() else p.shape
        noise = draw(torch.empty(shape, dtype=p.dtype.to_real())).to(p.device)
        drawn.append(torch.view_as_complex(noise) if p.is_complex() else noise)
    return drawn
