from __future__ import annotations

import pytest
import torch
from torch import nn
from torch_geometric.nn import GCN

from fgsam.functional.trees import norm
from fgsam.optim.base import SharpnessAware
from fgsam.optim.fgsam import FGSAM
from fgsam.optim.plain import SGD
from fgsam.optim.sam import SAM


class Twice(SharpnessAware):
    """Moves by one in every entry, and keeps the gradient there."""

    rule = "twice"
    passes = "2 GNN"

    def direction(self, gnn, peer):
        g = gnn(clean=True)
        with self.displaced([None if one is None else torch.ones_like(one) for one in g]):
            moved = gnn()
        self.keep("moved", [one.clone() for one in moved])
        return moved


def test_a_rule_is_one_method():
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    optimizer = Twice([w], torch.optim.SGD, lr=0.25)
    assert optimizer.step(lambda: (w**2).sum()) == 5.0
    assert torch.equal(w, torch.tensor([1.0, 2.0]) - 0.25 * 2 * torch.tensor([2.0, 3.0]))
    assert torch.equal(optimizer.kept("moved")[0], torch.tensor([4.0, 6.0]))


def test_base_class_gives_no_rule():
    with pytest.raises(TypeError, match="abstract"):
        SharpnessAware([torch.ones(1, requires_grad=True)])


@pytest.mark.parametrize(
    ("base", "error", "message"),
    [
        ("adam", TypeError, "Expected 'base' to be a class of optimizers"),
        (nn.Linear, TypeError, "Expected 'base' to be a class of optimizers"),
        (torch.optim.LBFGS, ValueError, r"step from gradients alone \(got base=LBFGS\)"),
        (SAM, ValueError, r"step from gradients alone \(got base=SAM\)"),
    ],
)
def test_unsuited_bases_are_refused(base, error, message):
    with pytest.raises(error, match=message):
        SAM([torch.ones(1, requires_grad=True)], base)


def test_layers_that_would_give_the_peer_the_edges_of_the_graph_are_refused():
    model = GCN(4, 8, num_layers=2, cached=True)
    with pytest.raises(ValueError, match=r"cached=True in 'convs.0' \(GCNConv\), 'convs.1' .*cached=False"):
        FGSAM(model)
    assert SAM(model).param_groups  # on one graph in all its passes


def test_unknown_answer_to_values_that_are_not_finite_is_refused():
    with pytest.raises(ValueError, match="Did you mean 'skip'"):
        SAM([torch.ones(1, requires_grad=True)], nonfinite="skp")


def test_sparse_gradients_are_refused():
    table = nn.Embedding(5, 2, sparse=True)
    with pytest.raises(TypeError, match=r"Expected dense gradients .* sparse=False"):
        SGD(table, lr=0.1).step(lambda: table(torch.tensor([1, 2])).sum())


@pytest.mark.parametrize("value", [-0.0, 1e-310, 1.0 + 2**-52])
def test_displaced_weights_come_back_bit_for_bit(value):
    w = torch.full((3,), value, dtype=torch.float64, requires_grad=True)
    optimizer = SGD([w])
    bits = w.detach().view(torch.int64).clone()

    def fail_while_moved():
        with optimizer.displaced([torch.full((3,), 0.1, dtype=torch.float64)]):
            assert not torch.equal(w.detach().view(torch.int64), bits)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_while_moved()
    assert torch.equal(w.detach().view(torch.int64), bits)


def test_weights_of_a_graph_that_is_still_needed_cannot_be_moved_unnoticed():
    w = torch.tensor([1.0], requires_grad=True)
    loss = (w**3).sum()
    with SGD([w]).displaced([torch.ones(1)]), pytest.raises(RuntimeError, match="inplace operation"):
        loss.backward()


def test_a_rule_may_displace_in_turn():
    w = torch.tensor([1.0], requires_grad=True)
    optimizer = SGD([w])
    with optimizer.displaced([torch.ones(1)]):
        with optimizer.displaced([torch.ones(1)]):
            assert w.item() == 3.0
        assert w.item() == 2.0
    assert w.item() == 1.0


