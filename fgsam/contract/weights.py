"""What a step does to the weights, and what it must not do."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fgsam.contract.check import Promises
from fgsam.contract.subject import Net, Subject, expect, expect_close, expect_error, expect_same, spied, values, weights

PROMISES = Promises()


@PROMISES.check()
def entry_states_what_it_is(subject: Subject) -> None:
    """Names and flags have their types, and the optimizer is one of PyTorch's."""
    rule = subject.rule
    expect(isinstance(rule.rule, str), "'rule' should be a name")
    expect(rule.peer in ("required", "refused"), f"'peer' should be required or refused, and is {rule.peer!r}")
    expect(isinstance(rule.passes, str), "'passes' should say in words what a step costs")
    expect(isinstance(rule.needs_vectors, bool), "'needs_vectors' should be True or False")
    expect(rule.neutral is None or isinstance(rule.neutral, dict), "'neutral' should be options, or None")
    expect(rule.buffers_move_at in ("weights", "moved weights"), "'buffers_move_at' should be one of its two places")
    expect(isinstance(subject.build(Net()), torch.optim.Optimizer), "it should be an optimizer of PyTorch")


@PROMISES.check(applies=lambda subject: subject.rule.neutral is not None)
def neutral_setting_equals_the_base_bit_for_bit(subject: Subject, base: str) -> None:
    """Weights, buffers and the random state are those of the base optimizer alone."""
    neutral: dict[str, Any] = subject.rule.neutral or {}
    base_class = type(subject.build(Net(), base, **neutral).base_optimizer)
    plain = Net()
    reference = base_class(plain.parameters(), **subject.base_options(base))
    torch.manual_seed(3)
    for _ in range(5):
        reference.zero_grad()
        plain.gnn().mean().backward()  # type: ignore[no-untyped-call]
        reference.step()
    random_state = torch.get_rng_state()
    net, _ = subject.train(5, base, **neutral)
    expect_same(values(net), values(plain), f"the net of {base_class.__name__} with {neutral}")
    expect_same(torch.get_rng_state(), random_state, "the global random state")


@PROMISES.check()
def no_learning_rate_leaves_every_bit(subject: Subject, base: str) -> None:
    """Without learning rate and decay no weight moves."""
    net = Net()
    before = weights(net)
    subject.train(4, base, net, lr=0.0, weight_decay=0.0, **subject.rule.at_rest)
    expect_same(weights(net), before, "weights at lr=0")


@PROMISES.check()
def storage_is_never_rebound(subject: Subject, base: str) -> None:
    """Weights and buffers stay in their memory."""
    net = Net()
    pointers = [t.data_ptr() for t in (*net.parameters(), *net.buffers())]
    subject.train(4, base, net)
    found = [t.data_ptr() for t in (*net.parameters(), *net.buffers())]
    expect(found == pointers, "a parameter or buffer has moved to other memory")


@PROMISES.check()
def weights_between_the_passes_come_back(subject: Subject, base: str) -> None:
    """The base steps from the weights that the step began with: none moves by more than its updates allow."""
    net, seen = Net(), []
    optimizer = subject.build(net, base, lr=0.0, weight_decay=0.0)
    before = weights(net)
    optimizer.register_step_post_hook(lambda *_: seen.append(weights(net)))
    for _ in range(3):
        subject.step(optimizer, net.gnn, net.peer)
    expect(len(seen) == 3, "hooks after the step should fire once a step")
    for found in seen:
        expect_same(found, before, "weights after a step at lr=0")


@PROMISES.check(applies=lambda subject: subject.has_backward)
def parameter_that_no_pass_reaches_is_left_alone(subject: Subject, base: str) -> None:
    """A missing gradient stays missing for the base."""
    net, optimizer = subject.train(4, base)
    expect_same(net.unused.detach(), Net().unused.detach(), "a parameter that no loss reaches")
    expect(net.unused not in optimizer.state, "a parameter that no loss reaches has state in the base")


