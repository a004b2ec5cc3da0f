from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from fgsam.functional.projection import orthogonal_part
from fgsam.functional.trees import add, dot, dots, norm, scale
from fgsam.optim.fgsam import FGSAM
from fgsam.optim.fgsam_plus import FGSAMPlus
from fgsam.registry import OPTIMIZERS
from tests.twins.optimizers import (
    LinearNet,
    adam_update,
    fgsam_plus_directions,
    length,
    plus,
    relative_error,
    run_optimizer,
    run_twin,
    sgd_update,
)

RELEASED = json.loads((Path(__file__).parents[1] / "data" / "fgsam_plus_released.json").read_text())


@pytest.mark.parametrize("refresh_every", [1, 2, 3])
@pytest.mark.parametrize(("form", "lam"), [("paper", 1.0), ("paper", 0.3), ("code", 0.5), ("code", 0.8)])
@pytest.mark.parametrize("base", ["SGD", "Adam"])
def test_ten_steps_equal_the_equations(form, lam, refresh_every, base):
    net = LinearNet(seed=5)
    update = sgd_update(0.3) if base == "SGD" else adam_update(0.05, 5e-4)
    options = {"lr": 0.3} if base == "SGD" else {"lr": 0.05, "weight_decay": 5e-4}
    directions = fgsam_plus_directions(net, 0.3, lam, 0.6, refresh_every, form)
    expected = run_twin(net, directions, update, num_steps=10)
    options.update(rho=0.3, lam=lam, alpha=0.6, refresh_every=refresh_every, form=form)
    found = run_optimizer(net, "fgsam_plus", 10, base=getattr(torch.optim, base), **options)
    assert max(relative_error(f, e) for f, e in zip(found, expected, strict=True)) < 1e-11


@pytest.mark.parametrize("run", sorted(RELEASED["runs"]))
def test_code_form_repeats_the_released_code(run):
    def tensor(values):
        return torch.tensor(values, dtype=torch.float64)

    settings = RELEASED["runs"][run]
    x, adjacency, y = tensor(RELEASED["X"]), tensor(RELEASED["adjacency"]), torch.tensor(RELEASED["y"])
    w, b = tensor(RELEASED["W0"]).requires_grad_(), tensor(RELEASED["b0"]).requires_grad_()
    optimizer = FGSAMPlus(
        [w, b],
        getattr(torch.optim, settings["base"]),
        rho=settings["rho"],
        alpha=settings["alpha"],
        refresh_every=settings["k"],
        lam=settings["lam_code"],
        form="code",
        **settings["base_arguments"],
    )
    for after in settings["after_step"]:
        optimizer.step(lambda: cross_entropy(adjacency @ x @ w + b, y), lambda: cross_entropy(x @ w + b, y))
        torch.testing.assert_close(w.detach(), tensor(after["W"]), rtol=0, atol=1e-9)
        torch.testing.assert_close(b.detach(), tensor(after["b"]), rtol=0, atol=1e-9)


@pytest.mark.parametrize("form", ["paper", "code"])
def test_with_a_period_of_one_it_is_fgsam(form):
    options = {"base": torch.optim.Adam, "lr": 0.05, "rho": 0.2, "form": form}
    plain = run_optimizer(LinearNet(), "fgsam", 6, **options)
    plus_one = run_optimizer(LinearNet(), "fgsam_plus", 6, refresh_every=1, **options)
    assert relative_error(plus_one[-1], plain[-1]) == 0


def exact_then_cheap(form: str, **options):
    """The stored vectors, the gradients of the exact step, and what the cheap step used."""
    net = LinearNet(seed=6)
    params = net.tensors()
    closure, peer_closure = net.closures(params)
    optimizer = FGSAMPlus(params, torch.optim.SGD, lr=0.1, form=form, **options)
    g_gnn, g_mlp = torch.autograd.grad(closure(), params), torch.autograd.grad(peer_closure(), params)
    optimizer.step(closure, peer_closure)
    at_cheap = list(torch.autograd.grad(peer_closure(), params))
    optimizer.step(closure, peer_closure)
    return optimizer, list(g_gnn), list(g_mlp), at_cheap, [p.grad for p in params]


def test_stored_vectors_are_orthogonal_to_the_peer_gradient():
    flatness, _, g_mlp, _, _ = exact_then_cheap("paper", alpha=1.0, lam=0.0)
    topology, g_gnn, g_mlp, _, _ = exact_then_cheap("paper", alpha=0.0, lam=1.0)
    g_v, g_big = flatness.kept("shift"), topology.kept("shift")
    assert abs(dot(g_v, g_mlp)) < 1e-12 * norm(g_mlp)  # normalising enlarges the rounding error of a short vector
    assert abs(dot(g_big, g_mlp)) < 1e-12 * norm(g_mlp)
    torch.testing.assert_close(norm(g_v), torch.ones((), dtype=torch.float64))
    # The GNN's gradient is its projection on the peer's and a multiple of the topology vector.
    projection = [dot(g_gnn, g_mlp) / dot(g_mlp, g_mlp) * g for g in g_mlp]
    torch.testing.assert_close(add(scale(g_big, dot(g_gnn, g_big)), projection), g_gnn)


