"""Ten steps beside ``pytorch_optimizer``: where it implements the same rule rightly, and where it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fgsam.registry import OPTIMIZERS
from tests.twins.optimizers import LinearNet, relative_error

outside = pytest.importorskip("pytorch_optimizer")

BASES = [(torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}), (torch.optim.AdamW, {"lr": 0.01})]
every_base = pytest.mark.parametrize(("base", "options"), BASES, ids=["momentum", "adamw"])


@pytest.fixture
def precise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give their rules a norm in the type of the gradients; theirs is summed in float32 whatever these are."""

    def squared_norm(groups: list[dict[str, Any]], weight_adaptive: bool = False, **_: Any) -> Tensor:
        pairs = [(p, group.get("adaptive", False)) for group in groups for p in group["params"] if p.grad is not None]
        parts = [(p.grad * p.abs() if weight_adaptive and adaptive else p.grad).square().sum() for p, adaptive in pairs]
        return torch.stack(parts).sum().reshape(1)

    monkeypatch.setattr("pytorch_optimizer.optimizer.sam.get_global_gradient_norm", squared_norm)


def ours(name: str, params: list[Tensor], loss: Callable[[], Tensor], num_steps: int = 10, **options: Any) -> list[Any]:
    optimizer = OPTIMIZERS.load(name)(params, **options)
    for _ in range(num_steps):
        optimizer.step(loss)
    return [p.detach().numpy() for p in params]


def theirs(
    params: list[Tensor], loss: Callable[[], Tensor], optimizer: Any, num_steps: int = 10
) -> tuple[list[Any], int]:
    """Weights after the steps, and the number of backward passes."""
    num_backwards = 0

    def closure() -> Tensor:
        nonlocal num_backwards
        num_backwards += 1
        optimizer.zero_grad()
        with torch.enable_grad():
            value = loss()
            value.backward()
        return value

    is_first_pass_outside = not isinstance(optimizer, outside.GSAM | outside.WSAM)
    for _ in range(num_steps):
        if is_first_pass_outside:
            closure()
        optimizer.step((lambda: (None, closure())) if isinstance(optimizer, outside.GSAM) else closure)
    return [p.detach().numpy() for p in params], num_backwards


def error_of(
    name: str, options: dict[str, Any], make: Callable[[list[Tensor]], Any], num_tensors: int = 3, num_steps: int = 10
) -> float:
    """Relative difference of the weights after some steps on the linear net, the first tensors of which are trained."""
    found = []
    for is_ours in (True, False):
        net = LinearNet()
        params = net.tensors()
        loss, trained = net.closures(params)[0], params[:num_tensors]
        if is_ours:
            found.append(ours(name, trained, loss, num_steps, **options))
        else:
            found.append(theirs(trained, loss, make(trained), num_steps)[0])
    return relative_error(*found)


@pytest.mark.usefixtures("precise")
@every_base
def test_sam_agrees(base, options):
    error = error_of(
        "sam",
        {"base": base, "rho": 0.3, **options},
        lambda p: outside.SAM(p, base, rho=0.3, perturb_eps=0.0, **options),
    )
    assert error < 1e-13


def test_sam_as_released_there_has_a_norm_of_single_precision():
    options = {"lr": 0.1}

    def make(params: list[Tensor]) -> Any:
        return outside.SAM(params, torch.optim.SGD, rho=0.3, perturb_eps=0.0, **options)

    assert 1e-12 < error_of("sam", {"base": torch.optim.SGD, "rho": 0.3, **options}, make) < 1e-6


@pytest.mark.usefixtures("precise")
@every_base
def test_asam_agrees_on_weight_matrices_and_scales_biases_where_the_paper_does_not(base, options):
    mine = {"base": base, "rho": 0.5, "eta": 0.0, **options}

    def make(params: list[Tensor]) -> Any:
        return outside.SAM(params, base, rho=0.5, adaptive=True, perturb_eps=0.0, **options)

    assert error_of("asam", mine, make, num_tensors=2) < 1e-13
    assert error_of("asam", mine, make, num_tensors=3) > 1e-4


@pytest.mark.usefixtures("precise")
@every_base
def test_gsam_agrees(base, options):
    class Constant:
        def step(self) -> float:
            return 0.3

    def make(params: list[Tensor]) -> Any:
        return outside.GSAM(params, base(params, **options), nn.Module(), Constant(), alpha=0.4, perturb_eps=0.0)

    assert error_of("gsam", {"base": base, "rho": 0.3, "alpha": 0.4, **options}, make) < 1e-13