@PROMISES.check()
def frozen_parameters_never_move(subject: Subject, base: str) -> None:
    """Not for a moment, and they stay frozen."""
    net = Net()
    seen: list[bool] = []
    net.first.weight.requires_grad_(False)
    before = net.first.weight.clone()

    def look() -> bool:
        return torch.equal(net.first.weight, before)

    optimizer = subject.build(net, base)
    for _ in range(3):
        subject.step(optimizer, spied(net.gnn, seen, look), spied(net.peer, seen, look))
    expect(all(seen), "a frozen parameter was moved for a pass")
    expect_same(net.first.weight, before, "a frozen parameter")
    expect(not net.first.weight.requires_grad, "a frozen parameter was thawed")


@PROMISES.check()
def one_group_equals_several(subject: Subject, base: str) -> None:
    """Norms, masks and projections are over all groups together."""
    single, several = Net(), Net()
    params = list(several.parameters())
    groups = [{"params": params[:3]}, {"params": params[3:5]}, {"params": params[5:]}]
    for net, target in ((single, single), (several, groups)):
        optimizer = subject.build(target, base)
        optimizer.guard_buffers(net)
        torch.manual_seed(3)
        for _ in range(4):
            subject.step(optimizer, net.gnn, net.peer)
    expect_same(values(several), values(single), "the net in three groups")


@PROMISES.check()
def added_groups_take_the_defaults(subject: Subject) -> None:
    """Options that an added group does not name are those of the constructor."""
    net = Net()
    optimizer = subject.build([net.first.weight])
    optimizer.add_param_group({"params": [net.second.weight], "lr": 0.2})
    first, second = optimizer.param_groups
    expect(second["lr"] == 0.2, "the added group should keep its own lr")
    expect(first.keys() == second.keys(), "the added group should have the options of the first")
    for key in first.keys() - {"params", "lr"}:
        expect_same(second[key], first[key], f"option {key!r} of the added group")
    subject.step(optimizer, net.gnn, net.peer)


@PROMISES.check()
def named_parameters_are_taken(subject: Subject) -> None:
    """Names of parameters are kept for checkpoints."""
    net = Net()
    optimizer = subject.build(net.named_parameters())
    expect(optimizer.param_groups[0]["param_names"][:2] == ["unused", "first.weight"], "names should be kept")
    subject.step(optimizer, net.gnn, net.peer)


@PROMISES.check(applies=lambda subject: "rho" in subject.build([torch.ones(1, requires_grad=True)]).group_options)
def group_with_radius_zero_stays_in_every_pass(subject: Subject) -> None:
    """A group's own ``rho`` is used, and one below zero is refused."""
    net = Net(dropout=0.0)
    seen: list[tuple[bool, bool]] = []
    rest = [*net.statistics.parameters(), *net.second.parameters()]
    radii = [name for name in subject.build([net.unused]).group_options if name.startswith("rho")]
    still, moving = dict.fromkeys(radii, 0.0), dict.fromkeys(radii, 0.3)
    optimizer = subject.build([{"params": list(net.first.parameters()), **still}, {"params": rest, **moving}])
    for _ in range(3):
        before = values(net)

        def look(before: dict[str, Tensor] = before) -> tuple[bool, bool]:
            now = net.first.weight.detach(), net.second.weight.detach()
            return torch.equal(now[0], before["first.weight"]), torch.equal(now[1], before["second.weight"])

        subject.step(optimizer, spied(net.gnn, seen, look), spied(net.peer, seen, look))
    expect(all(first for first, _ in seen), "a group with rho=0 was moved for a pass")
    expect(not all(second for _, second in seen), "a group with rho=0.3 was never moved for a pass")
    expect_error(ValueError, "'rho'", lambda: subject.build([{"params": rest, "rho": -1.0}]))
    expect_error(ValueError, "'rho'", lambda: optimizer.add_param_group({"params": [net.unused], "rho": -1.0}))


