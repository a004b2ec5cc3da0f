"""Departures of the released code, each by itself, against the package's rules where they must agree."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from benchmarks import released
from fgsam.functional.trees import norm
from fgsam.optim.fgsam import FGSAM
from fgsam.optim.fgsam_plus import FGSAMPlus

X = torch.linspace(-1, 1, 30, dtype=torch.float64).view(10, 3).sin()
MIX = (torch.eye(10, dtype=torch.float64) + torch.roll(torch.eye(10, dtype=torch.float64), 1, 0)) / 2
Y = torch.arange(10) % 2


class Net(nn.Module):
    """Two layers and a scorer, with message passing or without it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(3, 4).double(), nn.Linear(4, 2).double()
        self.valuator = nn.Linear(3, 1).double()

    def losses(self, mix: Tensor | None) -> Tensor:
        x = X if mix is None else mix @ X
        hidden = torch.tanh(self.first(x)) * self.valuator(x).sigmoid()
        return nn.functional.cross_entropy(self.second(hidden), Y, reduction="none")


def weights_after(rule: type, num_steps: int = 6, **options: float) -> list[Tensor]:
    net = Net()
    optimizer = rule(net, torch.optim.SGD, lr=0.5, **options)
    for _ in range(num_steps):
        optimizer.step(lambda: net.losses(MIX), lambda: net.losses(None))
    return [param.detach() for param in net.parameters()]


def distance(first: list[Tensor], second: list[Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("rule", "own", "options"),
    [
        (released.NoDeparture, FGSAMPlus, {"rho": 0.3}),
        (released.NoDeparture, FGSAMPlus, {"rho": 0.3, "lam": 0.4, "alpha": 0.2, "refresh_every": 3}),
        (released.MixedFlatness, FGSAMPlus, {"rho": 0.3, "lam": 0.0}),
        (released.MixedFlatness, FGSAMPlus, {"rho": 0.3, "alpha": 0.0}),
        (released.NoTopology, FGSAMPlus, {"rho": 0.3, "lam": 0.0}),
        (released.ScorerHeld, FGSAMPlus, {"rho": 0.0}),
        (released.HybridGradient, FGSAM, {"rho": 0.0}),
        (released.HybridGradient, FGSAM, {"rho": 0.3, "lam": 0.0}),
    ],
)
def test_a_departure_without_effect_gives_the_paper_s_step(rule, own, options):
    assert distance(weights_after(rule, **options), weights_after(own, **options)) < 1e-13


def test_with_one_tensor_lengths_and_projections_are_the_same_tensor_by_tensor():
    def weight_after(rule: type) -> Tensor:
        weight = torch.tensor([[0.5, -0.2, 0.1]], dtype=torch.float64, requires_grad=True)
        optimizer = rule([weight], torch.optim.SGD, lr=0.5, rho=0.3)
        for _ in range(6):
            optimizer.step(lambda: ((MIX @ X @ weight.T) ** 4).mean(), lambda: ((X @ weight.T - 1) ** 2).mean())
        return weight.detach()

    assert distance([weight_after(released.PerTensor)], [weight_after(FGSAMPlus)]) < 1e-13


class AllAtOnce(released.NoDeparture):
    is_per_tensor, is_mixed, has_topology = True, True, False


def test_all_departures_of_the_update_are_the_form_of_the_code_at_twice_the_length():
    found = weights_after(AllAtOnce, rho=0.3, lam=1.0)
    net = Net()
    optimizer = FGSAMPlus(net, torch.optim.SGD, lr=1.0, rho=0.3, lam=0.5, form="code")
    for _ in range(6):
        optimizer.step(lambda: net.losses(MIX), lambda: net.losses(None))
    # The form adds 1e-8 to lengths.
    assert distance(found, [param.detach() for param in net.parameters()]) < 1e-5


@pytest.mark.parametrize("name", ["PerTensor", "MixedFlatness", "NoTopology", "ScorerHeld"])
def test_each_departure_of_fgsam_plus_changes_the_step(name):
    assert distance(weights_after(getattr(released, name), rho=0.3), weights_after(FGSAMPlus, rho=0.3)) > 1e-4


def test_the_hybrid_gradient_is_wrong_below_the_last_layer_only():
    def step(rule: type) -> Net:
        net = Net()
        rule(net, torch.optim.SGD, lr=1.0, rho=0.5).step(lambda: net.losses(MIX), lambda: net.losses(None))
        return net

    found, expected = step(released.HybridGradient), step(FGSAM)
    assert torch.allclose(found.second.weight, expected.second.weight, rtol=0, atol=1e-14)
    assert float((found.first.weight - expected.first.weight).detach().norm()) > 1e-3


def test_the_scorer_is_held_in_the_ascent():
    net = Net()
    scorer = net.valuator.weight.detach().clone()
    seen = []

    def peer() -> Tensor:
        seen.append((net.valuator.weight.detach().clone(), net.first.weight.detach().clone()))
        return net.losses(None)

    first = net.first.weight.detach().clone()
    released.ScorerHeld(net, torch.optim.SGD, lr=0.1, rho=0.3).step(lambda: net.losses(MIX), peer)
    assert all(torch.equal(weight, scorer) for weight, _ in seen)
    assert float(norm([seen[-1][1] - first])) > 0.01