def test_gradients_that_are_views_of_a_larger_storage_are_copied():
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    bucket, seen = torch.zeros(4), []

    class Watched(Twice):
        def direction(self, gnn, peer):
            first = gnn(clean=True)
            second = gnn()
            seen.extend([first[0].clone(), second[0].clone()])
            return first

    def closure():
        # As gradients of distributed training do, these live in a buffer that every backward pass writes anew.
        loss = (w**2).sum() * (len(seen) + 1)
        bucket[:2] = torch.autograd.grad(loss, w)[0]
        w.grad = bucket[:2]
        bucket.mul_(1.0)
        return loss

    optimizer = Watched([w], torch.optim.SGD, lr=0.0)
    optimizer.step(closure)
    bucket.zero_()
    assert torch.equal(w.grad, torch.tensor([2.0, 4.0]))


def test_parameter_hooks_run_in_the_backward_of_the_optimizer():
    w = torch.tensor([1.0], requires_grad=True)
    w.register_hook(lambda grad: grad * 3)
    SGD([w], lr=0.1).step(lambda: (2 * w).sum())
    assert w.item() == pytest.approx(1.0 - 0.1 * 6)


def test_tensors_outside_the_optimizer_get_no_gradient():
    w, other = torch.tensor([1.0], requires_grad=True), torch.tensor([1.0], requires_grad=True)
    SGD([w], lr=0.1).step(lambda: (w * other).sum())
    assert other.grad is None


def test_last_direction_stays_readable_as_gradient():
    w = torch.tensor([3.0, 4.0], requires_grad=True)
    SGD([w], lr=0.1).step(lambda: 0.5 * (w**2).sum())
    assert norm([w.grad]) == 5.0


def test_buffers_that_are_replaced_come_back_as_the_same_tensors():
    class Replacing(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))
            self.register_buffer("count", torch.zeros(1))
            self.register_buffer("late", None)

        def loss(self):
            self.count = self.count + 1
            self.late = torch.ones(1)
            return (self.weight**2).sum()

    model = Replacing()
    buffer = model.count
    optimizer = Twice(model, torch.optim.SGD, lr=0.1)
    optimizer.step(model.loss)
    assert model.count is not buffer
    assert model.count.item() == 1.0
    broken = Replacing()
    kept = broken.count

    def failing():
        broken.loss()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Twice(broken).step(failing)
    assert broken.count is kept
    assert broken.count.item() == 0.0
    assert broken.late is None


def test_report_names_the_pass_that_is_not_finite():
    w = torch.tensor([1.0], requires_grad=True)
    with pytest.raises(FloatingPointError, match="GNN loss 1, gradient norm 2; GNN loss inf, gradient norm inf"):
        Twice([w]).step(lambda: (w**2).sum() * (float("inf") if w.item() > 1 else 1.0))


def test_schedulers_that_read_defaults_work():
    w = torch.tensor([1.0], requires_grad=True)
    optimizer = SAM([w], torch.optim.SGD, lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=5)
    for _ in range(3):
        optimizer.step(lambda: (w**2).sum())
        scheduler.step()
    assert optimizer.base_optimizer.param_groups[0]["momentum"] < 0.95


def test_representation_shows_the_groups():
    text = repr(SAM([torch.ones(1, requires_grad=True)], rho=0.3))
    assert text.startswith("SAM (")
    assert "rho: 0.3" in text


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("factor", [0.1, 2, torch.tensor(0.1, dtype=torch.float64), [torch.tensor(0.1).double()]])
def test_a_displacement_is_as_long_as_its_factor_says_in_every_type(dtype, factor):
    w = torch.zeros(2, dtype=dtype, requires_grad=True)
    number = factor[0] if isinstance(factor, list) else factor
    with SGD([w]).displaced([torch.ones(2, dtype=dtype)], factor):
        assert torch.equal(w.detach(), torch.full((2,), float(number), dtype=dtype))
    assert torch.equal(w.detach(), torch.zeros(2, dtype=dtype))
