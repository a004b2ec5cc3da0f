"""The contract of all optimizers here: parameters, and functions that return a loss."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from fgsam.checks import check_choice, check_non_negative, check_not_cached, check_positive
from fgsam.functional.ascent import clipped
from fgsam.functional.trees import Factor, Grads, copy_each_, shift_
from fgsam.optim.backward import clear_gradients
from fgsam.optim.guards import Buffers
from fgsam.optim.passes import Pass, Passes
from fgsam.optim.ranks import DataParallel, LostRankError, Ranks, check_data_parallel
from fgsam.optim.scaling import Scaling, check_scaler, refuse_scaled_step

if TYPE_CHECKING:
    from fgsam.typing import Closure

ModelOrParams = nn.Module | Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]
"""A model, or whatever PyTorch's own optimizers take: tensors, named tensors, or groups."""

Nonfinite = Literal["raise", "skip", "allow"]
"""What to do with a step whose losses or gradients are not finite; to allow it saves the question."""

STATE_VERSION = 1


class Counts(NamedTuple):
    """Passes of one step."""

    forwards: int
    """Calls of the closure."""
    backwards: int
    """Gradients taken of what it returned."""
    peer: int = 0
    """Calls of the peer closure, each with one gradient."""
    products: int = 0
    """Products of the Hessian with a vector."""
    clean: int = 1
    """Passes that move the model's buffers."""