@pytest.mark.usefixtures("precise")
@every_base
@pytest.mark.parametrize("decoupled", [True, False])
def test_wsam_agrees(base, options, decoupled):
    def make(params: list[Tensor]) -> Any:
        return outside.WSAM(nn.Module(), params, base, rho=0.3, gamma=0.8, decouple=decoupled, eps=0.0, **options)

    mine = {"base": base, "rho": 0.3, "gamma": 0.8, "decoupled": decoupled, **options}
    assert error_of("wsam", mine, make) < 1e-12


@pytest.mark.usefixtures("precise")
@every_base
def test_friendly_sam_is_the_form_of_the_released_code_and_not_the_paper_s(base, options):
    def make(params: list[Tensor]) -> Any:
        return outside.FriendlySAM(params, base, rho=0.3, sigma=1.0, lmbda=0.9, perturb_eps=0.0, **options)

    mine = {"base": base, "rho": 0.3, "sigma": 1.0, "decay": 0.9, **options}
    assert error_of("friendly_sam", {**mine, "form": "code"}, make) < 1e-12
    assert error_of("friendly_sam", {**mine, "form": "paper"}, make) > 1e-4


def test_looksam_agrees_for_one_tensor_and_projects_tensor_by_tensor_for_more():
    options = {"lr": 0.1}

    def make(params: list[Tensor]) -> Any:
        return outside.LookSAM(params, torch.optim.SGD, rho=0.3, k=4, alpha=0.5, perturb_eps=0.0, **options)

    mine = {"base": torch.optim.SGD, "rho": 0.3, "refresh_every": 4, "alpha": 0.5, **options}
    assert error_of("looksam", mine, make, num_tensors=1) < 1e-7  # it adds 1e-8 to the length of the stored vector
    assert error_of("looksam", mine, make, num_tensors=3) > 1e-4


def test_looksam_runs_two_backward_passes_in_every_step_there():
    net = LinearNet()
    params = net.tensors()
    rival = outside.LookSAM(params, torch.optim.SGD, k=5, lr=0.1)
    assert theirs(params, net.closures(params)[0], rival)[1] == 20
    optimizer = OPTIMIZERS.load("looksam")(params, torch.optim.SGD, refresh_every=5, lr=0.1)
    longest, shortest = optimizer.counts(8)
    assert (longest.backwards, shortest.backwards) == (2, 1)


def diagonal_quadratic() -> tuple[Tensor, Callable[[], Tensor], Tensor]:
    """Weights, loss, and the Hessian's diagonal, which one draw of signs finds exactly."""
    curvature = torch.tensor([0.5, 2.0, 3.0, 0.1], dtype=torch.float64)
    w = torch.tensor([1.0, -2.0, 0.3, 4.0], dtype=torch.float64, requires_grad=True)
    return w, lambda: (curvature * w**2).sum() / 2, curvature


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("hessian_every", [1, 3])
def test_adahessian_agrees_where_the_curvature_is_measured_in_every_step(hessian_every, weight_decay):
    options = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-4, "weight_decay": weight_decay}
    w, loss, _ = diagonal_quadratic()
    found = ours("adahessian", [w], loss, averaging="none", hessian_every=hessian_every, **options)
    v, loss, curvature = diagonal_quadratic()
    rival = outside.AdaHessian([v], update_period=hessian_every, **options)
    for t in range(10):
        rival.zero_grad()
        loss().backward()
        # Handed over, for its own estimate draws from the global generator.
        rival.step(hessian=[curvature.clone()] if t % hessian_every == 0 else None)
    error = relative_error(found, [v.detach().numpy()])
    # It divides by the bias correction of the number of steps, not of measurements.
    assert error < 1e-13 if hessian_every == 1 else error > 1e-4


def test_sophia_agrees_where_its_bound_is_one():
    w, loss, curvature = diagonal_quadratic()
    rule = OPTIMIZERS.load("sophia_h")

    class WithoutChance(rule):
        def probe(self, params, generator):
            return [torch.ones_like(p) for p in params]

    options = {"lr": 0.05, "betas": (0.96, 0.99), "eps": 1e-12}
    optimizer = WithoutChance([w], gamma=1.0, hessian_every=3, weight_decay=0.0, **options)
    v, rival_loss, _ = diagonal_quadratic()
    rival = outside.SophiaH([v], update_period=3, p=1.0, weight_decay=0.0, **options)
    for t in range(10):
        optimizer.step(loss)
        rival.zero_grad()
        rival_loss().backward()
        rival.step(hessian=[curvature.clone()] if t % 3 == 0 else None)
    assert relative_error([w.detach().numpy()], [v.detach().numpy()]) < 1e-13
