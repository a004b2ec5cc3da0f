"""What must be said under every table and figure: what a number is about, how it was tested, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence

from fgsam.comparison.findings import Finding
from fgsam.comparison.power import POWER
from fgsam.comparison.results import Results
from fgsam.engine.config_model import FEW_SHOT

TESTS = {
    "t": "Student's t test of the differences, which are paired by split, with one degree of freedom less than splits",
    "sign_flip": "sign-flip permutation test of the differences, which are paired by split",
    "wilcoxon": "Wilcoxon's signed-rank test of the differences, which are paired by split",
}


def units(results: Results) -> str:
    """Name the units of every claim.

    Returns:
        ``"class splits"``, or ``"node splits"`` where nodes and not episodes are tested.
    """
    return "class splits" if is_few_shot(results) else "node splits"


def is_few_shot(results: Results) -> bool:
    """Tell whether episodes are tested, and not nodes."""
    tasks = {record.config.get("task", FEW_SHOT) for record in results.records.values()}
    return tasks <= {FEW_SHOT}


def population(results: Results) -> str:
    """Name what a claim extends to: random splits, or splits that have names of their own."""
    kind = "random" if all(isinstance(split, int) for split in results.grid.splits) else "named"
    return f"over {kind} {units(results)}"


def unit_note(results: Results) -> str:
    """Say what is averaged over what."""
    num_splits, num_seeds = len(results.grid.splits), len(results.grid.seeds)
    tested = "test episodes" if is_few_shot(results) else "test nodes"
    seeds = "one seed" if num_seeds == 1 else f"{num_seeds} seeds, which are averaged"
    return (
        f"The units are the {units(results)}, {num_splits} in this grid: a mean over all {tested} counts once a split, "
        f"with {seeds}."
    )


def scores_estimand(results: Results) -> str:
    """Say what accuracies are about."""
    return f"Each accuracy speaks of its own graph and setting, {population(results)}, and of no other graph."


def differences_estimand(results: Results) -> str:
    """Say what differences to the reference arm are about."""
    tested = "episodes" if is_few_shot(results) else "nodes"
    return (
        f"Each difference speaks of its own graph and setting, {population(results)}: points by which an arm is above "
        f"{results.grid.protocol.reference} on the same {tested}."
    )


def claims_estimand(results: Results) -> str:
    """Say what the hypotheses are about."""
    if results.grid.protocol.pooled:
        parts = "; ".join(part.label for part in results.grid.parts)
        return (
            f"Each claim is about the mean over these graphs ({parts}), {population(results)}, and about no "
            "other graph."
        )
    return f"Each claim is about one graph in one setting, {population(results)}, and about no other graph."


def protocol_note(results: Results) -> str:
    """Say which test the grid names."""
    protocol = results.grid.protocol
    return (
        f"Test, fixed before any run: {TESTS[protocol.test]}. 'Above' is tested on both sides, 'not below' on one, "
        f"against {protocol.margin:g} points below."
    )


def family_note(results: Results, found: Sequence[Finding]) -> str:
    """Say which hypotheses share the level, and which could not be tested."""
    protocol = results.grid.protocol
    num_places = 1 if protocol.pooled else len(results.grid.parts)
    num_claims = num_places * len(protocol.hypotheses)
    text = f"Family: {_counted(len(found), 'claim')}, at level {protocol.alpha:g} together by Holm's correction."
    if len(found) < num_claims:
        text += (
            f" {_counted(num_claims - len(found), 'further claim')} of the grid cannot be tested yet: "
            "no split is finished."
        )
    return text


def verdict_note(results: Results) -> str:
    """Say how the words come about."""
    protocol = results.grid.protocol
    return (
        f"Verdicts read Holm-adjusted p-values below {protocol.alpha:g}: 'holds' for the claim, 'contradicted' for its "
        f"opposite, 'equivalent' for a difference within {protocol.margin:g} points, else 'undecided', which is no "
        f"evidence of equality. 'Detectable' is the smallest true difference that so many splits find with "
        f"{100 * POWER:g} % power in a single test; the sign-flip test is a check and decides nothing."
    )


def completeness_note(results: Results) -> str:
    """Say how many runs are finished, and what that means for the figures."""
    num_runs = len(results.records) + len(results.failed) + len(results.missing)
    if len(results.records) == num_runs:
        return f"Complete: all {num_runs} runs are finished."
    return (
        f"Incomplete: of {num_runs} runs {len(results.failed)} failed and {len(results.missing)} are not over, so "
        "these figures are not final. A split counts for an arm when all its runs are finished."
    )


def spelled_verdict(finding: Finding) -> str:
    """Write a verdict with its number of units.

    Returns:
        ``"holds, n = 20"``, or ``"equivalent within 0.5 points, n = 20"``.
    """
    word = finding.verdict.word
    margin = f" within {finding.within.margin:g} points" if word == "equivalent" else ""
    return f"{word}{margin}, n = {finding.verdict.num_splits}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
