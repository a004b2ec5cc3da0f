"""Promises that every registered optimizer keeps; ``fgsam.testing`` has them for users' own classes too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from fgsam.contract import state
from fgsam.contract.check import Check
from fgsam.contract.subject import BASES, Net, Subject
from fgsam.engine.options import read_options
from fgsam.functional.ascent import sam_factor
from fgsam.optim.base import Counts, SharpnessAware
from fgsam.optim.fgsam_plus import FGSAMPlus
from fgsam.optim.sam import SAM
from fgsam.registry import OPTIMIZERS
from fgsam.testing import check_optimizer, checks_of, main
from tests.helpers import SHORTER
from tests.twins.optimizers import take_step

UNEVEN = {"asam", "esam", "ssam_fisher", "ssam_dynamic", "sassha", "m_sassha", "adahessian", "sophia_h"} | {
    "safe",
    "safe_plus",
    "magnitude_pruning",
    "iht",
    "admm_pruning",
}
"""Rules that scale, mask or draw entries one by one: a complex entry is one of them, its two parts would be two."""


def other_forms() -> Iterator[Any]:
    """Each rule with each value of an option of choices, of which the checks above take the default."""
    for name in sorted(OPTIMIZERS):
        for option in read_options(OPTIMIZERS.load(name), num_given=2).entries.values():
            choices = (True, False) if option.annotation is bool else get_args(option.annotation)
            for choice in choices:
                if isinstance(choice, str | bool) and choice != option.default and option.name != "nonfinite":
                    yield pytest.param(name, {option.name: choice}, id=f"{name}-{option.name}={choice}")


def promises() -> Iterator[Any]:
    """Each entry of the registry with each check."""
    for name in sorted(OPTIMIZERS):
        try:
            checks = checks_of(Subject(OPTIMIZERS.load(name)))
        except Exception as error:  # one entry that cannot even be made must not hide the others
            checks = [Check("can_be_made", lambda subject, error=error: pytest.fail(repr(error)))]
        for check in checks:
            yield pytest.param(name, check, id=f"{name}-{check.name}")


@pytest.mark.parametrize(("name", "check"), list(promises()))
def test_entry_keeps_its_promise(name: str, check: Check):
    rule = OPTIMIZERS.load(name)
    assert rule.rule == name
    check(Subject(rule, SHORTER.get(name, {})))


@pytest.mark.parametrize(("name", "options"), list(other_forms()))
def test_other_forms_leave_and_load_their_state_as_promised(name: str, options: dict[str, Any]):
    subject = Subject(OPTIMIZERS.load(name), {**SHORTER.get(name, {}), **options})
    for check in state.PROMISES.of(subject):
        check(subject)


@pytest.mark.parametrize("base", sorted(BASES))
@pytest.mark.parametrize("name", sorted(set(OPTIMIZERS) - UNEVEN))
def test_complex_parameters_move_like_pairs_of_real_ones(name, base):
    subject = Subject(OPTIMIZERS.load(name))
    start = torch.tensor([[1 + 2j, -0.5 + 1j]], dtype=torch.complex128)
    z, pairs = start.clone().requires_grad_(), torch.view_as_real(start).clone().requires_grad_()
    for target, w in ((z, lambda: z), (pairs, lambda: torch.view_as_complex(pairs))):
        optimizer = subject.build([target], base)
        torch.manual_seed(3)
        for _ in range(4):
            subject.step(
                optimizer,
                lambda w=w: ((w() * (0.6 + 0.8j) - 1).abs().pow(2) + w().abs().pow(4)).flatten(),
                lambda w=w: (w() - 1j).abs().pow(2).flatten(),
            )
    torch.testing.assert_close(torch.view_as_real(z.detach()), pairs.detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 37.0])
@pytest.mark.parametrize("name", ["sam", "fgsam", "fgsam_plus"])
def test_weights_move_by_the_radius_whatever_the_scale_of_the_loss(name, scale):
    net, seen = Net(dropout=0.0), []

    def watched(losses: Callable[[], Tensor]) -> Callable[[], Tensor]:
        def run() -> Tensor:
            seen.append(nn.utils.parameters_to_vector(net.parameters()).detach().clone())
            return scale * losses()

        return run

    take_step(Subject(OPTIMIZERS.load(name)).build(net, rho=0.3), watched(net.gnn), watched(net.peer))
    torch.testing.assert_close((seen[-1] - seen[0]).norm(), torch.tensor(0.3, dtype=torch.float64))
    unscaled = Net(dropout=0.0)
    params = list(unscaled.parameters())
    g = torch.autograd.grad(unscaled.gnn().mean(), params, allow_unused=True, materialize_grads=True)
    flat = torch.cat([one.flatten() for one in g])
    torch.testing.assert_close(seen[-1] - seen[0], 0.3 * flat / flat.norm(), rtol=1e-9, atol=1e-12)


# Each class below breaks one promise, and the checks must say which.


class DirtySecondPass(SAM):
    def direction(self, gnn, peer):
        g = gnn(clean=True)
        with self.displaced(g, sam_factor(g, self.options_of_params("rho"))):
            return gnn(clean=True)


class SubtractsInsteadOfRestoring(SAM):
    def direction(self, gnn, peer):
        g = gnn(clean=True)
        factor = sam_factor(g, self.options_of_params("rho"))
        with torch.no_grad():
            for p, move in zip(self._params(), g, strict=True):
                if move is not None:
                    p.add_(move * factor)
        g_s = gnn()
        with torch.no_grad():
            for p, move in zip(self._params(), g, strict=True):
                if move is not None:
                    p.sub_(move * factor)
        return g_s


class RebindsStorage(SAM):
    def after_step(self):
        for p in self._params():
            p.data = p.data.clone()


class DividesByZero(SAM):
    def direction(self, gnn, peer):
        g = gnn(clean=True)
        length = torch.stack([one.norm() for one in g if one is not None]).norm()
        with self.displaced(g, 0.05 / length):
            return gnn()


class DrawsFromTheGlobalGenerator(SAM):
    def step(self, closure, peer_closure=None):
        torch.rand(())
        return super().step(closure, peer_closure)


class ForgetsItsState(FGSAMPlus):
    def state_dict(self):
        state = super().state_dict()
        state["own"] = {key: v for key, v in state["own"].items() if not isinstance(v, Tensor)}
        return state


class ChangesStateInPlace(SAM):
    def direction(self, gnn, peer):
        self.own.setdefault("sum.1", torch.zeros_like(self._params()[1]))
        self.own["sum.1"] += 1
        return super().direction(gnn, peer)


class MovesFrozenParameters(SAM):
    def direction(self, gnn, peer):
        gnn(clean=True)
        with self.displaced([torch.ones_like(p) for p in self._params()], 0.01):
            return gnn()


class FillsMissingGradients(SAM):
    def direction(self, gnn, peer):
        g = super().direction(gnn, peer)
        return [torch.zeros_like(p) if one is None else one for p, one in zip(self._params(), g, strict=True)]


class UsesOneRadius(SAM):
    def direction(self, gnn, peer):
        g = gnn(clean=True)
        with self.displaced(g, sam_factor(g, [0.05] * len(g))):
            return gnn()


class WritesIntoLentGradients(SAM):
    def direction(self, gnn, peer):
        g = gnn(clean=True)
        g = [p.grad for p in self._params()] if any(p.grad is not None for p in self._params()) else g
        return [None if one is None else one.mul_(2) for one in g]


class Miscounts(SAM):
    def counts(self, num_queries):
        return Counts(3, 2), Counts(2, 2)


class LosesTheLoss(SAM):
    def step(self, closure, peer_closure=None):
        return super().step(closure, peer_closure) * 2


class PerGroup(SAM):
    def direction(self, gnn, peer):
        g = gnn(clean=True)
        sizes = [len(group["params"]) for group in self.param_groups]
        parts = [part.norm() if part is not None else torch.tensor(0.0) for part in g]
        factors = [
            0.05 / torch.stack([one.double() for one in part]).norm()
            for part in torch.split(torch.stack([one.double() for one in parts]), sizes)
            for _ in part
        ]
        with self.displaced(g, factors):
            return gnn()


@pytest.mark.parametrize(
    ("rule", "promise"),
    [
        (DirtySecondPass, "buffers_move_in_clean_passes_only"),
        (SubtractsInsteadOfRestoring, "no_learning_rate_leaves_every_bit"),
        (SubtractsInsteadOfRestoring, "a_closure_that_raises_leaves_no_trace"),
        (RebindsStorage, "storage_is_never_rebound"),
        (DividesByZero, "zero_gradients_move_nothing"),
        (DrawsFromTheGlobalGenerator, "random_state_stands"),
        (ForgetsItsState, "saved_and_reloaded_run_continues_exactly"),
        (ChangesStateInPlace, "leaves_no_trace"),
        (ChangesStateInPlace, "not_finite_changes_nothing"),
        (MovesFrozenParameters, "frozen_parameters_never_move"),
        (FillsMissingGradients, "no_pass_reaches_is_left_alone"),
        (UsesOneRadius, "group_with_radius_zero"),
        (UsesOneRadius, "neutral_setting_equals_the_base"),
        (Miscounts, "passes_are_as_many_as_stated"),
        (LosesTheLoss, "loss_of_the_first_pass"),
        (PerGroup, "one_group_equals_several"),
    ],
)
def test_a_broken_promise_is_found(rule: type[SharpnessAware], promise: str):
    with pytest.raises(AssertionError, match=rf"(?s){rule.__name__} breaks .*{promise}"):
        check_optimizer(rule, only=promise)


def test_the_number_of_checks_is_printed(capsys: pytest.CaptureFixture[str]):
    assert main(["sgd", f"{__name__}:Miscounts"]) == 1
    printed = capsys.readouterr().out
    assert f"{len(checks_of(Subject(OPTIMIZERS.load('sgd'))))} passed" in printed
    assert "breaks 1 of" in printed
    assert "stated as the longest" in printed
