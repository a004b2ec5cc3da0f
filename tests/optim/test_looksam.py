from __future__ import annotations

import pytest
import torch

from fgsam.functional.trees import add, dot, norm
from fgsam.optim.looksam import LookSAM
from tests.twins.optimizers import LinearNet, adam_update, relative_error, run_optimizer, run_twin, sgd_update
from tests.twins.variants import looksam_directions


@pytest.mark.parametrize("refresh_every", [1, 2, 3, 5])
@pytest.mark.parametrize("base", ["SGD", "Adam"])
def test_ten_steps_equal_the_equations(base, refresh_every):
    net = LinearNet(seed=2)
    update = sgd_update(0.3, 0.9) if base == "SGD" else adam_update(0.05, 5e-4)
    options = {"lr": 0.3, "momentum": 0.9} if base == "SGD" else {"lr": 0.05, "weight_decay": 5e-4}
    expected = run_twin(net, looksam_directions(net, 0.3, 0.6, refresh_every), update, num_steps=10)
    options.update(base=getattr(torch.optim, base), rho=0.3, alpha=0.6, refresh_every=refresh_every)
    found = run_optimizer(net, "looksam", 10, **options)
    assert max(relative_error(f, e) for f, e in zip(found, expected, strict=True)) < 1e-12


def test_with_a_period_of_one_it_is_sam():
    options = {"base": torch.optim.Adam, "lr": 0.05, "rho": 0.2}
    sam = run_optimizer(LinearNet(), "sam", 6, **options)
    assert relative_error(run_optimizer(LinearNet(), "looksam", 6, refresh_every=1, **options)[-1], sam[-1]) == 0


def exact_then_cheap(**options):
    """The optimizer after two steps, the gradients at the weights of each, and what the base used in the second."""
    net = LinearNet(seed=3)
    params = net.tensors()
    closure = net.closures(params)[0]
    optimizer = LookSAM(params, torch.optim.SGD, lr=0.1, refresh_every=2, **options)
    at_exact = list(torch.autograd.grad(closure(), params))
    optimizer.step(closure)
    at_cheap = list(torch.autograd.grad(closure(), params))
    optimizer.step(closure)
    return optimizer, at_exact, at_cheap, [p.grad for p in params]


def test_stored_vector_is_orthogonal_to_the_gradient_over_all_tensors_together():
    optimizer, g, _, _ = exact_then_cheap(rho=0.3)
    g_v = optimizer.kept("flatness")
    torch.testing.assert_close(norm(g_v), torch.ones((), dtype=torch.float64))
    assert abs(dot(g_v, g)) < 1e-13 * norm(g)
    # Tensor by tensor it is not.
    assert abs(dot(g_v[:1], g[:1])) > 1e-3 * norm(g)


def test_part_added_in_a_cheap_step_has_the_stated_length():
    _, _, g, used = exact_then_cheap(alpha=0.7)
    torch.testing.assert_close(norm(add(used, g, alpha=-1.0)), 0.7 * norm(g))


def test_without_weight_cheap_steps_are_those_of_the_base():
    _, _, g, used = exact_then_cheap(alpha=0.0)
    assert all(map(torch.equal, used, g))


def test_gradient_that_does_not_turn_leaves_nothing_to_add():
    w = torch.tensor([0.3, 0.1], requires_grad=True)
    optimizer = LookSAM([w], torch.optim.SGD, lr=0.1, refresh_every=2, rho=0.5)
    for _ in range(2):
        optimizer.step(lambda: (w * torch.tensor([0.7, 0.3])).sum())
    assert torch.equal(w.grad, torch.tensor([0.7, 0.3]))


@pytest.mark.parametrize("refresh_every", [1, 2, 3, 5])
def test_number_of_passes_is_that_of_the_table(refresh_every):
    net = LinearNet()
    params = net.tensors()
    closure, calls = net.closures(params)[0], []

    def counted():
        calls.append(1)
        return closure()

    optimizer = LookSAM(params, refresh_every=refresh_every)
    for _ in range(11):
        optimizer.step(counted)
    assert len(calls) == 11 + -(-11 // refresh_every)


def test_step_after_a_skipped_exact_one_is_exact():
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    factors = iter([float("nan"), float("nan"), 1.0, 1.0, 1.0])
    optimizer = LookSAM([w], refresh_every=5, nonfinite="skip")
    optimizer.step(lambda: (w**4).sum() * next(factors))
    assert "flatness.0" not in optimizer.own
    optimizer.step(lambda: (w**4).sum() * next(factors))
    assert "flatness.0" in optimizer.own
    optimizer.step(lambda: (w**4).sum() * next(factors))
    assert (next(factors, None), optimizer.num_calls, optimizer.num_skipped) == (None, 3, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"refresh_every": 0}, "Expected 'refresh_every' to be a whole number, at least 1"),
        ({"refresh_every": 2.0}, "Expected 'refresh_every' to be a whole number, at least 1"),
        ({"alpha": -1.0}, "Expected 'alpha' to be at least 0"),
        ({"rho": -1.0}, "Expected 'rho' to be at least 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LookSAM([torch.ones(1, requires_grad=True)], **options)
