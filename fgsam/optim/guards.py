"""What a step must leave as it found it: buffers, the global random state and autocast."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

SavedBuffers = list[tuple[nn.Module, str, Tensor | None, Tensor | None]]
"""Owner, name, the buffer itself and a copy of its values."""


class Buffers:
    """Copies of a model's buffers, to put back after passes that must not move them.

    Args:
        model: The model, or ``None`` to guard nothing. A model without buffers costs one walk over its modules.
    """

    def __init__(self, model: nn.Module | None) -> None:
        modules = () if model is None else model.modules()
        self._owners = [module for module in modules if module._buffers]

    def save(self) -> SavedBuffers:
        """Copy the values of all buffers."""
        saved: SavedBuffers = []
        for owner in self._owners:
            for name, buffer in owner._buffers.items():
                saved.append((owner, name, buffer, None if buffer is None else buffer.detach().clone()))
        return saved

    @staticmethod
    @torch.no_grad()
    def restore(saved: SavedBuffers) -> None:
        """Put the saved tensors back into their places, and the saved values back into them."""
        for owner, name, buffer, values in saved:
            if buffer is not None and values is not None:
                buffer.copy_(values)
            owner._buffers[name] = buffer


class RandomState:
    """Gives every pass of a step the same random numbers.

    The global state is read when the object is made and set again before the second and every later pass, so that
    passes over the same rows share their dropout mask. ``close`` leaves it where the first pass left it.

    Args:
        devices: Devices that the passes draw on, beside the CPU.
    """

    def __init__(self, devices: Iterable[torch.device] = ()) -> None:
        self._devices = [device for device in devices if device.type not in ("cpu", "meta")]
        self._states = self._read()
        self._after_first: list[Tensor] = []
        self._num_passes = 0

    @property
    def start(self) -> Tensor:
        """State of the CPU's generator before the first pass, bytes, shape ``[size]``."""
        return self._states[0]

    def begin_pass(self) -> None:
        """Set the state for the next pass."""
        if self._num_passes == 1:
            self._after_first = self._read()
        if self._num_passes > 0:
            self._write(self._states)
        self._num_passes += 1

    def close(self) -> None:
        """Leave the state where the first pass left it."""
        if self._num_passes > 1:
            self._write(self._after_first)

    def _read(self) -> list[Tensor]:
        return [torch.get_rng_state(), *(_module(device).get_rng_state(*_index(device)) for device in self._devices)]

    def _write(self, states: list[Tensor]) -> None:
        torch.set_rng_state(states[0])
        for device, state in zip(self._devices, states[1:], strict=True):
            _module(device).set_rng_state(state, *_index(device))


class Autocast:
    """Gives closures the autocast that surrounds a step, and everything else in the step none.

    A closure that stands still between two of its losses finds on its return the autocast that it had left on.

    Args:
        devices: Devices of the passes.
    """

    def __init__(self, devices: Iterable[torch.device] = ()) -> None:
        kinds = {"cpu", *(device.type for device in devices)}
        self._kinds = [kind for kind in sorted(kinds) if torch.amp.is_autocast_available(kind)]
        self._outside = self._inside = self._read()

    def begin_pass(self) -> None:
        """Forget copies of the weights in lower precision: they may be of other weights, or have no graph."""
        torch.clear_autocast_cache()
        self._inside = self._outside

    @contextmanager
    def within_closure(self) -> Iterator[None]:
        """Turn on what the closure is to see."""
        self._write(self._inside)
        try:
            yield
        finally:
            self._inside = self._read()
            self._write([(False, dtype) for _, dtype in self._outside])

    def close(self) -> None:
        """Leave autocast as the step found it, without the copies that the last pass made of its weights."""
        torch.clear_autocast_cache()
        self._write(self._outside)

    def _read(self) -> list[tuple[bool, torch.dtype]]:
        return [(torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in self._kinds]

    def _write(self, states: list[tuple[bool, torch.dtype]]) -> None:
        for kind, (is_on, dtype) in zip(self._kinds, states, strict=True):
            torch.set_autocast_enabled(kind, is_on)
            torch.set_autocast_dtype(kind, dtype)


def _module(device: torch.device) -> Any:
    return torch.get_device_module(device)


def _index(device: torch.device) -> tuple[torch.device, ...]:
    # Apple's backend has a single device, and its functions take none.
    return () if device.type == "mps" else (device,)
