from __future__ import annotations

import copy

import pytest
import torch

from fgsam.optim.friendly_sam import FriendlySAM
from tests.twins.optimizers import LinearNet, adam_update, relative_error, run_optimizer, run_twin, sgd_update
from tests.twins.variants import friendly_sam_directions


@pytest.mark.parametrize("base", ["SGD", "Adam"])
@pytest.mark.parametrize("form", ["paper", "code"])
@pytest.mark.parametrize(("sigma", "decay"), [(1.0, 0.9), (0.5, 0.6)])
def test_ten_steps_equal_the_equations(base, form, sigma, decay):
    net = LinearNet(seed=5)
    update = sgd_update(0.3, 0.9) if base == "SGD" else adam_update(0.05, 5e-4)
    options = {"lr": 0.3, "momentum": 0.9} if base == "SGD" else {"lr": 0.05, "weight_decay": 5e-4}
    expected = run_twin(net, friendly_sam_directions(net, 0.3, sigma, decay, form), update, num_steps=10)
    options.update(base=getattr(torch.optim, base), rho=0.3, sigma=sigma, decay=decay, form=form)
    found = run_optimizer(net, "friendly_sam", 10, **options)
    assert max(relative_error(f, e) for f, e in zip(found, expected, strict=True)) < 1e-12


@pytest.mark.parametrize("form", ["paper", "code"])
def test_with_nothing_taken_off_it_is_sam(form):
    options = {"lr": 0.05, "rho": 0.2}
    sam = run_optimizer(LinearNet(), "sam", 6, **options)
    found = run_optimizer(LinearNet(), "friendly_sam", 6, sigma=0.0, form=form, **options)
    assert relative_error(found[-1], sam[-1]) == 0


def places(optimizer, w, loss, num_steps):
    """How far the weights are from where the step began in its second pass."""
    seen, found = [], []

    def watched():
        seen.append(w.detach().clone())
        return loss(w)

    for _ in range(num_steps):
        seen.clear()
        optimizer.step(watched)
        found.append(seen[1] - seen[0])
    return found


def test_a_constant_gradient_leaves_no_noise_once_the_mean_has_it():
    w = torch.tensor([0.0, 0.0], requires_grad=True)
    optimizer = FriendlySAM([w], torch.optim.SGD, rho=0.5, lr=0.1, form="code")
    slope = torch.tensor([0.3, 0.7])
    moves = places(optimizer, w, lambda w: (slope * w).sum(), 8)
    torch.testing.assert_close(moves[0], 0.5 * slope / slope.norm())
    assert all(torch.equal(move, torch.zeros(2)) for move in moves[1:])
    torch.testing.assert_close(w.detach(), -0.8 * slope)


def test_a_mean_that_keeps_nothing_is_the_gradient_and_leaves_no_noise():
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    optimizer = FriendlySAM([w], torch.optim.SGD, rho=0.5, lr=0.1, decay=0.0)
    assert all(torch.equal(move, torch.zeros(2)) for move in places(optimizer, w, lambda w: (w**4).sum(), 5))


def steps_from_the_same_mean(sigma):
    net = LinearNet(seed=7)
    params = net.tensors()
    source = FriendlySAM(params, torch.optim.SGD, rho=0.3, lr=0.3, sigma=sigma)
    for _ in range(3):
        source.step(net.closures(params)[0])
    found = []
    for form in ("paper", "code"):
        twins = copy.deepcopy(params)
        optimizer = FriendlySAM(twins, torch.optim.SGD, rho=0.3, lr=0.3, sigma=sigma, form=form)
        optimizer.load_state_dict(source.state_dict())
        optimizer.step(net.closures(twins)[0])
        found.append([p.detach().numpy() for p in twins])
    return relative_error(*found)


def test_both_forms_agree_for_the_whole_mean_and_differ_for_a_share():
    assert steps_from_the_same_mean(1.0) < 1e-14
    assert steps_from_the_same_mean(0.5) > 1e-5


def test_first_ascent_is_that_of_sam():
    for form in ("paper", "code"):
        w = torch.tensor([3.0, 4.0], requires_grad=True)
        optimizer = FriendlySAM([w], torch.optim.SGD, rho=0.5, lr=0.1, form=form)
        torch.testing.assert_close(places(optimizer, w, lambda w: (w**2).sum(), 1)[0], torch.tensor([0.3, 0.4]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": -1.0}, "Expected 'sigma' to be at least 0"),
        ({"decay": 1.1}, "Expected 'decay' to be between 0 and 1"),
        ({"form": "both"}, "Expected 'form' to be one of paper, code"),
        ({"rho": -1.0}, "Expected 'rho' to be at least 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FriendlySAM([torch.ones(1, requires_grad=True)], **options)