@PROMISES.check()
def tied_weights_count_once(subject: Subject, base: str) -> None:
    """A weight that two layers share is one parameter."""

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
            self.first.weight = nn.Parameter(start.clone())
            self.second.weight = self.first.weight

    start = torch.arange(9, dtype=torch.float64).view(3, 3) / 20 + 0.5 * torch.eye(3, dtype=torch.float64)
    tied, single = Tied(), nn.Parameter(start.clone())
    x = torch.arange(6, dtype=torch.float64).view(2, 3) / 6

    def of_tied() -> Tensor:
        return tied.second(tied.first(x)).pow(2).sum(1)  # type: ignore[no-any-return]

    def of_single() -> Tensor:
        return (x @ single.T @ single.T).pow(2).sum(1)

    for target, gnn, peer in (
        (tied, of_tied, lambda: tied.first(x).pow(2).sum(1)),
        ([single], of_single, lambda: (x @ single.T).pow(2).sum(1)),
    ):
        optimizer = subject.build(target, base)
        torch.manual_seed(3)
        for _ in range(4):
            subject.step(optimizer, gnn, peer)
    expect_close(tied.first.weight.detach(), single.detach(), "the weight shared by two layers")


@PROMISES.check()
def zero_gradients_move_nothing(subject: Subject, base: str) -> None:
    """A loss without slope anywhere divides nothing by zero."""
    net = Net()
    before = weights(net)
    optimizer = subject.build(net, base, weight_decay=0.0, **subject.rule.at_rest)
    for _ in range(4):
        subject.step(optimizer, lambda: 0 * net.gnn(), lambda: 0 * net.peer())
    expect_same(weights(net), before, "weights whose gradient is zero")


@PROMISES.check()
def a_tensor_of_zero_gradient_stays_finite(subject: Subject, base: str) -> None:
    """One dead tensor among living ones does no harm, nor does one of no entries."""
    net, dead, empty = Net(), nn.Parameter(torch.zeros(2).double()), nn.Parameter(torch.zeros(0).double())
    optimizer = subject.build([*net.parameters(), dead, empty], base)
    for _ in range(4):
        subject.step(
            optimizer,
            lambda: net.gnn() + 0 * dead.sum() + empty.sum(),
            lambda: net.peer() + 0 * dead.sum() + empty.sum(),
        )
    expect(all(bool(p.isfinite().all()) for p in (*net.parameters(), dead)), "weights should be finite")


@PROMISES.check()
def gradients_that_come_and_go_are_zero_when_gone(subject: Subject) -> None:
    """A gradient that is missing in some passes counts as zero there."""
    params = [torch.tensor([[1.0, 2.0]], dtype=torch.float64, requires_grad=True) for _ in range(3)]
    dense = [p.detach().clone().requires_grad_() for p in params]
    options = {"lr": 0.02, **subject.rule.at_rest}
    if subject.has_base or subject.rule.rule == "sgd":
        options["momentum"] = 0.0
    elif "rho" in inspect.signature(subject.rule).parameters:
        options["rho"] = 0.0  # the norm of the ascent would tell the other parameters of the one that moved on
    for (a, b, c), is_dense in ((params, False), (dense, True)):
        optimizer = subject.build([a, b, c], "momentum", **options)
        torch.manual_seed(3)
        for t in range(6):
            losses = _Intermittent(a, b, c, t, is_dense)
            subject.step(optimizer, losses.gnn, losses.peer)
    expect(all(bool(p.isfinite().all()) for p in params), "weights should be finite")
    # Adam and its kin move on for a zero gradient and stay for a missing one; other parameters do not feel that.
    num_same = 3 if subject.has_base or subject.rule.rule == "sgd" else 1
    for one, other in list(zip(params, dense, strict=True))[:num_same]:
        expect_close(one.detach(), other.detach(), "a parameter, by whether a missing gradient is missing or zero")


