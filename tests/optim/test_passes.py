from __future__ import annotations

import pytest
import torch
from torch import nn

from fgsam.optim.base import SharpnessAware
from fgsam.optim.guards import Buffers
from fgsam.optim.passes import Passes


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(3, 4)
        self.statistics = nn.BatchNorm1d(4)
        self.second = nn.Linear(4, 2)
        self.unused = nn.Parameter(torch.ones(2))
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
        self.double()
        self.x = torch.randn(6, 3, dtype=torch.float64)
        self.labels = torch.tensor([0, 1, 0, 1, 0, 1])

    def losses(self):
        h = torch.tanh(self.statistics(self.first(self.x))) + self.frozen.sum()
        return nn.functional.cross_entropy(self.second(h), self.labels, reduction="none")


def passes(net, closure=None):
    return Passes(list(net.parameters()), Buffers(net), closure or net.losses, None)


def expected(net, weights):
    params = [net.first.weight, net.second.bias]
    return torch.autograd.grad((weights * net.losses()).sum(), params)


def found(net, gradient):
    names = [name for name, _ in net.named_parameters()]
    return gradient[names.index("first.weight")], gradient[names.index("second.bias")]


def test_queries_are_weighed_by_their_losses():
    net = Net()
    gradient = passes(net).gnn(weigh=lambda losses: losses.argsort().double())
    weights = net.losses().detach().argsort().double()
    torch.testing.assert_close(found(net, gradient), expected(net, weights))


def test_each_group_has_the_gradient_of_its_mean():
    net = Net()
    groups = [torch.tensor([0, 3]), torch.tensor([5])]
    gradients = list(passes(net).gnn.each(groups))
    for group, gradient in zip(groups, gradients, strict=True):
        weights = torch.zeros(6, dtype=torch.float64).index_fill(0, group, 1 / len(group))
        torch.testing.assert_close(found(net, gradient), expected(net, weights))


def test_bare_losses_run_without_a_graph():
    net, modes = Net(), []
    run = passes(net, lambda: (modes.append(torch.is_grad_enabled()), net.losses())[1])
    torch.testing.assert_close(run.gnn.losses(), net.losses().detach())
    assert modes == [False]
    torch.testing.assert_close(run.loss, net.losses().mean().detach())
    assert run.is_finite()


def test_product_with_the_hessian_equals_a_difference_of_gradients():
    net = Net()
    run = passes(net)
    params = list(net.parameters())
    probe = [torch.randn_like(p) for p in params]
    gradient, product = run.gnn.with_product(probe)
    step, slopes = 1e-6, []
    for sign in (1, -1):
        with torch.no_grad():
            for p, v in zip(params, probe, strict=True):
                p.add_(v, alpha=sign * step * p.requires_grad)
        slopes.append(run.gnn())
        with torch.no_grad():
            for p, v in zip(params, probe, strict=True):
                p.sub_(v, alpha=sign * step * p.requires_grad)
    assert product[0] is None
    assert gradient[0] is None
    assert product[1] is None
    assert gradient[1] is None
    for one, up, down in zip(product, *slopes, strict=True):
        if one is not None:
            torch.testing.assert_close(one, (up - down) / (2 * step), rtol=1e-6, atol=1e-8)


def test_a_linear_loss_has_no_curvature():
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    run = Passes([w], Buffers(None), lambda: w.sum(), None)
    gradient, product = run.gnn.with_product([torch.ones(2)])
    assert torch.equal(gradient[0], torch.ones(2))
    assert torch.equal(product[0], torch.zeros(2))


@pytest.mark.parametrize(
    "use",
    [
        lambda gnn, clean: gnn(clean=clean),
        lambda gnn, clean: gnn(clean=clean, weigh=torch.ones_like),
        lambda gnn, clean: gnn.losses(clean=clean),
        lambda gnn, clean: list(gnn.each([torch.tensor([0]), torch.tensor([1])], clean=clean)),
        lambda gnn, clean: gnn.with_product([torch.ones_like(p) for p in gnn._run._params], clean=clean),
    ],
)
def test_only_clean_passes_move_buffers_and_only_once(use):
    net = Net()
    use(passes(net).gnn, False)
    assert net.statistics.num_batches_tracked == 0
    assert torch.equal(net.statistics.running_mean, torch.zeros(4, dtype=torch.float64))
    use(passes(net).gnn, True)
    assert net.statistics.num_batches_tracked == 1
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize(
    "use", [lambda gnn: gnn(weigh=torch.ones_like), lambda gnn: list(gnn.each([torch.tensor([0])]))]
)
def test_weighing_needs_one_loss_a_query(use):
    net = Net()
    with pytest.raises(TypeError, match="Expected the GNN closure to return one loss a query"):
        use(passes(net, lambda: net.losses().mean()).gnn)


class Drawing(SharpnessAware):
    rule = "drawing"
    drawn: list[float]

    def direction(self, gnn, peer):
        self.drawn = [float(torch.rand(1, generator=self.generator(key))) for key in (0, 0, 1)]
        return gnn(clean=True)


def test_numbers_of_a_rule_depend_on_state_call_and_key_and_move_nothing():
    w = torch.ones(2, requires_grad=True)
    torch.manual_seed(5)
    rows = []
    optimizer = Drawing([w], torch.optim.SGD, lr=0.1)
    for _ in range(2):
        before = torch.get_rng_state()
        optimizer.step(lambda: w.sum())
        assert torch.equal(torch.get_rng_state(), before)
        rows.append(optimizer.drawn)
    assert rows[0][0] == rows[0][1] != rows[0][2]
    assert rows[0][0] != rows[1][0]
    torch.manual_seed(6)
    again = Drawing([w], torch.optim.SGD, lr=0.1)
    again.step(lambda: w.sum())
    assert again.drawn[0] != rows[0][0]
    torch.manual_seed(5)
    again = Drawing([w], torch.optim.SGD, lr=0.1)
    again.step(lambda: w.sum())
    assert again.drawn == rows[0]
    with pytest.raises(AssertionError, match="direction"):
        again.generator()
