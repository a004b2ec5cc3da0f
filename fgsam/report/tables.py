"""The tables of a comparison."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from fgsam.comparison.findings import findings
from fgsam.comparison.grid import Arm, Cell
from fgsam.comparison.power import VarianceComponents, variance_components
from fgsam.comparison.ranks import MIN_GRAPHS, average_ranks, critical_difference
from fgsam.comparison.results import Record, Results, Unit
from fgsam.comparison.statistics import Array, SplitMean, mean_over_splits
from fgsam.report import words
from fgsam.report.table import Column, Table, Value, table_of

EVERYWHERE = "mean over all parts"


def scores_table(results: Results) -> Table:
    """Accuracy of each arm in each part, with its interval over splits and, beside it, that over episodes."""
    tested = "episodes" if words.is_few_shot(results) else "nodes"
    columns = [Column("arm")]
    rows: list[list[Value]] = [[arm_name(arm)] for arm in results.grid.arms]
    for part in results.grid.parts:
        columns += [
            Column("accuracy", "interval", part.label),
            Column(f"over {tested}", "half_width", part.label),
            Column("n", "count", part.label),
        ]
        for row, arm in zip(rows, results.grid.arms, strict=True):
            found = results.scores(part.label, arm.label)
            row += [_mean(found), episode_half_width(results, part.label, arm.label), len(found)]
    notes = (
        words.scores_estimand(results),
        words.unit_note(results),
        f"Accuracy in percent: mean and half-width of its 95 % t interval over n {words.units(results)}; with one of "
        f"them there is no interval. 'Over {tested}' is the mean half-width of the 95 % interval within one split, "
        f"which covers the draw of {tested} alone: it is no ground for a claim.",
        words.completeness_note(results),
    )
    return table_of("scores", f"{results.grid.title}: accuracy", columns, rows, notes)


def differences_table(results: Results) -> Table:
    """Points by which each arm is above the reference arm, paired by split, with its interval."""
    reference = results.grid.protocol.reference
    arms = [arm for arm in results.grid.arms if arm.label != reference]
    columns = [Column("arm")]
    rows: list[list[Value]] = [[arm_name(arm)] for arm in arms]
    for part in results.grid.parts:
        columns += [Column("difference", "difference", part.label), Column("n", "count", part.label)]
        for row, arm in zip(rows, arms, strict=True):
            found = results.differences(part.label, arm.label, reference)
            row += [_mean(found), len(found)]
    notes = (
        words.differences_estimand(results),
        words.unit_note(results),
        f"Mean and half-width of the 95 % t interval over the n {words.units(results)} that both arms have, each for "
        "itself and not adjusted for their number: claims are in the table of hypotheses.",
        words.completeness_note(results),
    )
    return table_of("differences", f"{results.grid.title}: difference to {reference}", columns, rows, notes)


def findings_table(results: Results) -> Table:
    """What the runs show of each hypothesis."""
    columns = [
        *(Column("hypothesis"), Column("where"), Column("verdict"), Column("difference", "difference")),
        *(Column("p", "p"), Column("Holm p", "p"), Column("sign-flip p", "p"), Column("equivalence p", "p")),
        *(Column("detectable", "number"), Column("effect size", "number"), Column("wins/ties/losses")),
    ]
    found = findings(results)
    rows: list[list[Value]] = [
        [
            *(str(each.hypothesis), each.part or EVERYWHERE, words.spelled_verdict(each), each.mean),
            *(each.test.p_value, each.verdict.p_adjusted, each.check.p_value, each.within.p_value),
            *(each.detectable, each.effect, "/".join(map(str, each.wins))),
        ]
        for each in found
    ]
    notes = (
        words.claims_estimand(results),
        words.unit_note(results),
        words.protocol_note(results),
        words.family_note(results, found),
        words.verdict_note(results),
        "Differences are in points, with the half-width of the 95 % t interval, which is not adjusted; effect size is "
        "their mean over their standard deviation. Equivalence is tested by two one-sided t tests.",
        words.completeness_note(results),
    )
    return table_of("findings", f"{results.grid.title}: hypotheses", columns, rows, notes)


def variance_table(results: Results) -> Table:
    """Where the spread of each score, and of each difference to the reference arm, comes from."""
    reference = results.grid.protocol.reference
    groups = ("score", f"difference to {reference}")
    columns = [Column("part"), Column("arm")]
    columns += [Column(name, "number", group) for group in groups for name in ("split", "seed", "episode")]
    rows: list[list[Value]] = []
    clipped = False
    for part in results.grid.parts:
        for arm in results.grid.arms:
            own = _components(results, part.label, arm.label)
            above = _components(results, part.label, arm.label, reference) if arm.label != reference else None
            rows.append([part.label, arm_name(arm), *_deviations(own), *_deviations(above)])
            clipped = clipped or any(found is not None and bool(found.clipped) for found in (own, above))
    notes = [
        f"Standard deviations in points, {words.population(results)}: between splits, between seeds of a split, and "
        "between test episodes of one run. With one seed, 'split' is split and seed together.",
        "Estimated by the method of moments from the splits that are finished; from few of them these are rough. "
        "There is none for fewer than two splits or two episodes, or where splits differ in their number of episodes.",
        words.unit_note(results),
    ]
    notes += ["An estimate of 0.00 may stand for a negative one."] if clipped else []
    heading = f"{results.grid.title}: sources of spread"
    return table_of("variance", heading, columns, rows, (*notes, words.completeness_note(results)))


def ranks_table(results: Results) -> Table:
    """Average rank of each arm over graphs; without rows where there are too few of them."""
    scores = graph_scores(results)
    heading = f"{results.grid.title}: ranks over graphs"
    columns = [Column("arm"), Column("average rank", "number"), Column("Nemenyi p to the reference", "p")]
    num_graphs, num_arms = scores.shape
    if num_graphs < 2 or num_arms < 3:
        reason = f"There are no ranks: they take three arms and two graphs (here {num_arms} and {num_graphs})."
        return table_of("ranks", heading, columns, [], (reason, words.completeness_note(results)))
    found = average_ranks(scores)
    labels = [arm.label for arm in results.grid.arms]
    reference = labels.index(results.grid.protocol.reference)
    rows: list[list[Value]] = [
        [
            arm_name(results.grid.arms[i]),
            float(found.average[i]),
            None if i == reference else float(found.nemenyi_p[i, reference]),
        ]
        for i in np.argsort(found.average, kind="stable")
    ]
    notes = [
        f"The units are {num_graphs} graphs, each with its mean accuracy over all its settings and over the "
        f"{words.units(results)} that all arms have: a claim about graphs like these, not about one of them. "
        "Rank 1 is the highest accuracy.",
        f"Friedman's test that all arms are alike: chi-square {found.friedman_statistic:.2f} with {num_arms - 1} "
        f"degrees of freedom, p {_told_p(found.friedman_p)}. Nemenyi p-values are adjusted for all "
        f"{num_arms * (num_arms - 1) // 2} pairs of arms.",
        _critical_note(results, num_arms, num_graphs),
        words.completeness_note(results),
    ]
    return table_of("ranks", heading, columns, rows, notes)


def setting_of(results: Results, unit: Unit) -> dict[str, object]:
    """What a finished unit chose, by dotted key: among the candidates of its arm, and in a search."""
    tuned = results.grid.settings.get(unit)
    candidate = results.grid.arm(unit[1]).candidates[trial_of(results, unit)]
    return {**candidate, **(tuned.values if tuned is not None else {})}


def settings_table(results: Results) -> Table:
    """Which setting each split chose for itself."""
    columns = [Column("part"), Column("arm"), Column("setting"), Column("chosen", "count"), Column("by splits")]
    rows: list[list[Value]] = []
    for part in results.grid.parts:
        for arm in results.grid.arms:
            splits: dict[str, list[str]] = {told_setting(candidate): [] for candidate in arm.candidates}
            for split in results.grid.splits:
                if (unit := (part.label, arm.label, split)) in results.chosen:
                    splits.setdefault(told_setting(setting_of(results, unit)), []).append(str(split))
            for told, by in splits.items():
                if told:
                    rows.append([part.label, arm_name(arm), told, len(by), ", ".join(by)])
    validated = "bank" if words.is_few_shot(results) else "nodes"
    notes = (
        f"Each split takes the setting with the best mean validation accuracy, the first one of equals, on its own "
        f"validation {validated}; test results are not looked at, and a setting with a failed run is not chosen. A "
        "method that is not here has one setting, or chooses within its run.",
        words.completeness_note(results),
    )
    return table_of("settings", f"{results.grid.title}: chosen settings", columns, rows, notes)


def unfinished_table(results: Results) -> Table:
    """Runs that failed, by the kind of their error, of which the first is told, and runs that are not over."""
    columns = [Column("part"), Column("arm"), Column("what"), Column("runs", "count"), Column("splits")]
    groups: dict[tuple[str, str, str], list[Cell]] = defaultdict(list)
    for cell, error in results.failed.items():
        groups[cell.part, cell.arm, error.partition(":")[0]].append(cell)
    for cell in results.missing:
        groups[cell.part, cell.arm, "not over"].append(cell)
    rows: list[list[Value]] = []
    for (part, arm, _), cells in groups.items():
        first = results.failed.get(cells[0])
        splits = ", ".join(dict.fromkeys(str(cell.split) for cell in cells))
        rows.append([part, arm, "not over" if first is None else f"failed: {first}", len(cells), splits])
    heading = f"{results.grid.title}: runs that are not finished"
    notes = ("Of errors of one kind the first is told.",) if results.failed else ()
    return table_of("unfinished", heading, columns, rows, (*notes, words.completeness_note(results)))


TABLES: Mapping[str, Callable[[Results], Table]] = {
    "scores": scores_table,
    "differences": differences_table,
    "findings": findings_table,
    "variance": variance_table,
    "ranks": ranks_table,
    "settings": settings_table,
    "unfinished": unfinished_table,
}
"""Tables of the runs by name, in the order of a report; those of times are in ``fgsam.report.time_tables``."""


def arm_name(arm: Arm) -> str:
    """Name an arm, and say so if it does not learn."""
    return arm.label if arm.is_trained else f"{arm.label} (floor)"


def told_setting(setting: Mapping[str, object]) -> str:
    """Write a setting on one line.

    Example:
        >>> told_setting({"optimizer.lr": 0.01, "optimizer.rho": 0.1})
        'optimizer.lr = 0.01, optimizer.rho = 0.1'
    """
    return ", ".join(f"{key} = {value}" for key, value in setting.items())


def trial_of(results: Results, unit: Unit) -> int:
    """Return the number of the setting that a finished unit chose."""
    part, arm, split = unit
    seed, chosen = next(iter(results.chosen[unit].items()))
    trials = range(len(results.grid.arm(arm).candidates))
    return next(trial for trial in trials if results.records.get(Cell(split, part, arm, seed, trial)) is chosen)


def episode_half_width(results: Results, part: str, arm: str) -> float | None:
    """Mean half-width in points of the 95 % interval over the test episodes or nodes of one run; None without a run."""
    runs = [record for split in results.grid.splits for record in results.chosen.get((part, arm, split), {}).values()]
    return float(np.mean([100 * run.results["test_interval"] for run in runs])) if runs else None


def graph_scores(results: Results) -> Array:
    """Accuracy in percent by graph and arm: settings of a graph are averaged, over the splits that all arms have.

    Returns:
        Shape ``[num_graphs, num_arms]``; a graph on which an arm has no such split is left out.
    """
    by_graph: dict[object, list[list[float]]] = {}
    for part in results.grid.parts:
        found = [results.scores(part.label, arm.label) for arm in results.grid.arms]
        shared = [split for split in results.grid.splits if all(split in scores for scores in found)]
        means = [float(np.mean([scores[split] for split in shared])) if shared else math.nan for scores in found]
        key = part.graph if isinstance(part.graph, str) else id(part.graph)  # settings of a graph share its object
        by_graph.setdefault(key, []).append(means)
    table: Array = np.array([np.mean(rows, axis=0) for rows in by_graph.values()])
    whole: Array = table[~np.isnan(table.sum(axis=1))]
    return whole


def _mean(values: Mapping[int | str, float]) -> SplitMean | None:
    return mean_over_splits(list(values.values())) if values else None


def _components(results: Results, part: str, arm: str, reference: str | None = None) -> VarianceComponents | None:
    episodes = [*_episodes(results, part, arm, reference)]
    shapes = {table.shape for table in episodes}
    if len(episodes) < 2 or len(shapes) > 1 or episodes[0].shape[1] < 2:
        return None
    return variance_components(np.stack(episodes))


def _episodes(results: Results, part: str, arm: str, reference: str | None) -> Iterator[Array]:
    """Yield scores, or differences to a reference arm, by seed and episode for each split."""
    for split in results.grid.splits:
        own = results.chosen.get((part, arm, split))
        other = results.chosen.get((part, reference, split)) if reference is not None else {}
        if own is None or other is None:
            continue
        seeds = own if not other or len(own) >= len(other) else other
        scores = [_of_seed(own, seed) for seed in seeds]
        yield np.stack([row - _of_seed(other, seed) if other else row for row, seed in zip(scores, seeds, strict=True)])


def _of_seed(runs: Mapping[int, Record], seed: int) -> Array:
    """Episodes of one seed; a floor has one run for all seeds."""
    return runs[seed].episodes if seed in runs else next(iter(runs.values())).episodes


def _deviations(found: VarianceComponents | None) -> list[Value]:
    if found is None:
        return [None] * 3
    return [None if value is None else math.sqrt(value) for value in (found.split, found.seed, found.episode)]


def _critical_note(results: Results, num_arms: int, num_graphs: int) -> str:
    alpha = results.grid.protocol.alpha
    if num_graphs < MIN_GRAPHS:
        return f"There is no critical difference below {MIN_GRAPHS} graphs, and p-values from so few are rough."
    gap = critical_difference(num_arms, num_graphs, alpha=alpha)
    return f"Critical difference of two average ranks at level {alpha:g}: {gap:.2f} (Nemenyi)."


def _told_p(p_value: float) -> str:
    return "< 0.001" if p_value < 0.0005 else f"= {p_value:.3f}"