class SharpnessAware(torch.optim.Optimizer, ABC):
    """Base of every update rule: runs the passes a rule asks for, and lets a base optimizer make the step.

    A subclass gives one method, ``direction``, that reads like its algorithm: it calls the passes, moves the weights
    with ``displaced`` and returns the vector that the base optimizer uses as the gradient. Everything else is here:

    - Before each pass the gradients are cleared. A closure may call ``backward`` itself or leave it to the optimizer;
      it may return a scalar, or one value a query, whose mean is then minimised.
    - A closure that is a generator yields one such loss for each micro-episode. Each is differentiated before the next
      is computed, and the mean over micro-episodes of their own means is minimised. Rules that weigh single queries
      hold the graphs of all of them, and see their queries as one vector.
    - ``torch.autocast`` may stand within the closure or around ``step``: closures see it, nothing else does.
    - Weights are moved in place and come back bit for bit, buffers move in clean passes only, and all passes of a step
      draw the same random numbers; afterwards the global random state stands where the first pass left it. All of this
      also holds when a closure raises.
    - A parameter that no pass reaches is left alone, as the base optimizer alone would do.
    - Learning rate schedulers, hooks, ``state_dict``, ``deepcopy`` and ``pickle`` work as for any PyTorch optimizer.
      Weight decay belongs to the base step, at the unmoved weights.
    - Nothing in a step but the question whether it is finite waits for the device, except where a rule says so.

    Args:
        model_or_params: The model, or its parameters or parameter groups. Buffers can be guarded only if the model is
            given; with bare parameters call ``guard_buffers(model)``, or batch statistics move in every pass.
        base: Class of the optimizer that makes the real step from a gradient.
        nonfinite: For a loss or gradient that is not finite: ``"raise"`` a ``FloatingPointError``, or ``"skip"`` the
            step and count it in ``num_skipped``. Weights, buffers and stored vectors stay as they were either way.
            ``"allow"`` asks nothing, so that the host never waits for the device, and takes the step whatever it is.
        scaler: Scales the loss of every pass for half precision, and has its ``update`` called once a step: call no
            method of it but ``state_dict``, and ``scale`` in closures that call ``backward`` themselves. A step in
            which some pass overflows is skipped, whatever ``nonfinite`` says, and lowers the scale.
        max_norm: Largest length of the direction that the base optimizer takes for the gradient, over all parameters;
            a longer one is scaled down as by ``torch.nn.utils.clip_grad_norm_``.
        data_parallel: Averages over the ranks of a process group, without any wrapper around the model. ``"global"``
            averages every pass, so that ranks with equally many queries take the step of their joint batch, and even
            the rule's own random numbers are those of rank 0. ``"per_rank"`` lets each rank run the rule on its own
            loss and averages what the base optimizer gets. Weights begin as those of rank 0; buffers become rank 0's
            after every step, if the model is known. What is not finite on one rank, or raises in its closures, ends
            the step on all.
        process_group: The group, by default that of all processes. It is not copied with the optimizer, which then
            uses the default.
        group_options: Options of the rule that a parameter group may set for itself, with their defaults. They are kept
            in ``defaults`` and ``param_groups`` and are at least 0.
        **base_options: Arguments of the base optimizer: ``lr``, ``weight_decay``, ...

    Attributes:
        base_optimizer: The optimizer that makes the real step.
        own: The rule's own state: plain numbers, and tensors under ``name.index_of_parameter``.

    Raises:
        TypeError: If ``base`` is not a class of optimizers, or ``scaler`` no ``GradScaler``.
        ValueError: If the base optimizer needs a closure of its own, or has an option of the same name as the rule; if
            ``max_norm`` is not positive; if ``scaler`` or ``data_parallel`` does not suit the rule or the model.
        RuntimeError: If ``data_parallel`` is given before there is a process group.

    Example:
        >>> class Descent(SharpnessAware):
        ...     rule = "descent"
        ...
        ...     def direction(self, gnn, peer):
        ...         return gnn(clean=True)
        >>> w = torch.tensor([1.0], requires_grad=True)
        >>> optimizer = Descent([w], torch.optim.SGD, lr=0.25)
        >>> optimizer.step(lambda: (w**2).sum())
        tensor(1.)
        >>> w.detach()
        tensor([0.5000])
    """

    rule: ClassVar[str]
    """Name in results and checkpoints."""
    peer: ClassVar[Literal["required", "refused"]] = "refused"
    """Whether ``step`` takes a ``peer_closure``."""
    needs_vectors: ClassVar[bool] = False
    """Whether the closure must return one value a query."""
    needs_graph: ClassVar[bool] = False
    """Whether the closure must leave ``backward`` to the optimizer, which differentiates twice."""
    neutral: ClassVar[dict[str, float] | None] = None
    """Options that make the rule equal to its base optimizer, ``None`` if there are none."""
    at_rest: ClassVar[dict[str, float]] = {}
    """Options under which nothing but gradients moves the weights, for rules that move them by themselves, too."""
    passes: ClassVar[str]
    """Forward and backward passes a step, in words."""
    buffers_move_at: ClassVar[Literal["weights", "moved weights"]] = "weights"
    """Where the clean pass runs."""
    _step_supports_amp_scaling = True  # or torch.amp.GradScaler.step would fail before it reaches ``step``, which tells

    def __init__(
        self,
        model_or_params: ModelOrParams,
        base: type[torch.optim.Optimizer] = torch.optim.Adam,
        *,
        nonfinite: Nonfinite = "raise",
        scaler: torch.amp.GradScaler | None = None,
        max_norm: float | None = None,
        data_parallel: DataParallel | None = None,
        process_group: Any = None,
        group_options: Mapping[str, float] | None = None,
        **base_options: Any,
    ) -> None:
        check_choice(("raise", "skip", "allow"), nonfinite=nonfinite)
        if nonfinite == "allow" and (scaler is not None or data_parallel is not None):
            raise ValueError(
                "Expected nonfinite='raise' or 'skip' with 'scaler' or 'data_parallel', which have to know whether a "
                "step is finite (got nonfinite='allow')"
            )
        if max_norm is not None:
            check_positive(max_norm=max_norm)
        _check_base(base)
        self.nonfinite = nonfinite
        self.scaler = scaler
        self.max_norm = max_norm
        self.data_parallel = data_parallel
        self.model = model_or_params if isinstance(model_or_params, nn.Module) else None
        if self.model is not None and self.peer == "required":
            check_not_cached(self.model)
        check_data_parallel(data_parallel, self.model, needs_vectors=self.needs_vectors, needs_graph=self.needs_graph)
        params = model_or_params.parameters() if isinstance(model_or_params, nn.Module) else model_or_params
        self.own: dict[str, Any] = {"num_calls": 0, "num_skipped": 0}
        self._run: Passes | None = None
        self.group_options = dict(group_options or {})
        check_non_negative(**self.group_options)
        self.base_optimizer = base(params, **base_options)
        shared = sorted(self.group_options.keys() & self.base_optimizer.defaults.keys())
        if shared:
            raise ValueError(
                f"Expected 'base' to have no option of the same name as the rule (got base={base.__name__}, "
                f"{shared[0]!r} in both). Choose another base optimizer."
            )
        self.base_optimizer.defaults.update(self.group_options)
        for group in self.base_optimizer.param_groups:
            self._complete(group)
        self.__setstate__({})
        check_scaler(scaler, self._params())
        self._process_group: Any = process_group
        ranks = self._ranks()
        if ranks is not None:
            ranks.copy_from_first_([*self._params(), *(() if self.model is None else self.model.buffers())])

    @abstractmethod
    def direction(self, gnn: Pass, peer: Pass) -> Grads:
        """Return what the base optimizer is to use as the gradient.

        Args:
            gnn: Runs the closure.
            peer: Runs the peer closure, where the rule requires one.
        """

    def counts(self, num_queries: int) -> tuple[Counts, Counts]:
        """Count the passes of the longest and of the shortest step; by default two passes, as in most rules.

        Args:
            num_queries: Length of the vector that the closure returns.
        """
        return Counts(2, 2), Counts(2, 2)

    @torch._disable_dynamo  # the step runs as it is; a compiled model in a closure stays compiled
    def step(self, closure: Closure | None = None, peer_closure: Closure | None = None) -> Tensor:  # type: ignore[override]
        """Take one step.

        Args:
            closure: Takes no arguments and returns the loss of the GNN pass: a scalar, or one value a query; or it
                yields one of these for each micro-episode. It may call ``backward`` itself.
            peer_closure: The same for the peer pass, for rules with ``peer = "required"`` only.

        Returns:
            The loss of the first pass, detached, without dimensions; the mean over ranks where these share each pass.

        Raises:
            TypeError: If a closure is missing, not callable or not wanted.
            ValueError: If a closure yields nothing.
            RuntimeError: If a loss depends on none of the parameters, or another rank has raised or is lost.
            FloatingPointError: If a loss or gradient is not finite and ``nonfinite="raise"``.
        """
        refuse_scaled_step(self)
        self._check_closures(closure, peer_closure)
        assert closure is not None
        params, ranks = self._params(), self._ranks()
        self._run = run = Passes(
            params,
            Buffers(self.model),
            closure,
            peer_closure,
            scaling=Scaling(self.scaler, params[0].device),
            ranks=ranks,
            is_shared=self.data_parallel == "global",
        )
        own, taken = dict(self.own), False
        try:
            direction = self._finite_direction(run)
            if direction is not None:
                if run.joint is not None and not run.is_shared:
                    direction = run.joint.average_vector(direction)
                    self.share(run.joint.average_vector)
                self._base_step(params, direction if self.max_norm is None else clipped(direction, self.max_norm))
                with torch.no_grad():
                    self.after_step()
                if ranks is not None and self.model is not None:
                    ranks.copy_from_first_(self.model.buffers())
                taken = True
        finally:
            run.close()
            self._run = None
            if not taken:
                self.own = own
                run.restore_buffers()
                clear_gradients(params)
        self.own["num_calls"] += 1
        self.own["num_skipped"] += not taken
        return run.loss

    def after_step(self) -> None:
        """Act on the new weights, right after the base step and without a graph; most rules have nothing to do."""

    def share(self, average: Callable[[Grads], Grads]) -> None:
        """Average over ranks what the step uses beside the direction; most rules have nothing to do.

        Called where each rank runs the rule on its own loss, so that the weights stay the same on all of them.
        """

    @contextmanager
    def displaced(self, direction: Grads, factor: Factor | float = 1.0) -> Iterator[None]:
        """Move the weights by ``factor * direction``, and put their exact values back on exit.

        Args:
            direction: One tensor for each parameter, ``None`` for a parameter that stays.
            factor: A number, a tensor without dimensions, or a list with one tensor for each parameter.
        """
        if isinstance(factor, float | int):
            factor = torch.tensor(factor, dtype=torch.float64)  # else it would be rounded to the default type
        factors = factor if isinstance(factor, list) else [factor] * len(direction)
        pairs = zip(self._params(), direction, factors, strict=True)
        moves = [(p.detach(), move, f) for p, move, f in pairs if move is not None and f is not None]
        moved = [p for p, _, _ in moves]
        saved = self._scratch_like(moved)
        copy_each_(saved, moved)
        try:
            shift_(moved, [move for _, move, _ in moves], [f for _, _, f in moves])
            yield
        finally:
            copy_each_(moved, saved)
            self._scratch.append(saved)

    def generator(self, *keys: int) -> torch.Generator:
        """Make the source of a rule's own random numbers in this step, on the CPU; for use within ``direction``.

        Its numbers depend on the global random state before the step, the number of calls and ``keys``; drawing from it
        moves nothing else, and a run that is taken up again draws the same.
        """
        assert self._run is not None, "generator() serves direction() only"
        return self._run.generator(self.num_calls, *keys)

    @contextmanager
    def deployed(self) -> Iterator[None]:
        """Hold the weights that training would end with now; they differ from the present ones for some rules only.

        Validation and the stored weights use these: a rule that ends with a projection onto sparse networks is judged
        by projected weights.
        """
        yield

    def options_of_params(self, name: str) -> list[float]:
        """List a group option once for each parameter."""
        return [group[name] for group in self.param_groups for _ in group["params"]]

    def keep(self, name: str, grads: Grads) -> None:
        """Store a vector in the rule's own state, in place of the one of the same name."""
        for key in [key for key in self.own if key.startswith(f"{name}.")]:
            del self.own[key]
        self.own.update({f"{name}.{i}": grad for i, grad in enumerate(grads) if grad is not None})

    def kept(self, name: str) -> Grads:
        """Return a stored vector; parameters without an entry have ``None``."""
        return [self.own.get(f"{name}.{i}") for i in range(len(self._params()))]

    def guard_buffers(self, model: nn.Module) -> None:
        """Guard the buffers of a model whose bare parameters or groups were given to the constructor."""
        self.model = model

    @property
    def num_calls(self) -> int:
        """Steps asked for, skipped ones included."""
        return int(self.own["num_calls"])

    @property
    def num_skipped(self) -> int:
        """Steps not taken because a loss or gradient was not finite."""
        return int(self.own["num_skipped"])

    # The groups, defaults and state are the base optimizer's, also after it has loaded new ones: a scheduler that
    # holds this object always reaches the values that the step uses.

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The base optimizer's parameter groups."""
        return self.base_optimizer.param_groups

    @param_groups.setter
    def param_groups(self, value: list[dict[str, Any]]) -> None:
        self.base_optimizer.param_groups = value

    @property
    def defaults(self) -> dict[str, Any]:
        """The base optimizer's defaults, with the rule's group options."""
        return self.base_optimizer.defaults

    @defaults.setter
    def defaults(self, value: dict[str, Any]) -> None:
        self.base_optimizer.defaults = value

    @property
    def state(self) -> defaultdict[Tensor, Any]:
        """The base optimizer's state."""
        return self.base_optimizer.state

    @state.setter
    def state(self, value: defaultdict[Tensor, Any]) -> None:
        self.base_optimizer.state = value

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base optimizer; options it does not name take the defaults."""
        check_non_negative(**{name: param_group.get(name, 0.0) for name in self.group_options})
        self.base_optimizer.add_param_group(param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients; ``step`` does so by itself before every pass."""
        self.base_optimizer.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Copy the whole state: ``version``, ``rule``, ``base`` (the base optimizer's) and ``own`` (the rule's).

        The result holds tensors and plain values only, shares no memory with the optimizer, and survives
        ``torch.load(..., weights_only=True)``.
        """
        for before in self._optimizer_state_dict_pre_hooks.values():
            before(self)
        base = copy.deepcopy(self.base_optimizer.state_dict())
        state = {"version": STATE_VERSION, "rule": self.rule, "base": base, "own": _copy_own(self.own)}
        for after in self._optimizer_state_dict_post_hooks.values():
            changed = after(self, state)
            state = state if changed is None else changed
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what ``state_dict`` returned, so that training continues as if never stopped.

        Raises:
            ValueError: If the state is of another rule, version or set of parameters. Nothing is changed then.
        """
        for before in self._optimizer_load_state_dict_pre_hooks.values():
            changed = before(self, state_dict)
            state_dict = state_dict if changed is None else changed
        self._check_state(state_dict)
        self.base_optimizer.load_state_dict(copy.deepcopy(state_dict["base"]))
        devices = [p.device for p in self._params()]
        own = _copy_own(state_dict["own"])
        self.own = {key: v.to(devices[_index(key)]) if isinstance(v, Tensor) else v for key, v in own.items()}
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    def __getstate__(self) -> dict[str, Any]:
        # Hooks and a scheduler's patched step stay behind, as in PyTorch.
        return {key: v for key, v in self.__dict__.items() if not key.startswith("_") and key != "step"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._run = None
        self._process_group = None
        self._scratch: list[list[Tensor]] = []
        super().__setstate__({})
        # Shared, so that a hook registered on either of the two fires, once.
        self.base_optimizer._optimizer_step_pre_hooks = self._optimizer_step_pre_hooks
        self.base_optimizer._optimizer_step_post_hooks = self._optimizer_step_post_hooks

    def _scratch_like(self, tensors: list[Tensor]) -> list[Tensor]:
        # Memory for the copy is kept from step to step: to get it anew costs about as much as to fill it.
        if self._scratch:
            kept = self._scratch.pop()
            if [(t.shape, t.dtype, t.device) for t in kept] == [(t.shape, t.dtype, t.device) for t in tensors]:
                return kept
            self._scratch.clear()
        return [torch.empty_like(t) for t in tensors]

    def _params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def _ranks(self) -> Ranks | None:
        return None if self.data_parallel is None else Ranks(self._process_group)

    def _complete(self, group: dict[str, Any]) -> None:
        for name, value in self.group_options.items():
            group.setdefault(name, value)
            check_non_negative(**{name: group[name]})

    def _finite_direction(self, run: Passes) -> Grads | None:
        """Return the direction, or ``None`` if the step is to be skipped."""
        cause: Exception | None = None
        direction: Grads | None = None
        try:
            direction = self.direction(run.gnn, run.peer)
        except LostRankError:
            raise
        except Exception as error:
            # At weights moved by a gradient that is not finite, a closure may fail in words that hide the cause.
            cause = error
        if self.nonfinite == "allow":
            if cause is not None:
                raise cause
            return direction
        is_finite = run.agree(direction, cause)
        run.scaling.update(is_finite=is_finite)
        if is_finite:
            return direction
        if self.nonfinite == "raise" and not run.scaling.is_on:
            raise FloatingPointError(
                f"Expected finite losses and gradients (got {run.report()}). Weights and state are as before the step. "
                "Lower lr or rho, or pass nonfinite='skip'."
            ) from cause
        return None

    def _base_step(self, params: list[Tensor], direction: Grads) -> None:
        for p, grad in zip(params, direction, strict=True):
            p.grad = grad
        step: Any = type(self.base_optimizer).step
        # Without PyTorch's wrapper, since hooks already fire around this optimizer's own step.
        bare: Callable[..., object] = step.__wrapped__ if getattr(step, "hooked", False) else step
        bare(self.base_optimizer)

    def _check_closures(self, closure: object, peer_closure: object) -> None:
        if not callable(closure):
            raise TypeError(
                f"Expected 'closure' to be a function that returns the loss (got {closure!r}). "
                "Call optimizer.step(lambda: loss_function(model(...)))."
            )
        if self.peer == "required" and not callable(peer_closure):
            raise TypeError(
                f"Expected 'peer_closure' for rule '{self.rule}' (got {peer_closure!r}). Pass the loss of the same "
                "model without message passing: optimizer.step(closure, peer_closure)."
            )
        if self.peer == "refused" and peer_closure is not None:
            raise TypeError(
                f"Expected no 'peer_closure' for rule '{self.rule}', which runs no peer pass (got {peer_closure!r}). "
                "Call optimizer.step(closure)."
            )

    def _check_state(self, state: Mapping[str, Any]) -> None:
        if not isinstance(state, Mapping) or not {"version", "rule", "base", "own"} <= set(state):
            raise ValueError(
                f"Expected a state with 'version', 'rule', 'base' and 'own' (got {sorted(map(str, state))}). Load the "
                "state of a plain PyTorch optimizer with optimizer.base_optimizer.load_state_dict(state)."
            )
        if state["version"] != STATE_VERSION:
            raise ValueError(
                f"Expected a state of version {STATE_VERSION} (got version {state['version']}). "
                "Load it with the release of fgsam that wrote it."
            )
        if state["rule"] != self.rule:
            raise ValueError(
                f"Expected a state of rule '{self.rule}' (got '{state['rule']}'). Build the optimizer that wrote it."
            )
        shapes = [p.shape for p in self._params()]
        for key, value in state["own"].items():
            if isinstance(value, Tensor) and (_index(key) >= len(shapes) or value.shape != shapes[_index(key)]):
                raise ValueError(
                    f"Expected stored vectors to have the shapes of the parameters (got '{key}' of shape "
                    f"{tuple(value.shape)}). Build the optimizer for the model that wrote the state."
                )


def _index(key: str) -> int:
    return int(key.rpartition(".")[2])


def _copy_own(own: Mapping[str, Any]) -> dict[str, Any]:
    return {key: v.detach().clone() if isinstance(v, Tensor) else v for key, v in own.items()}


def _check_base(base: object) -> None:
    if not (isinstance(base, type) and issubclass(base, torch.optim.Optimizer)):
        raise TypeError(
            f"Expected 'base' to be a class of optimizers (got {base!r}). Pass torch.optim.Adam itself, and its "
            "arguments as keywords: lr=0.01."
        )
    if issubclass(base, (torch.optim.LBFGS, SharpnessAware)):
        raise ValueError(
            f"Expected 'base' to make its step from gradients alone (got base={base.__name__}). "
            "Use torch.optim.Adam, AdamW or SGD."
        )
