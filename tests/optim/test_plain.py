from __future__ import annotations

import pytest
import torch

from fgsam.optim.plain import SGD, Adam, AdamW
from tests.twins.optimizers import (
    LinearNet,
    adam_update,
    plain_directions,
    relative_error,
    run_optimizer,
    run_twin,
    sgd_update,
)


@pytest.mark.parametrize(
    ("name", "options", "update"),
    [
        ("sgd", {"lr": 0.3, "momentum": 0.9}, lambda: sgd_update(0.3, 0.9)),
        ("adam", {"lr": 0.05, "weight_decay": 5e-4}, lambda: adam_update(0.05, 5e-4)),
    ],
)
def test_ten_steps_equal_the_equations(name, options, update):
    net = LinearNet(seed=3)
    expected = run_twin(net, plain_directions(net), update(), num_steps=10)
    found = run_optimizer(net, name, 10, **options)
    assert max(relative_error(f, e) for f, e in zip(found, expected, strict=True)) < 1e-12


@pytest.mark.parametrize("rule", [SGD, Adam, AdamW])
def test_another_base_is_refused(rule):
    with pytest.raises(TypeError, match="Expected no 'base'"):
        rule([torch.ones(1, requires_grad=True)], base=torch.optim.SGD)


def test_decay_of_adamw_acts_apart_from_the_gradient():
    w = torch.tensor([2.0], requires_grad=True)
    AdamW([w], lr=0.1, weight_decay=0.5).step(lambda: (w * 0).sum())
    assert w.item() == pytest.approx(2.0 * (1 - 0.1 * 0.5))
