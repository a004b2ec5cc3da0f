"""The contract of all optimizers, for tests of one's own.

``python -m fgsam.testing`` puts every registered optimizer to the test, and any that is named as
``package.module:Class``, and prints the number of checks of each.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import Any

from fgsam.contract import failures, passes, state, weights
from fgsam.contract.check import Check
from fgsam.contract.subject import Subject
from fgsam.optim.base import SharpnessAware

THEMES = (weights, passes, failures, state)


def checks_of(subject: Subject) -> list[Check]:
    """List the checks that a rule must pass."""
    return [check for theme in THEMES for check in theme.PROMISES.of(subject)]


def check_optimizer(rule: type[SharpnessAware], *, only: str = "", **options: Any) -> list[str]:
    """Put an update rule to the test of the whole contract.

    The checks train a small net in float64 on the CPU, each for a few steps: some seconds in all. The global random
    state is as before afterwards.

    Args:
        rule: A subclass of ``SharpnessAware``. If its constructor has an argument ``base``, it is tried with Adam,
            AdamW and SGD with momentum.
        only: Part of the names of the checks to run; by default all.
        **options: Options of the rule to test it with.

    Returns:
        Names of the checks, all of which it passed.

    Raises:
        AssertionError: If a promise is broken; it tells which, one a line, and what happened.

    Example:
        >>> from fgsam.optim.sam import SAM
        >>> len(check_optimizer(SAM, rho=0.1, only="storage"))
        3
        >>> class Forgetful(SAM):
        ...     def direction(self, gnn, peer):
        ...         return gnn()
        >>> check_optimizer(Forgetful, only="buffers_move")
        Traceback (most recent call last):
        AssertionError: Forgetful breaks 1 of 1 promises:
        buffers_move_in_clean_passes_only: buffers should be those of one clean pass (they moved 0 times)
    """
    from torch.random import fork_rng

    subject = Subject(rule, options)
    checks = [check for check in checks_of(subject) if only in check.name]
    broken = []
    for check in checks:
        with fork_rng(devices=()):
            try:
                check(subject)
            except Exception as error:
                kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
                broken.append((f"{check.name}: {kind}{error}", error))
    if broken:
        lines = "\n".join(line for line, _ in broken)
        raise AssertionError(f"{rule.__name__} breaks {len(broken)} of {len(checks)} promises:\n{lines}") from broken[
            0
        ][1]
    return [check.name for check in checks]


def main(names: Iterable[str] | None = None) -> int:
    """Test entries of the registry, print how many checks each has passed, and return 1 if one fails."""
    from fgsam.cli_tables import print_table
    from fgsam.registry import OPTIMIZERS

    rows, faults = [], []
    for name in names or OPTIMIZERS:
        start = time.process_time()
        rule = OPTIMIZERS.load(name)
        try:
            outcome = f"{len(check_optimizer(rule))} passed"
        except AssertionError as error:
            outcome = str(error).partition(":\n")[0].partition(" ")[2]
            faults.append(str(error))
        rows.append((name, outcome, f"{time.process_time() - start:.1f}"))
    print_table(["optimizer", "checks", "processor seconds"], rows, numeric=["processor seconds"])
    print("\n".join(faults), end="\n" if faults else "")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