def test_stored_vector_of_the_code_form_is_orthogonal_tensor_by_tensor():
    optimizer, _, g_mlp, _, _ = exact_then_cheap("code")
    assert all(abs(product) < 1e-14 for product in dots(optimizer.kept("shift"), g_mlp))


def test_terms_of_a_cheap_step_have_the_stated_lengths():
    _, _, _, g_mlp, flat_only = exact_then_cheap("paper", alpha=0.7, lam=0.0)
    torch.testing.assert_close(norm(add(flat_only, g_mlp, alpha=-1.0)), 0.7 * norm(g_mlp))
    _, _, _, g_mlp, topology_only = exact_then_cheap("paper", alpha=0.0, lam=1.0)
    rebuilt = add(topology_only, g_mlp, alpha=-1.0)
    torch.testing.assert_close(norm(add(rebuilt, g_mlp, alpha=-1.0)), norm(g_mlp))


def test_cheap_step_without_weights_is_the_base_on_the_peer_loss():
    _, _, _, g_mlp, used = exact_then_cheap("paper", alpha=0.0, lam=0.0)
    torch.testing.assert_close(used, g_mlp, rtol=0, atol=0)


def test_flatness_vector_of_the_code_form_mixes_both_of_the_paper():
    # With a single tensor the projections coincide, and the projection is linear.
    lam = 0.3

    def stored(form, **options):
        w = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64, requires_grad=True)

        def closure():
            return (w**3).sum() + w[0] * w[1]

        def peer_closure():
            return w.exp().sum()

        at_w = [torch.autograd.grad(loss(), w) for loss in (closure, peer_closure)]
        optimizer = FGSAMPlus([w], torch.optim.SGD, lr=0.0, form=form, **options)
        optimizer.step(closure, peer_closure)
        moved = w.detach() + 0.1 * at_w[0][0] / at_w[0][0].norm()
        parts = [orthogonal_part([g], list(at_w[1]))[0] for g in (at_w[0][0], moved.exp())]
        return optimizer.own["shift.0"], parts

    code, (g_big, g_v) = stored("code", alpha=1.0, lam=lam)
    mixed = (1 - lam) * g_big + lam * g_v
    torch.testing.assert_close(code, mixed / mixed.norm(), rtol=1e-7, atol=0)
    paper, _ = stored("paper", alpha=0.7, lam=lam)
    torch.testing.assert_close(paper, 0.7 * g_v / g_v.norm() + lam * g_big / g_big.norm(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("form", ["paper", "code"])
def test_without_edges_there_is_no_topology_and_no_noise_in_its_place(form):
    net = LinearNet(edges=False)
    params = net.tensors()
    optimizer = FGSAMPlus(params, torch.optim.SGD, lr=0.1, alpha=0.0, lam=0.5, form=form)
    optimizer.step(*net.closures(params))
    assert norm(optimizer.kept("shift")) == 0
    g_mlp = [g.numpy() for g in torch.autograd.grad(net.closures(params)[1](), params)]
    optimizer.step(*net.closures(params))
    # The rebuilt GNN gradient is then the peer's; the code's form has no such term.
    expected = plus((1.5 if form == "paper" else 1.0, g_mlp))
    assert relative_error([p.grad.numpy() for p in params], expected) < 1e-14


@pytest.mark.parametrize("form", ["paper", "code"])
def test_a_tensor_of_zero_gradient_stays_finite_and_disturbs_nothing(form):
    # The released code divides zero by zero here.
    net = LinearNet()
    params = [*net.tensors(), torch.zeros(2, dtype=torch.float64, requires_grad=True)]

    def with_dead(loss):
        return lambda: loss() + 0 * params[3].sum()

    closures = net.closures(params[:3])
    optimizer = FGSAMPlus(params, torch.optim.SGD, lr=0.1, form=form)
    for _ in range(4):
        optimizer.step(with_dead(closures[0]), with_dead(closures[1]))
    assert torch.equal(params[3], torch.zeros(2, dtype=torch.float64))
    history = run_optimizer(net, "fgsam_plus", 4, base=torch.optim.SGD, lr=0.1, form=form)
    assert relative_error([p.detach().numpy() for p in params[:3]], history[-1]) < 1e-13


@pytest.mark.parametrize("refresh_every", [1, 2, 3, 5])
@pytest.mark.parametrize("form", ["paper", "code"])
def test_cheap_steps_never_call_the_gnn(form, refresh_every):
    net = LinearNet()
    params = net.tensors()
    closure, peer_closure = net.closures(params)
    calls = []

    def gnn():
        calls.append("gnn")
        return closure()

    def peer():
        calls.append("peer")
        return peer_closure()

    optimizer = FGSAMPlus(params, refresh_every=refresh_every, form=form)
    for t in range(10):
        calls.clear()
        optimizer.step(gnn, peer)
        assert calls == (["gnn", "peer", "peer"] if t % refresh_every == 0 else ["peer"])


@pytest.mark.parametrize("name", ["fgsam", "fgsam_plus"])
@pytest.mark.parametrize("form", ["paper", "code"])
def test_the_gnn_is_differentiated_once_in_an_exact_step(name, form):
    net, backwards = LinearNet(), []
    params = net.tensors()
    closure, peer_closure = net.closures(params)

    def gnn():
        loss = closure()
        loss.register_hook(lambda grad: backwards.append("gnn"))
        return loss

    OPTIMIZERS.load(name)(params, form=form).step(gnn, peer_closure)
    assert backwards == ["gnn"]


def test_period_counts_skipped_steps():
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    calls = []

    def gnn():
        calls.append("gnn")
        return (w**2).sum()

    def peer():
        calls.append("peer")
        return (w**4).sum() * (float("nan") if len(calls) == 4 else 1.0)

    optimizer = FGSAMPlus([w], refresh_every=3, nonfinite="skip")
    per_step = []
    for _ in range(7):
        before = len(calls)
        optimizer.step(gnn, peer)
        per_step.append(calls[before:].count("gnn"))
    assert per_step == [1, 0, 0, 1, 0, 0, 1]
    assert (optimizer.num_calls, optimizer.num_skipped) == (7, 1)


def test_step_after_a_skipped_first_one_is_exact():
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    factors = iter([float("nan"), 1.0])
    optimizer = FGSAMPlus([w], refresh_every=5, nonfinite="skip")
    optimizer.step(lambda: (w**2).sum() * next(factors), lambda: (w**4).sum())
    assert not any(isinstance(value, torch.Tensor) for value in optimizer.own.values())
    optimizer.step(lambda: (w**2).sum() * next(factors), lambda: (w**4).sum())
    assert "shift.0" in optimizer.own


def test_a_group_added_within_a_period_starts_without_vectors():
    a, b = torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor([3.0, -1.0], requires_grad=True)
    optimizer = FGSAMPlus([a], torch.optim.SGD, lr=0.1, rho=0.2)
    optimizer.step(lambda: (a**2).sum(), lambda: (a**4).sum())
    optimizer.add_param_group({"params": [b]})
    assert optimizer.param_groups[1]["rho"] == 0.2
    optimizer.step(lambda: (a**2 + b**2).sum(), lambda: (a**4 + b).sum())
    assert length([b.detach().numpy() - [3.0, -1.0]]) == pytest.approx(0.1 * 2**0.5 * 2, rel=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"refresh_every": 0}, "Expected 'refresh_every' to be a whole number, at least 1"),
        ({"refresh_every": 1.5}, "Expected 'refresh_every' to be a whole number, at least 1"),
        ({"alpha": -1.0}, "Expected 'alpha' to be at least 0"),
        ({"lam": -1.0}, "Expected 'lam' to be at least 0"),
        ({"form": "both"}, "Expected 'form' to be one of paper, code"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FGSAMPlus([torch.ones(1, requires_grad=True)], **options)


def test_published_settings_are_the_defaults():
    optimizer = FGSAMPlus([torch.ones(1, requires_grad=True)])
    assert (optimizer.param_groups[0]["rho"], optimizer.refresh_every, optimizer.alpha) == (0.1, 2, 0.7)


@pytest.mark.parametrize("form", ["paper", "code"])
def test_a_parameter_that_only_the_second_peer_pass_reaches_moves_as_in_fgsam(form):
    def after_one_step(rule):
        a, b = (torch.tensor([1.0, 2.0 + i], requires_grad=True) for i in range(2))
        num_calls = 0

        def peer():
            nonlocal num_calls
            num_calls += 1
            is_first_of_two = rule is FGSAMPlus and num_calls == 1
            return (a**2).sum() + (0.0 if is_first_of_two else (b**2).sum())

        rule([a, b], torch.optim.SGD, lr=0.1, rho=0.1, form=form).step(lambda: (a * b).sum() + a[1] ** 2, peer)
        return a.detach(), b.detach()

    assert all(map(torch.equal, after_one_step(FGSAMPlus), after_one_step(FGSAM)))
