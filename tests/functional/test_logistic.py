from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from fgsam.functional.logistic import logistic_regression

COSTS = [0.1, 1.0, 10.0, 100.0]


def episodes(n_way: int, k_shot: int, dim: int, num: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(n_way * 100 + k_shot)
    rows = rng.standard_normal((num, n_way, 1, dim)) + rng.standard_normal((num, n_way, k_shot + 6, dim))
    rows /= np.linalg.norm(rows, axis=-1, keepdims=True)
    support = torch.from_numpy(rows[:, :, :k_shot].reshape(num, -1, dim))
    query = torch.from_numpy(rows[:, :, k_shot:].reshape(num, -1, dim))
    return support, torch.arange(n_way).repeat_interleave(k_shot), query


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize(("n_way", "k_shot", "dim"), [(5, 3, 64), (3, 1, 16), (4, 20, 8), (2, 5, 16)])
def test_probabilities_equal_those_of_scikit_learn(n_way, k_shot, dim, cost):
    support, labels, query = episodes(n_way, k_shot, dim)
    weight, bias = logistic_regression(support, labels, n_way, cost=cost, tolerance=1e-7)
    ours = (query @ weight + bias.unsqueeze(-2)).softmax(-1)
    for i in range(len(support)):
        # For two classes scikit-learn penalises the difference of the two weight vectors.
        model = LogisticRegression(C=2 * cost if n_way == 2 else cost, tol=1e-8, max_iter=10_000)
        theirs = model.fit(support[i].numpy(), labels.numpy()).predict_proba(query[i].numpy())
        np.testing.assert_allclose(ours[i].numpy(), theirs, atol=1e-3)


@pytest.mark.parametrize("cost", COSTS)
def test_gradient_vanishes_at_the_solution(cost):
    support, labels, _ = episodes(5, 3, 64)
    weight, bias = (
        part.requires_grad_() for part in logistic_regression(support, labels, 5, cost=cost, tolerance=1e-9)
    )
    logits = support @ weight + bias.unsqueeze(-2)
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.repeat(4), reduction="sum")
    gradients = torch.autograd.grad(cost * losses + weight.square().sum() / 2, (weight, bias))
    assert max(float(part.abs().max()) for part in gradients) < 1e-6 * cost


def test_uneven_classes_and_single_episodes_are_accepted():
    x = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 0, 0, 0, 1, 2])
    weight, bias = logistic_regression(x, labels, 3, cost=1.0)
    model = LogisticRegression(tol=1e-8).fit(x.numpy(), labels.numpy())
    logits = (x @ weight + bias).numpy()
    np.testing.assert_allclose(np.diff(logits), np.diff(model.decision_function(x.numpy())), atol=1e-3)


def test_a_batch_equals_its_episodes():
    support, labels, query = episodes(5, 3, 32)
    weight, bias = logistic_regression(support, labels, 5, cost=10.0)
    for i in range(len(support)):
        alone, alone_bias = logistic_regression(support[i], labels, 5, cost=10.0)
        torch.testing.assert_close(query[i] @ weight[i] + bias[i], query[i] @ alone + alone_bias)


def test_a_cost_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match=r"'cost' to be positive \(got cost=0\)"):
        logistic_regression(torch.ones(2, 1), torch.tensor([0, 1]), 2, cost=0)