@PROMISES.check(applies=lambda subject: "foreach" in subject.build(Net()).defaults)
def loops_of_the_base_agree(subject: Subject, base: str) -> None:
    """The base may work on all tensors at once or on one after the other."""
    together, one_by_one = (values(subject.train(5, base, foreach=foreach)[0]) for foreach in (True, False))
    for key, value in together.items():
        expect_close(one_by_one[key].double(), value.double(), f"'{key}' with foreach=False")


@PROMISES.check(dtype=(torch.bfloat16, torch.float32, torch.float64))
def every_precision_learns_and_keeps_its_type(subject: Subject, dtype: torch.dtype) -> None:
    """Weights and stored vectors keep their type, and the loss falls."""
    w = torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=dtype, requires_grad=True)
    optimizer = subject.build([w], lr=0.05)
    torch.manual_seed(3)
    for_all = [
        float(subject.step(optimizer, lambda: (w**2).flatten(), lambda: (w**2 + w**4).flatten())) for _ in range(10)
    ]
    expect(w.dtype == dtype, f"weights became {w.dtype}")
    expect(for_all[-2] < for_all[0], f"the loss should fall, and went from {for_all[0]:.3g} to {for_all[-2]:.3g}")
    stored = {key: v.dtype for key, v in optimizer.own.items() if isinstance(v, Tensor) and v.is_floating_point()}
    expect(set(stored.values()) <= {dtype}, f"stored vectors should be {dtype} (got {stored})")


@PROMISES.check()
def types_may_be_mixed(subject: Subject, base: str) -> None:
    """Parameters of different precision train together."""
    types = [torch.float64, torch.bfloat16, torch.float32]
    params = [torch.ones(2, i + 1, dtype=dtype, requires_grad=True) for i, dtype in enumerate(types)]
    optimizer = subject.build(params, base)

    def losses(power: int) -> Tensor:
        return torch.stack([p.pow(power).sum().double() for p in params])

    first = losses(2).sum()
    torch.manual_seed(3)
    for _ in range(4):
        subject.step(optimizer, lambda: losses(2), lambda: losses(4))
    expect([p.dtype for p in params] == types, "a parameter changed its type")
    expect(all(bool(p.isfinite().all()) for p in params), "weights should be finite")
    expect(not subject.has_backward or losses(2).sum() < first, "the loss should fall")


@PROMISES.check()
def complex_parameters_learn_or_are_refused(subject: Subject, base: str) -> None:
    """Complex weights work, or a ``TypeError`` says that they do not."""
    z = torch.tensor([[1 + 2j, -0.5 + 1j]], dtype=torch.complex128, requires_grad=True)

    def gnn() -> Tensor:
        return (z * (0.6 + 0.8j) - 1).abs().pow(2).flatten()

    start = gnn().sum().item()
    torch.manual_seed(3)
    try:
        optimizer = subject.build([z], base)
        for _ in range(10):
            subject.step(optimizer, gnn, lambda: z.abs().pow(2).flatten())
    except TypeError as error:
        expect("complex" in str(error), f"the refusal should name complex parameters, and says {str(error)!r}")
        return
    expect(bool(z.isfinite().all()), "complex weights should be finite")
    expect(not subject.has_backward or gnn().sum().item() < start, "the loss of complex weights should fall")


@dataclass(frozen=True)
class _Intermittent:
    """Losses of one step that reach two of three parameters from time to time only."""

    always: Tensor
    in_gnn: Tensor
    in_peer: Tensor
    step: int
    is_dense: bool
    """Whether a gradient that would be missing is zero instead."""

    def gnn(self) -> Tensor:
        rare = self.in_gnn.pow(2).sum(0) if self.step % 2 else 0.0
        return self.always.pow(4).sum(0) + rare + self._touch_all()

    def peer(self) -> Tensor:
        rare = self.in_peer.pow(2).sum(0) if self.step % 3 else 0.0
        return self.always.pow(2).sum(0) + rare + self._touch_all()

    def _touch_all(self) -> Tensor | float:
        return 0 * (self.in_gnn.sum() + self.in_peer.sum()) if self.is_dense else 0.0
