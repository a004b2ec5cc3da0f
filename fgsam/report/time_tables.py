"""The tables of measured times, and of what arms have learned after equal work and equal time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from fgsam.comparison.results import Results
from fgsam.comparison.times import (
    SHARES,
    BudgetScore,
    Times,
    accuracy_at_equal_gradients,
    accuracy_at_equal_seconds,
)
from fgsam.report import words
from fgsam.report.table import Column, Table, Value, table_of


def times_table(results: Results, times: Times) -> Table:
    """Milliseconds of a training step of each trained arm, and their ratio to the reference arm."""
    reference = results.grid.protocol.reference
    columns = [
        *(Column("part"), Column("arm"), Column("ms a step", "number"), Column("lower quartile", "number")),
        *(Column("upper quartile", "number"), Column(f"times {reference}", "number")),
    ]
    places = {(part.label, arm.label) for part in results.grid.parts for arm in results.grid.arms}
    times = [time for time in times if (time.part, time.arm) in places]
    unit = {time.part: time.ms for time in times if time.arm == reference}
    rows: list[list[Value]] = [
        [time.part, time.arm, time.ms, time.low, time.high, time.ms / unit[time.part] if time.part in unit else None]
        for time in times
    ]
    notes = (
        "Measured by fgsam time, not by the runs: one process, arms in turns, step by step, validation left out. The "
        "median over blocks of 20 steps of their mean, with its quartiles.",
        words.completeness_note(results),
    )
    return table_of("times", f"{results.grid.title}: time of a training step", columns, rows, notes)


def budgets_table(results: Results, times: Times) -> Table:
    """Best validation accuracy of each trained arm after equally many gradients, and after equal seconds."""
    budgets = {"gradient evaluations": accuracy_at_equal_gradients(results)}
    if times:
        budgets["seconds"] = accuracy_at_equal_seconds(results, times)
    columns = [Column("part"), Column("arm"), Column("budget")]
    columns += [Column(f"{share:.0%}", "interval") for share in SHARES]
    rows = [row for unit, scores in budgets.items() for row in _budget_rows(unit, scores)]
    notes = (
        f"Best validation accuracy so far in percent, with the 95 % t interval over {words.units(results)}, after "
        "shares of the largest budget that every arm of a part has used up. A run that stopped before keeps its best. "
        "Nothing is shown where some run had not been validated by then, and an arm whose rule cannot be counted is "
        "left out.",
        "A gradient of the GNN, one of the peer, a product of the Hessian and a forward pass without gradient count as "
        "one each. Seconds are steps times the measured time of a step.",
        words.completeness_note(results),
    )
    return table_of("budgets", f"{results.grid.title}: validation accuracy at equal budgets", columns, rows, notes)


TIME_TABLES: Mapping[str, Callable[[Results, Times], Table]] = {"times": times_table, "budgets": budgets_table}
"""Tables that take measured times, by name; without rows where there is nothing to show."""


def told_budget(budget: float, unit: str) -> str:
    """Write a budget.

    Example:
        >>> told_budget(12000.0, "gradient evaluations"), told_budget(0.0164, "seconds")
        ('12,000 gradient evaluations', '0.016 seconds')
    """
    return f"{budget:,.0f} {unit}" if budget >= 100 else f"{budget:.2g} {unit}"


def _budget_rows(unit: str, scores: Sequence[BudgetScore]) -> Iterator[list[Value]]:
    arms = dict.fromkeys((score.part, score.arm) for score in scores)
    for part, arm in arms:
        own = [score for score in scores if (score.part, score.arm) == (part, arm)]
        yield [part, arm, told_budget(own[-1].budget, unit), *(score.val_accuracy for score in own)]
