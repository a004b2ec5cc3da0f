"""Logistic regression on many small episodes at once."""

from __future__ import annotations

import torch
from torch import Tensor

from fgsam.checks import check_positive
from fgsam.functional.prototypes import class_members


def logistic_regression(
    x: Tensor, labels: Tensor, n_way: int, *, cost: float, tolerance: float = 1e-5, max_steps: int = 2000
) -> tuple[Tensor, Tensor]:
    """Fit one multinomial logistic regression for each episode of a batch.

    Minimises ``cost * sum(cross_entropy) + |weight|^2 / 2`` with a free bias, as scikit-learn does for three classes
    and more; for two classes scikit-learn fits one weight vector, and equals this one at twice the cost. Each step
    minimises a quadratic bound of the loss, so that no step size is searched, with momentum that restarts where it
    points uphill. A thousand 5-way 3-shot episodes take well under a second.

    Args:
        x: Support features, shape ``[..., num_support, dim]``.
        labels: Episode labels in ``0..n_way-1``, shape ``[num_support]`` or ``[..., num_support]``.
        n_way: Number of classes in the episode, at least 1.
        cost: Weight of the loss against the penalty, positive: scikit-learn's ``C``.
        tolerance: Largest entry of the gradient, divided by ``cost * num_support``, at which an episode is done.
        max_steps: Limit on the number of steps; at the default it is not met in practice.

    Returns:
        Weights, shape ``[..., dim, n_way]``, and biases, shape ``[..., n_way]``, in float64; logits are
        ``x @ weight + bias``.

    Raises:
        ValueError: If ``cost`` is not positive, a label lies outside ``0..n_way-1`` or a class has no support node.

    Source:
        Böhning, Multinomial Logistic Regression Algorithm, 1992 (the bound); O'Donoghue and Candès, Adaptive Restart
        for Accelerated Gradient Schemes, 2015 (the momentum).
    """
    check_positive(cost=cost)
    targets = class_members(labels, n_way).mT.double()
    x = x.double()
    # The solution lies in the span of the support rows: solving in its coordinates turns dim columns into num_support.
    span, coordinates = torch.linalg.qr(x.mT)
    inputs = torch.nn.functional.pad(coordinates.mT, (0, 1), value=1.0)
    penalty = inputs.new_ones(inputs.shape[-1], 1)
    penalty[-1] = 0.0
    scale = cost * x.shape[-2]
    step = torch.linalg.inv(0.5 * cost * inputs.mT @ inputs + penalty.squeeze(-1).diag())

    theta = ahead = inputs.new_zeros(*inputs.shape[:-2], inputs.shape[-1], n_way)
    age = inputs.new_zeros(*inputs.shape[:-2], 1, 1)
    for _ in range(max_steps):
        residual = (inputs @ ahead).softmax(-1) - targets
        gradient = cost * inputs.mT @ residual + penalty * ahead
        is_done = gradient.abs().amax((-2, -1), keepdim=True) <= tolerance * scale
        if is_done.all():
            break
        moved = ahead - step @ gradient
        uphill = (gradient * (moved - theta)).sum((-2, -1), keepdim=True) > 0
        age = torch.where(uphill, 0.0, age + 1)
        # Episodes that are done stand still: no episode's result depends on its batch.
        ahead, theta = torch.where(is_done, ahead, moved + age / (age + 3) * (moved - theta)), moved
    return span @ ahead[..., :-1, :], ahead[..., -1, :]


def logistic_logits(x: Tensor, labels: Tensor, query: Tensor, n_way: int, *, cost: float) -> Tensor:
    """Fit a logistic regression to the support nodes of each episode, and score its query nodes.

    Args:
        x: Support features, shape ``[..., num_support, dim]``.
        labels: Episode labels in ``0..n_way-1``, shape ``[num_support]`` or ``[..., num_support]``.
        query: Query features, shape ``[..., num_query, dim]``.
        n_way: Number of classes in the episode.
        cost: Weight of the loss against the penalty, see :func:`logistic_regression`.

    Returns:
        Logits in float64, shape ``[..., num_query, n_way]``.

    Raises:
        ValueError: If ``cost`` is not positive, a label lies outside ``0..n_way-1`` or a class has no support node.
    """
    weight, bias = logistic_regression(x, labels, n_way, cost=cost)
    return query.double() @ weight + bias.unsqueeze(-2)
