"""Named checks, one for each promise and each setting in which it is tried."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

Body = Callable[..., None]

Subject = Any
"""What is put to the test; each family of themes has its own class."""


@dataclass(frozen=True)
class Check:
    """A promise in one setting.

    Args:
        name: The promise and the setting: ``"no_learning_rate_leaves_every_bit[adam]"``.
        body: Raises ``AssertionError`` if the promise is broken.
        setting: Arguments of the body beside the subject.
    """

    name: str
    body: Body
    setting: dict[str, Any] = field(default_factory=dict)

    def __call__(self, subject: Subject) -> None:
        """Put a subject to the test."""
        self.body(subject, **self.setting)


class Promises:
    """Checks of one theme, in the order in which they are written down."""

    def __init__(self) -> None:
        self._entries: list[tuple[Body, dict[str, Iterable[Any]], Callable[[Subject], bool]]] = []

    def check(
        self, *, applies: Callable[[Subject], bool] = lambda subject: True, **settings: Iterable[Any]
    ) -> Callable[[Body], Body]:
        """Add a function to the checks, once for each combination of settings.

        Args:
            applies: Whether a subject makes this promise at all.
            **settings: Values of an argument of the function. An argument ``base`` runs over the subject's bases.
        """

        def add(body: Body) -> Body:
            self._entries.append((body, settings, applies))
            return body

        return add

    def of(self, subject: Subject) -> list[Check]:
        """List the checks of a subject."""
        found = []
        for body, settings, applies in self._entries:
            if not applies(subject):
                continue
            if "base" in inspect.signature(body).parameters:
                settings = {"base": subject.bases, **settings}
            for chosen in itertools.product(*settings.values()):
                label = f"[{'-'.join(map(_word, chosen))}]" if chosen else ""
                found.append(Check(body.__name__ + label, body, dict(zip(settings, chosen, strict=True))))
        return found


def _word(value: Any) -> str:
    return getattr(value, "__name__", str(value).removeprefix("torch."))
