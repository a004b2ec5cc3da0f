"""The contracts of all optimizers and of all few-shot learners, for tests of one's own.

``python -m fgsam.testing`` puts every registered entry to the test and prints the number of checks of each;
``python -m fgsam.testing methods`` or ``optimizers`` one kind of them. Entries are named like ``gpn``, or as
``package.module:Class`` for one's own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fgsam.contract import failures, floors, lessons, passes, scores, state, weights
from fgsam.contract.check import Check, Promises
from fgsam.contract.learner import Subject as LearnerSubject
from fgsam.contract.subject import Subject
from fgsam.methods.base import Learner
from fgsam.methods.floors import Floor
from fgsam.optim.base import SharpnessAware
from fgsam.registry import METHODS, OPTIMIZERS

THEMES = (weights, passes, failures, state)
LEARNER_THEMES = (lessons, scores)
FLOOR_THEMES = (floors,)


def checks_of(subject: Subject | LearnerSubject) -> list[Check]:
    """List the checks that a rule or a learner must pass."""
    found: list[Promises] = [theme.PROMISES for theme in _themes(subject)]
    return [check for promises in found for check in promises.of(subject)]


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
    return _checked(rule.__name__, Subject(rule, options), only)


def check_method(method: type[Learner] | type[Floor], *, only: str = "", **options: Any) -> list[str]:
    """Put a few-shot learner to the test of the whole contract.

    A trained learner is made on a small GCN, and on a module of PyTorch Geometric; a floor is fitted. The graph has
    400 nodes, some of them without edges. It takes seconds. The global random state is as before afterwards.

    Args:
        method: A subclass of ``Method`` or ``PretrainedMethod``, or a floor.
        only: Part of the names of the checks to run; by default all.
        **options: Options of the learner to test it with.

    Returns:
        Names of the checks, all of which it passed.

    Raises:
        AssertionError: If a promise is broken; it tells which, one a line, and what happened.

    Example:
        >>> from fgsam.methods.protonet import ProtoNet
        >>> len(check_method(ProtoNet, only="support"))
        5
        >>> class Greedy(ProtoNet):
        ...     def logits(self, support, support_labels, query, n_way):
        ...         return super().logits(support, support_labels, (query[0] - query[0].mean(),), n_way)
        >>> check_method(Greedy, only="meet")
        Traceback (most recent call last):
        AssertionError: Greedy breaks 1 of 1 promises:
        support_and_query_never_meet: NaN in query 5 should spoil its own scores alone (got queries [0, ...])
    """
    return _checked(method.__name__, LearnerSubject(method, options), only)


def main(names: Sequence[str] = ()) -> int:
    """Test entries of the registries and print how many checks each has passed.

    Args:
        names: ``"optimizers"``, ``"methods"``, names of entries or import paths of one's own; all entries by default.

    Returns:
        What the process should exit with: 0, or 1 if a check fails, or 2 if a name is unknown.
    """
    from fgsam.cli_tables import print_table

    try:
        chosen = _chosen(names or ("optimizers", "methods"))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    faults: list[str] = []
    for kind, entries in chosen.items():
        check: Callable[[Any], list[str]] = check_optimizer if kind == "optimizer" else check_method
        rows = []
        for name, entry in entries.items():
            start = time.process_time()
            try:
                outcome = f"{len(check(entry))} passed"
            except AssertionError as error:
                outcome = str(error).partition(":\n")[0].partition(" ")[2]
                faults.append(str(error))
            rows.append((name, outcome, f"{time.process_time() - start:.1f}"))
        print_table([kind, "checks", "processor seconds"], rows, numeric=["processor seconds"])
    print("\n".join(faults), end="\n" if faults else "")
    return 1 if faults else 0


def _themes(subject: Subject | LearnerSubject) -> Iterable[Any]:
    if isinstance(subject, Subject):
        return THEMES
    return FLOOR_THEMES if issubclass(subject.method, Floor) else LEARNER_THEMES


def _checked(name: str, subject: Subject | LearnerSubject, only: str) -> list[str]:
    """Run the checks of a subject, and return their names or raise for those that fail."""
    from torch.random import fork_rng

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
        raise AssertionError(f"{name} breaks {len(broken)} of {len(checks)} promises:\n{lines}") from broken[0][1]
    return [check.name for check in checks]


def _chosen(names: Iterable[str]) -> Mapping[str, dict[str, Any]]:
    """The entries that are named, by kind."""
    tables: dict[str, Iterable[str]] = {f"{table.kind}s": table for table in (OPTIMIZERS, METHODS)}
    found: dict[str, dict[str, Any]] = {}
    for name in (each for group in names for each in tables.get(group, (group,))):
        entry = (METHODS if name in METHODS else OPTIMIZERS).load(name)
        is_rule = isinstance(entry, type) and issubclass(entry, SharpnessAware)
        found.setdefault(OPTIMIZERS.kind if is_rule else METHODS.kind, {})[name] = entry
    return found


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
