from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import torchopt
from torch import nn

from fgsam.functional.inner import Stateless, descended_head, inner_step
from tests.helpers import assert_close


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def rows(num: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    drawn = torch.Generator().manual_seed(seed)
    return torch.randn(num, 3, generator=drawn, dtype=torch.float64), torch.arange(num) % 2


def adapted_loss(module: nn.Module, *, order: str, num_steps: int = 3, rate: float = 0.4) -> torch.Tensor:
    function = Stateless(module)
    weights = function.weights
    for _ in range(num_steps):
        x, labels = rows(6, seed=1)
        weights = inner_step(F.cross_entropy(function(weights, x), labels), weights, rate, order=order)
    x, labels = rows(8, seed=2)
    return F.cross_entropy(function(weights, x), labels)


def test_second_order_gradient_equals_a_finite_difference():
    module = net()
    params = list(module.parameters())
    gradient = torch.autograd.grad(adapted_loss(module, order="second"), params)
    first = torch.autograd.grad(adapted_loss(module, order="first"), params)
    differences = [torch.zeros_like(p) for p in params]
    for param, difference in zip(params, differences, strict=True):
        for place in range(param.numel()):
            values = []
            for shift in (1e-5, -1e-5):
                with torch.no_grad():
                    param.view(-1)[place] += shift
                values.append(adapted_loss(module, order="second").item())
                with torch.no_grad():
                    param.view(-1)[place] -= shift
            difference.view(-1)[place] = (values[0] - values[1]) / 2e-5
    assert_close(gradient, differences, rtol=1e-8)
    with pytest.raises(AssertionError):
        assert_close(first, differences, rtol=1e-2)


def test_second_order_gradient_equals_that_of_torchopt():
    module, other = net(), net()
    gradient = torch.autograd.grad(adapted_loss(module, order="second"), list(module.parameters()))
    starts = list(other.parameters())
    optimizer = torchopt.MetaSGD(other, lr=0.4)
    for _ in range(3):
        x, labels = rows(6, seed=1)
        optimizer.step(F.cross_entropy(other(x), labels))
    x, labels = rows(8, seed=2)
    expected = torch.autograd.grad(F.cross_entropy(other(x), labels), starts)
    assert_close(gradient, expected, rtol=1e-14)


def test_first_order_gradient_is_that_at_the_end_of_the_steps():
    module, end = net(), net()
    gradient = torch.autograd.grad(adapted_loss(module, order="first"), list(module.parameters()))
    for _ in range(3):
        x, labels = rows(6, seed=1)
        grads = torch.autograd.grad(F.cross_entropy(end(x), labels), list(end.parameters()))
        with torch.no_grad():
            for param, grad in zip(end.parameters(), grads, strict=True):
                param.sub_(0.4 * grad)
    x, labels = rows(8, seed=2)
    assert_close(gradient, torch.autograd.grad(F.cross_entropy(end(x), labels), list(end.parameters())))


def test_a_weight_that_the_loss_does_not_read_stays():
    used, unused = (torch.tensor(v, requires_grad=True) for v in (1.0, 2.0))
    moved = inner_step(3 * used, {"used": used, "unused": unused}, 0.1, order="first")
    assert moved["used"].item() == pytest.approx(0.7)
    assert moved["unused"] is unused


def test_a_rate_of_each_weight_is_learned():
    w, rate = (torch.tensor(v, requires_grad=True) for v in ([1.0, 2.0], [0.1, 0.2]))
    moved = inner_step(w.square().sum(), {"w": w}, {"w": rate}, order="first")["w"]
    torch.testing.assert_close(moved, torch.tensor([0.8, 1.2]))
    torch.testing.assert_close(torch.autograd.grad(moved.sum(), rate)[0], torch.tensor([-2.0, -4.0]))


class Tied(nn.Module):
    """Two layers with one weight, a frozen scale, and parameters that torch keeps in a list of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight
        self.scale = nn.Parameter(torch.tensor(2.0), requires_grad=False)
        self.recurrent = nn.LSTM(3, 2)

    def forward(self, x):
        return self.recurrent(self.scale * self.second(self.first(x).tanh()))[0]


def test_a_module_is_the_function_of_its_weights_that_functional_call_makes_it():
    module, x = Tied().double(), rows(5, seed=0)[0]
    function = Stateless(module)
    assert set(function.weights) == {
        "first.weight",
        *(f"recurrent.{n}" for n, _ in module.recurrent.named_parameters()),
    }
    others = {name: torch.randn_like(weight) for name, weight in function.weights.items()}
    torch.testing.assert_close(function(others, x), torch.func.functional_call(module, others, (x,)), rtol=0, atol=0)
    torch.testing.assert_close(function({}, x), module(x), rtol=0, atol=0)


def test_own_weights_are_back_after_a_call_that_raises():
    module = net()
    before = list(module.parameters())
    function = Stateless(module, prefix="net")
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        function({"net.0.weight": torch.zeros(4, 7, dtype=torch.float64)}, rows(2, seed=0)[0])
    assert all(a is b for a, b in zip(before, module.parameters(), strict=True))
    assert "net.2.bias" in function.weights


@pytest.mark.parametrize("order", ["first", "second"])
def test_a_descended_head_equals_steps_by_autograd(order):
    x, labels = rows(6, seed=3)
    x.requires_grad_()
    start = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    weights = {"head": start}
    for _ in range(4):
        rows_ = x if order == "second" else x.detach()
        weights = inner_step(F.cross_entropy(rows_ @ weights["head"], labels), weights, 0.3, order=order)
    found = descended_head(x, labels, start, num_steps=4, rate=0.3, order=order)
    assert_close(found, weights["head"], rtol=1e-14)
    wanted = torch.autograd.grad(weights["head"].square().sum(), [start, x], allow_unused=True)
    gradients = torch.autograd.grad(found.square().sum(), [start, x], allow_unused=True)
    assert (gradients[1] is None) == (order == "first")
    for gradient, expected in zip(gradients, wanted, strict=True):
        if expected is not None:
            assert_close(gradient, expected, rtol=1e-13)


def test_heads_of_a_batch_equal_each_alone_whatever_their_labels():
    x = torch.randn(3, 6, 4, dtype=torch.float64)
    labels = torch.tensor([[0, 0, 1, 1, 2, 2], [2, 1, 0, 2, 1, 0], [0, 1, 1, 2, 2, 2]])
    start = torch.randn(4, 3, dtype=torch.float64)
    batch = descended_head(x, labels, start, num_steps=5, rate=0.5, order="second")
    alone = [descended_head(x[i], labels[i], start, num_steps=5, rate=0.5, order="second") for i in range(3)]
    assert_close(batch, torch.stack(alone), rtol=1e-14)


def test_a_class_without_support_has_no_head():
    with pytest.raises(ValueError, match="support node for every class"):
        descended_head(torch.ones(2, 1), torch.tensor([0, 2]), torch.zeros(1, 3), num_steps=1, rate=0.1, order="first")
