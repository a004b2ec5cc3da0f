from __future__ import annotations

import pytest
import torch

from fgsam.optim.asam import ASAM
from fgsam.optim.sam import SAM
from tests.twins.optimizers import (
    LinearNet,
    adam_update,
    asam_directions,
    relative_error,
    run_optimizer,
    run_twin,
    sgd_update,
)


@pytest.mark.parametrize(
    ("base", "options", "update"),
    [
        (torch.optim.SGD, {"lr": 0.3}, lambda: sgd_update(0.3)),
        (torch.optim.Adam, {"lr": 0.05}, lambda: adam_update(0.05)),
    ],
)
def test_ten_steps_equal_the_equations(base, options, update):
    net = LinearNet(seed=2)
    expected = run_twin(net, asam_directions(net, rho=0.7, eta=0.02), update(), num_steps=10)
    found = run_optimizer(net, "asam", 10, base=base, rho=0.7, eta=0.02, **options)
    assert max(relative_error(f, e) for f, e in zip(found, expected, strict=True)) < 1e-12


def test_step_at_weights_of_one_size_is_sam_with_that_radius():
    start = 2.0 * torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    target = torch.tensor([[0.3, 0.1], [0.0, -2.0]], dtype=torch.float64)
    ended = []
    for rule, options in ((ASAM, {"rho": 0.1, "eta": 0.0}), (SAM, {"rho": 0.2})):
        w = start.clone().requires_grad_()
        rule([w], torch.optim.SGD, lr=0.1, **options).step(lambda w=w: (w - target).pow(4).sum())
        ended.append(w.detach())
    torch.testing.assert_close(*ended)


def test_bad_options_are_refused():
    w = torch.ones(1, requires_grad=True)
    with pytest.raises(ValueError, match="Expected 'eta' to be at least 0"):
        ASAM([w], eta=-0.1)
    with pytest.raises(ValueError, match="Expected 'rho' to be at least 0"):
        ASAM([w], rho=float("nan"))
