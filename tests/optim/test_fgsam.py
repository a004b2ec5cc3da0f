from __future__ import annotations

import numpy as np
import pytest
import torch

from fgsam.optim.fgsam import FGSAM
from tests.twins.optimizers import (
    LinearNet,
    adam_update,
    fgsam_directions,
    plain_directions,
    plus,
    relative_error,
    run_optimizer,
    run_twin,
    sam_directions,
    sgd_update,
)

BASES = [
    (torch.optim.SGD, {"lr": 0.3}, lambda: sgd_update(0.3)),
    (torch.optim.Adam, {"lr": 0.05, "weight_decay": 5e-4}, lambda: adam_update(0.05, 5e-4)),
]


@pytest.mark.parametrize(("form", "lam"), [("paper", 1.0), ("paper", 0.3), ("code", 0.5), ("code", 0.8)])
@pytest.mark.parametrize(("base", "options", "update"), BASES)
def test_ten_steps_equal_the_equations(form, lam, base, options, update):
    net = LinearNet(seed=4)
    expected = run_twin(net, fgsam_directions(net, 0.3, lam, form), update(), num_steps=10)
    found = run_optimizer(net, "fgsam", 10, base=base, rho=0.3, lam=lam, form=form, **options)
    assert max(relative_error(f, e) for f, e in zip(found, expected, strict=True)) < 1e-12


@pytest.mark.parametrize(("form", "lam"), [("paper", 1.0), ("code", 0.5)])
def test_each_form_has_its_own_default_weight(form, lam):
    net = LinearNet()
    assert FGSAM(net.tensors(), form=form).lam == lam
    found = run_optimizer(net, "fgsam", 2, base=torch.optim.SGD, lr=0.1, form=form)
    stated = run_optimizer(net, "fgsam", 2, base=torch.optim.SGD, lr=0.1, form=form, lam=lam, rho=0.05)
    assert relative_error(found[-1], stated[-1]) == 0


def test_without_edges_and_weight_it_is_sam():
    net = LinearNet(edges=False)
    expected = run_twin(net, sam_directions(net, 0.3), sgd_update(0.3), num_steps=5)
    found = run_optimizer(net, "fgsam", 5, base=torch.optim.SGD, lr=0.3, rho=0.3, lam=0.0)
    assert relative_error(found[-1], expected[-1]) < 1e-12


def test_without_edges_and_radius_it_is_the_base_with_a_larger_gradient():
    net = LinearNet(edges=False)
    expected = run_twin(net, plain_directions(net), sgd_update(0.3 * 1.7), num_steps=5)
    found = run_optimizer(net, "fgsam", 5, base=torch.optim.SGD, lr=0.3, rho=0.0, lam=0.7)
    assert relative_error(found[-1], expected[-1]) < 1e-12


def test_with_edges_and_no_radius_it_minimises_the_weighted_sum_of_both_losses():
    net = LinearNet(edges=True)
    params, history = net.start, run_optimizer(net, "fgsam", 5, base=torch.optim.SGD, lr=0.3, rho=0.0, lam=0.7)
    for _ in range(5):
        g = plus((0.7, net.gnn_gradient(params)), (1.0, net.peer_gradient(params)))
        params = plus((1.0, params), (-0.3, g))
    assert relative_error(history[-1], params) < 1e-12
    alone = run_twin(net, plain_directions(net), sgd_update(0.3), num_steps=5)
    assert relative_error(history[-1], alone[-1]) > 1e-2


@pytest.mark.parametrize("rho", [0.0, 0.1, 5.0])
def test_code_form_without_peer_weight_is_the_base_for_every_radius(rho):
    net = LinearNet()
    expected = run_optimizer(net, "sgd", 5, lr=0.3)
    found = run_optimizer(net, "fgsam", 5, base=torch.optim.SGD, lr=0.3, rho=rho, lam=0.0, form="code")
    assert relative_error(found[-1], expected[-1]) < 1e-14


def test_forms_agree_up_to_the_overall_scale():
    net = LinearNet()
    paper = run_optimizer(net, "fgsam", 5, base=torch.optim.SGD, lr=0.1, lam=3.0)
    code = run_optimizer(net, "fgsam", 5, base=torch.optim.SGD, lr=0.4, lam=0.25, form="code")
    assert relative_error(code[-1], paper[-1]) < 1e-8


def test_gnn_gradient_is_taken_at_the_unmoved_weights():
    net = LinearNet()
    params = net.tensors()
    closure, peer_closure = net.closures(params)
    clean = torch.autograd.grad(closure(), params)
    FGSAM(params, torch.optim.SGD, lr=0.0, rho=0.5, lam=0.0, form="code").step(closure, peer_closure)
    for p, g in zip(params, clean, strict=True):
        torch.testing.assert_close(p.grad, g, rtol=1e-14, atol=1e-16)


def test_a_parameter_that_only_one_of_the_passes_reaches_gets_that_gradient():
    a, b = torch.tensor([1.0], requires_grad=True), torch.tensor([1.0], requires_grad=True)
    FGSAM([a, b], torch.optim.SGD, lr=1.0, rho=0.0, lam=0.5).step(lambda: (2 * a).sum(), lambda: (3 * b).sum())
    assert (a.item(), b.item()) == (1.0 - 0.5 * 2, 1.0 - 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lam": -0.1}, "Expected 'lam' to be at least 0"),
        ({"lam": 1.1, "form": "code"}, "Expected 'lam' to be between 0 and 1"),
        ({"form": "papper"}, "Did you mean 'paper'"),
        ({"rho": -1.0}, "Expected 'rho' to be at least 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FGSAM([torch.ones(1, requires_grad=True)], **options)


def test_net_by_hand_has_the_gradients_of_autograd():
    net = LinearNet()
    params = net.tensors()
    closure, peer_closure = net.closures(params)
    for loss, by_hand in ((closure, net.gnn_gradient), (peer_closure, net.peer_gradient)):
        found = [g.numpy() for g in torch.autograd.grad(loss(), params)]
        assert relative_error(found, by_hand(net.start)) < 1e-13
        assert np.isfinite(found[0]).all()
