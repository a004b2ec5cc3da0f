"""SAFE, SAFE+ and their rivals: what they share, and how they relate."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fgsam.functional.sparsity import share_of_zeros
from fgsam.optim.admm_pruning import ADMMPruning
from fgsam.optim.iht import IHT
from fgsam.optim.magnitude_pruning import MagnitudePruning
from fgsam.optim.safe import SAFE
from fgsam.optim.safe_plus import SAFEPlus
from fgsam.testing import check_optimizer
from tests.twins.optimizers import LinearNet, adam_update, relative_error, run_optimizer, sgd_update
from tests.twins.sparse_training import mask, project, splitting, thresholding

SPLITTERS = [SAFE, SAFEPlus, ADMMPruning]
RULES = [*SPLITTERS, IHT, MagnitudePruning]
BASES = {
    "SGD": ({"lr": 0.3}, lambda: sgd_update(0.3)),
    "momentum": ({"lr": 0.3, "momentum": 0.9}, lambda: sgd_update(0.3, 0.9)),
    "Adam": ({"lr": 0.05, "weight_decay": 5e-4}, lambda: adam_update(0.05, 5e-4)),
}
# Settings under which every part of a rule is at work within a few steps.
ACTIVE = {
    rule: {"penalty": 0.5, "dual_every": 3, "sparsity": 0.6, "num_steps": 8}
    if rule in SPLITTERS
    else {"sparsity": 0.6, "num_steps": 8}
    for rule in RULES
}

every_rule = pytest.mark.parametrize("rule", RULES)
every_base = pytest.mark.parametrize("base", sorted(BASES))


def own(rule, **options):
    params = LinearNet().tensors()
    return params, rule(params, torch.optim.SGD, **{"lr": 0.1, **ACTIVE[rule], **options})


def steps(rule, num_steps, **options):
    params, optimizer = own(rule, **options)
    for _ in range(num_steps):
        optimizer.step(LinearNet().closures(params)[0])
    return params, optimizer


def arrays(params):
    return [p.detach().numpy().copy() for p in params]


def history(net, rule, base, **options):
    params = net.tensors()
    optimizer = rule(params, torch.optim.Adam if base == "Adam" else torch.optim.SGD, **options)
    found = []
    for _ in range(10):
        optimizer.step(net.closures(params)[0])
        found.append(arrays(params))
    return found


@every_base
@pytest.mark.parametrize(("rule", "rho", "decay"), [(SAFE, 0.3, None), (ADMMPruning, 0.0, None), (SAFEPlus, 0.3, 0.7)])
@pytest.mark.parametrize(("schedule", "dual_every"), [("constant", 1), ("linear", 3), ("cosine", 3), ("cubic", 2)])
def test_ten_steps_equal_the_equations(rule, rho, decay, schedule, dual_every, base):
    net, (options, update) = LinearNet(seed=1), BASES[base]
    common = {"sparsity": 0.6, "penalty": 0.5, "schedule": schedule, "dual_every": dual_every}
    expected = splitting(net, update(), 10, **common, length=8, rho=rho, decay=decay)
    extra = ({"rho": rho} if rho else {}) | ({"importance_decay": decay} if decay else {})
    found = history(net, rule, base, num_steps=8, **common, **options, **extra)
    assert max(relative_error(f, e) for f, e in zip(found, expected, strict=True)) < 1e-12


@every_base
@pytest.mark.parametrize("rule", [IHT, MagnitudePruning])
@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "cubic"])
def test_ten_steps_of_thresholding_equal_the_equations(rule, schedule, base):
    net, (options, update) = LinearNet(seed=1), BASES[base]
    for_good = rule is MagnitudePruning
    expected = thresholding(net, update(), 10, sparsity=0.6, schedule=schedule, length=8, for_good=for_good)
    found = history(net, rule, base, sparsity=0.6, num_steps=8, schedule=schedule, **options)
    for f, e in zip(found, expected, strict=True):
        assert relative_error(f, e) < 1e-12
        assert [(a == 0).tolist() for a in f] == [(a == 0).tolist() for a in e]


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.8, 0.9, 0.95])
@every_rule
def test_training_ends_with_exactly_as_many_zeros_as_asked(rule, sparsity):
    params, optimizer = own(rule, sparsity=sparsity)
    for _ in range(10):
        optimizer.step(LinearNet().closures(params)[0])
    vector = params[2].detach().clone()
    optimizer.finish()
    weights = [p.detach() for p in params[:2]]
    assert sum(int(w.count_nonzero()) for w in weights) == round((1 - sparsity) * 21)
    assert share_of_zeros(weights) == pytest.approx(1 - round((1 - sparsity) * 21) / 21)
    assert torch.equal(params[2], vector)


@every_rule
def test_equal_weights_are_pruned_from_the_end(rule):
    w = torch.ones(3, 4, requires_grad=True)
    rule([w], sparsity=0.75).finish()
    assert w.flatten().tolist() == [1.0] * 3 + [0.0] * 9


@every_rule
def test_vectors_are_pruned_on_request_and_frozen_tensors_never(rule):
    weight, bias, frozen = torch.ones(2, 2), torch.full((4,), 0.5), torch.full((3, 3), 0.1)
    for p in (weight, bias):
        p.requires_grad_()
    rule([weight, bias, frozen], sparsity=0.5, prune_biases=True).finish()
    assert (int(weight.count_nonzero()), int(bias.count_nonzero()), int(frozen.count_nonzero())) == (4, 0, 9)


@every_rule
def test_deployed_weights_are_sparse_and_the_others_come_back(rule):
    params, optimizer = steps(rule, 4)
    before, state = [p.detach().clone() for p in params], optimizer.state_dict()
    pointers = [p.data_ptr() for p in params]

    def look_and_fail():
        with optimizer.deployed():
            assert sum(int(p.count_nonzero()) for p in params[:2]) == round(0.4 * 21)
            assert torch.equal(params[2], before[2])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        look_and_fail()
    assert all(torch.equal(p, value) for p, value in zip(params, before, strict=True))
    assert [p.data_ptr() for p in params] == pointers
    assert all(
        torch.equal(torch.as_tensor(value), torch.as_tensor(optimizer.own[key])) for key, value in state["own"].items()
    )
    with optimizer.deployed():
        held = arrays(params)
    optimizer.finish()
    assert relative_error(arrays(params), held) == 0


@pytest.mark.parametrize("looks", [False, True])
@every_rule
def test_looking_at_deployed_weights_changes_nothing(rule, looks):
    params, optimizer = own(rule)
    for _ in range(6):
        if looks:
            with optimizer.deployed():
                pass
        optimizer.step(LinearNet().closures(params)[0])
    assert relative_error(arrays(params), arrays(steps(rule, 6)[0])) == 0


@pytest.mark.parametrize("rule", SPLITTERS)
def test_no_learning_rate_leaves_weights_and_biases_under_a_penalty(rule):
    params, optimizer = own(rule, lr=0.0, schedule="constant")
    before = arrays(params)
    for _ in range(7):
        optimizer.step(LinearNet().closures(params)[0])
    assert all((a == b).all() for a, b in zip(arrays(params), before, strict=True))


def test_without_penalty_it_is_sam_until_the_projection():
    params, optimizer = steps(SAFE, 6, penalty=0.0, rho=0.2)
    sam = run_optimizer(LinearNet(), "sam", 6, base=torch.optim.SGD, lr=0.1, rho=0.2)[-1]
    assert all((a == b).all() for a, b in zip(arrays(params), sam, strict=True))
    optimizer.finish()
    assert relative_error(arrays(params), project(sam, 0.6)) == 0


def test_without_ascent_it_is_admm():
    safe, admm = steps(SAFE, 10, rho=0.0)[0], steps(ADMMPruning, 10)[0]
    assert all(torch.equal(a, b) for a, b in zip(safe, admm, strict=True))
    other = steps(SAFE, 10, rho=0.2)[0]
    assert not torch.equal(safe[0], other[0])


def test_with_equal_importance_the_generalised_projection_is_by_magnitude():
    safe, plus = steps(SAFE, 10)[0], steps(SAFEPlus, 10, importance="uniform")[0]
    assert all(torch.equal(a, b) for a, b in zip(safe, plus, strict=True))
    other = steps(SAFEPlus, 10)[0]
    assert not torch.equal(safe[0], other[0])


@pytest.mark.parametrize("rule", SPLITTERS)
def test_a_dual_update_splits_exactly(rule):
    params, optimizer = steps(rule, 5)
    old = [optimizer.own[f"u.{i}"] for i in range(2)]
    optimizer.step(LinearNet().closures(params)[0])
    z, u = ([optimizer.own[f"{name}.{i}"] for i in range(2)] for name in "zu")
    assert sum(int(one.count_nonzero()) for one in z) == round(0.4 * 21)
    assert any(bool(one.any()) for one in old)
    for w, before, a, b in zip(params, old, z, u, strict=False):
        assert torch.equal(w.detach() + before, a + b)
        assert not (a * b).any()
    assert "z.2" not in optimizer.own


def test_at_sparsity_zero_nothing_pulls():
    params, optimizer = steps(SAFE, 3, sparsity=0.0)
    for i, p in enumerate(params[:2]):
        assert torch.equal(optimizer.own[f"z.{i}"], p.detach())
        assert not optimizer.own[f"u.{i}"].any()


def test_quadratic_settles_on_the_fixed_point():
    a = torch.tensor([[3.0, -2.0, 0.1, -0.05]], dtype=torch.float64)
    w = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    optimizer = ADMMPruning([w], torch.optim.SGD, lr=0.6, sparsity=0.5, penalty=0.5, schedule="constant", dual_every=4)
    for _ in range(320):
        optimizer.step(lambda: 0.5 * (w - a).pow(2).sum())
    torch.testing.assert_close(w.detach(), torch.tensor([[3.0, -2.0, 0.0, 0.0]]).double(), rtol=0, atol=1e-9)
    torch.testing.assert_close(optimizer.own["z.0"], w.detach(), rtol=0, atol=1e-9)
    torch.testing.assert_close(optimizer.own["u.0"], torch.tensor([[0, 0, 0.2, -0.1]]).double(), rtol=0, atol=1e-8)


def test_without_a_gap_the_projection_still_changes_the_weights():
    a = torch.tensor([[1.0, 0.9]], dtype=torch.float64)  # kept 1.0 is less than dropped 0.9 over a penalty of 0.1
    w = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    optimizer = ADMMPruning([w], torch.optim.SGD, lr=0.6, sparsity=0.5, penalty=0.1, schedule="constant", dual_every=4)
    for _ in range(320):
        optimizer.step(lambda: 0.5 * (w - a).pow(2).sum())
    assert int(w.count_nonzero()) == 2
    optimizer.finish()
    assert int(w.count_nonzero()) == 1


def test_what_magnitude_pruning_removes_stays_removed_and_thresholding_lets_come_back():
    gone = {}
    for rule in (IHT, MagnitudePruning):
        w = torch.tensor([[1.0, 0.1]], requires_grad=True)
        optimizer = rule([w], torch.optim.SGD, lr=0.1, sparsity=0.5, schedule="constant")
        for _ in range(15):  # the first shrinks to less than 0.3, which the second gains in every step
            optimizer.step(lambda w=w: 0.5 * (w - torch.tensor([[0.0, 3.0]])).pow(2).sum())
        gone[rule] = (w == 0).tolist()
    assert gone == {IHT: [[True, False]], MagnitudePruning: [[False, True]]}


def test_momentum_revives_nothing_that_was_pruned():
    params, optimizer = steps(MagnitudePruning, 8, momentum=0.9)
    zeros = [p == 0 for p in params[:2]]
    for _ in range(4):
        optimizer.step(LinearNet().closures(params)[0])
        assert all(torch.equal(p == 0, zero) for p, zero in zip(params, zeros, strict=False))
    assert sum(int(zero.sum()) for zero in zeros) == 21 - round(0.4 * 21)


def test_what_is_removed_never_takes_the_place_of_a_living_zero():
    w = torch.tensor([[0.1, 1.0, 2.0, 3.0, 4.0]], requires_grad=True)
    optimizer = MagnitudePruning([w], torch.optim.SGD, lr=1.0, sparsity=0.6, num_steps=3, schedule="linear")
    optimizer.step(lambda: 0 * w.sum())
    assert w.tolist() == [[0.0, 1.0, 2.0, 3.0, 4.0]]
    optimizer.step(lambda: (w * torch.tensor([[0.0, 1.0, 2.0, 0.0, 0.0]])).sum())  # two living ones become zero
    assert optimizer.own["mask.0"].tolist() == [[False, True, False, True, True]]


def test_importance_follows_the_squared_gradient():
    w = torch.tensor([[3.0, 1.0, 0.0]], requires_grad=True)
    optimizer = SAFEPlus([w], torch.optim.SGD, lr=0.0, sparsity=0.6, importance_decay=0.5)
    slope = torch.tensor([[0.1, 4.0, 100.0]])
    for _ in range(2):
        optimizer.step(lambda: (w * slope).sum())
    torch.testing.assert_close(optimizer.own["importance.0"], 0.75 * slope**2)
    optimizer.finish()
    assert w.tolist() == [[0.0, 1.0, 0.0]]


def test_what_no_loss_reaches_matters_least():
    reached, idle = torch.full((2, 2), 0.1, requires_grad=True), torch.ones(2, 2, requires_grad=True)
    optimizer = SAFEPlus([reached, idle], torch.optim.SGD, lr=0.0, sparsity=0.5)
    optimizer.step(lambda: reached.sum())
    assert (int(reached.count_nonzero()), int(idle.count_nonzero())) == (4, 4)
    optimizer.finish()
    assert (int(reached.count_nonzero()), int(idle.count_nonzero())) == (4, 0)


@pytest.mark.parametrize("rule", SPLITTERS)
def test_what_no_loss_reaches_is_not_pulled(rule):
    reached, idle = torch.ones(2, 2, requires_grad=True), torch.ones(2, 2, requires_grad=True)
    optimizer = rule([reached, idle], lr=0.1, schedule="constant", penalty=1.0, sparsity=0.5)
    optimizer.step(lambda: reached.sum())
    assert torch.equal(idle, torch.ones(2, 2))
    assert idle not in optimizer.state


@pytest.mark.parametrize("rule", RULES)
def test_a_group_may_be_added_in_the_middle(rule):
    params, optimizer = steps(rule, 4)
    late = torch.ones(3, 3, dtype=torch.float64, requires_grad=True)
    optimizer.add_param_group({"params": [late]})
    for _ in range(4):
        optimizer.step(lambda: LinearNet().closures(params)[0]() + late.pow(2).sum())
    optimizer.finish()
    assert sum(int(p.count_nonzero()) for p in (*params[:2], late)) == round(0.4 * 30)


def test_complex_weights_are_ranked_by_their_absolute_value():
    w = torch.tensor([[3 + 4j, 4 + 0j, 0 + 1j]], requires_grad=True)
    optimizer = SAFEPlus([w], torch.optim.SGD, lr=0.01, sparsity=0.6, num_steps=1, dual_every=1)
    for _ in range(2):
        optimizer.step(lambda: (w * torch.tensor([[1.0, 1.0, 3 + 6j]])).abs().sum())
    assert optimizer.own["importance.0"].dtype == torch.float32
    optimizer.finish()
    assert [bool(entry) for entry in w[0]] == [False, False, True]


@pytest.mark.parametrize("promise", ["continue", "leaves_no_trace", "storage", "one_group"])
@every_rule
def test_promises_hold_while_everything_is_at_work(rule, promise):
    options = {**ACTIVE[rule], "num_steps": 4} | ({"dual_every": 2} if rule in SPLITTERS else {})
    assert check_optimizer(rule, **options, only=promise)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": 1.0}, r"'sparsity' to be at least 0 and below 1 \(got sparsity=1.0\)"),
        ({"sparsity": float("nan")}, "'sparsity' to be at least 0 and below 1"),
        ({"schedule": "cubick"}, r"'schedule' to be one of constant, linear, cosine, cubic \(got 'cubick'\)"),
        ({"num_steps": 0}, r"'num_steps' to be a whole number, at least 1 \(got num_steps=0\)"),
    ],
)
@every_rule
def test_options_out_of_range_are_refused(rule, options, message):
    with pytest.raises(ValueError, match=f"Expected {message}"):
        rule([torch.ones(1, 1, requires_grad=True)], **options)


@pytest.mark.parametrize("rule", SPLITTERS)
def test_penalties_out_of_range_are_refused(rule):
    w = [torch.ones(1, 1, requires_grad=True)]
    with pytest.raises(ValueError, match=r"Expected 'penalty' to be at least 0 \(got penalty=-1"):
        rule(w, penalty=-1)
    with pytest.raises(ValueError, match="Expected 'dual_every' to be a whole number, at least 1"):
        rule(w, dual_every=0)


def test_unknown_importance_is_refused():
    w = [torch.ones(1, 1, requires_grad=True)]
    with pytest.raises(ValueError, match="Expected 'importance' to be one of squared_gradient, uniform"):
        SAFEPlus(w, importance="wanda")
    with pytest.raises(ValueError, match="Expected 'importance_decay' to be at least 0 and below 1"):
        SAFEPlus(w, importance_decay=1.0)


def test_a_whole_net_ends_sparse_with_its_biases():
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = SAFE(net, lr=0.01, sparsity=0.9, num_steps=20, dual_every=4)
    x = torch.randn(16, 6, generator=torch.Generator().manual_seed(0))
    for _ in range(20):
        optimizer.step(lambda: net(x).pow(2).mean())
    optimizer.finish()
    assert sum(int(net[i].weight.count_nonzero()) for i in (0, 2)) == round(0.1 * 64)
    assert all(bool(net[i].bias.all()) for i in (0, 2))
    assert len(mask([net[0].weight.detach().numpy()], 3)) == 1
