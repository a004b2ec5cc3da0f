"""The figures of a comparison."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from fgsam.comparison.grid import Arm, Hypothesis, Part
from fgsam.comparison.ranks import MIN_GRAPHS, average_ranks, critical_difference
from fgsam.comparison.results import Record, Results
from fgsam.comparison.statistics import Array, mean_over_splits
from fgsam.comparison.times import ArmTime, Times
from fgsam.engine.record import RunDirectory
from fgsam.report import words
from fgsam.report.drawing import (
    BAND,
    COLOURS,
    DASHES,
    GREY,
    WIDTH,
    draw_row,
    finite_half_width,
    folded,
    legend_above,
    line_style,
    panels,
    row_panels,
    styled,
)
from fgsam.report.tables import EVERYWHERE, arm_name, graph_scores

HATCHES = ("", "///", "--", "xx", "\\\\\\", "++")
"""Of stages, for print in grey."""


class NothingToShowError(ValueError):
    """There are no results of the kind that a figure shows."""


@styled
def accuracy_figure(results: Results) -> Figure:
    """Draw the mean accuracy of each arm with its interval over splits, and each split; floors are hollow."""
    parts, arms = results.grid.parts, results.grid.arms
    figure, shown = row_panels([part.label for part in parts], [arm_name(arm) for arm in arms])
    for part, axes in zip(parts, shown, strict=True):
        for row, arm in enumerate(arms):
            draw_row(axes, row, results.scores(part.label, arm.label), is_floor=not arm.is_trained)
    figure.supxlabel(f"accuracy in %: mean with its 95 % interval over {words.units(results)}; strokes: single splits")
    return figure


@styled
def differences_figure(results: Results) -> Figure:
    """Draw what each hypothesis compares, paired by split, and the margin of equivalence.

    Raises:
        NothingToShowError: If there is a single arm.
    """
    protocol = results.grid.protocol
    others = [arm.label for arm in results.grid.arms if arm.label != protocol.reference]
    claims = protocol.hypotheses or tuple(Hypothesis(label, protocol.reference) for label in others)
    pairs = list(dict.fromkeys((claim.arm, claim.reference) for claim in claims))
    if not pairs:
        raise NothingToShowError("Expected two arms for differences (got one).")
    places: tuple[Part | None, ...] = (None,) if protocol.pooled else results.grid.parts
    titles = [EVERYWHERE if part is None else part.label for part in places]
    figure, shown = row_panels(titles, [f"{arm}\nminus {reference}" for arm, reference in pairs])
    for part, axes in zip(places, shown, strict=True):
        axes.axvspan(-protocol.margin, protocol.margin, color=BAND, linewidth=0)
        axes.axvline(0, color="black", linewidth=0.8)
        for row, pair in enumerate(pairs):
            found = results.pooled_differences(*pair) if part is None else results.differences(part.label, *pair)
            draw_row(axes, row, found, is_floor=False)
    figure.supxlabel(
        f"difference in points: mean with its 95 % interval over {words.units(results)}; strokes: single splits; "
        f"grey: within {protocol.margin:g}"
    )
    return figure


@styled
def learning_figure(results: Results) -> Figure:
    """Draw the mean validation accuracy of the chosen runs by step; a run that stopped early keeps its last value.

    Raises:
        NothingToShowError: If no trained run is finished, or their logs are elsewhere.
    """
    parts, arms = results.grid.parts, results.grid.arms
    curves = {(part.label, arm.label): _mean_curve(results, part, arm) for part in parts for arm in arms}
    if not any(len(steps) for steps, _ in curves.values()):
        raise NothingToShowError("Expected logs of finished runs with training for learning curves (there are none).")
    figure, shown = panels([part.label for part in parts], height=2.5)
    for part, axes in zip(parts, shown, strict=True):
        for arm in arms:
            steps, means = curves[part.label, arm.label]
            if len(steps):
                style = {**line_style(arm, arms), "markevery": math.ceil(len(steps) / 8), "markersize": 4}
                axes.plot(steps, means, **style, label=arm.label)
    figure.supxlabel("training step")
    figure.supylabel("validation accuracy in %")
    legend_above(figure, shown, [arm.label for arm in arms])
    return figure


@styled
def time_figure(results: Results, times: Times) -> Figure:
    """Draw the mean accuracy with its interval against the measured time of a training step with its quartiles.

    Floors, which do not train, are lines.

    Raises:
        NothingToShowError: If no times were measured.
    """
    known = _known_times(times)
    parts, arms = results.grid.parts, results.grid.arms
    figure, shown = panels([part.label for part in parts], height=2.8)
    for part, axes in zip(parts, shown, strict=True):
        for number, arm in enumerate(arms):
            scores, time = results.scores(part.label, arm.label), known.get((part.label, arm.label))
            if not scores:
                continue
            found, label = mean_over_splits(list(scores.values())), arm_name(arm)
            if time is not None:
                style = {**line_style(arm, arms), "linestyle": "none", "elinewidth": 0.9, "label": label}
                spread = [[time.ms - time.low], [time.high - time.ms]]
                axes.errorbar(time.ms, found.mean, finite_half_width(found), spread, **style)
            elif not arm.is_trained:
                style = {"linestyle": DASHES[number % len(DASHES)], "linewidth": 1, "label": label}
                axes.axhline(found.mean, color=GREY, **style)
        axes.set_xlim(left=0)
        axes.margins(y=0.1)
    figure.supxlabel(
        f"ms of a training step, measured: median, quartiles; accuracy: 95 % interval over {words.units(results)}"
    )
    figure.supylabel("accuracy in %")
    legend_above(figure, shown, [arm_name(arm) for arm in arms])
    return figure


@styled
def stages_figure(results: Results, times: Times) -> Figure:
    """Draw the measured time of a training step by stage.

    Raises:
        NothingToShowError: If no times by stage were measured.
    """
    known = {place: time for place, time in _known_times(times).items() if time.stages}
    if not known:
        raise NothingToShowError("Expected times by stage (times.json has none: the work was done on a device).")
    stages = list(dict.fromkeys(stage for time in known.values() for stage in time.stages))
    parts = [part for part in results.grid.parts if any(label == part.label for label, _ in known)]
    arms = [arm for arm in results.grid.arms if any(label == arm.label for _, label in known)]
    figure, shown = row_panels([part.label for part in parts], [arm.label for arm in arms])
    for part, axes in zip(parts, shown, strict=True):
        for row, arm in enumerate(arms):
            time, left = known.get((part.label, arm.label)), 0.0
            for number, stage in enumerate(stages if time is not None else ()):
                assert time is not None
                width = time.ms * time.stages.get(stage, 0.0)
                colour, hatch = COLOURS[number % len(COLOURS)], HATCHES[number % len(HATCHES)]
                axes.barh(row, width, 0.62, left, color=colour, hatch=hatch, edgecolor="white", label=stage)
                left += width
    figure.supxlabel("measured time of a training step in ms, by stage")
    legend_above(figure, shown, stages)
    return figure


@styled
def ranks_figure(results: Results) -> Figure:
    """Draw the average rank of each arm over graphs; from ten graphs on, bars join arms that cannot be told apart.

    Raises:
        NothingToShowError: If there are fewer than three arms or two graphs.

    Source:
        Demsar, Statistical Comparisons of Classifiers over Multiple Data Sets, 2006, Figure 1.
    """
    scores = graph_scores(results)
    num_graphs, num_arms = scores.shape
    if num_graphs < 2 or num_arms < 3:
        raise NothingToShowError(
            f"Expected three arms and two graphs with all of them for ranks (got {num_arms} and {num_graphs})."
        )
    found = average_ranks(scores)
    order = np.argsort(found.average, kind="stable")
    alpha = results.grid.protocol.alpha
    gap = critical_difference(num_arms, num_graphs, alpha=alpha) if num_graphs >= MIN_GRAPHS else None
    groups = _alike(found.average[order], gap) if gap is not None else []
    names = [folded(f"{arm_name(results.grid.arms[i])}: {found.average[i]:.2f}", 36) for i in order]
    num_left, step = math.ceil(num_arms / 2), 0.25 + 0.65 * max(name.count("\n") + 1 for name in names)
    first = 1 + 0.4 * len(groups)
    bottom, top = first + step * (num_left - 0.5), 0 if gap is None else -1.6
    figure = Figure(figsize=(WIDTH, 0.55 + 0.2 * (bottom - top)), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(1, num_arms), ylim=(bottom, top), xticks=range(1, num_arms + 1), yticks=[])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.spines["top"].set(visible=True, position=("data", 0))
    axes.xaxis.set_ticks_position("top")
    margin = 0.04 * (num_arms - 1)
    for place, (rank, name) in enumerate(zip(found.average[order], names, strict=True)):
        is_left = place < num_left
        height = first + step * (place if is_left else num_arms - 1 - place)
        edge, side = (1 - margin, "right") if is_left else (num_arms + margin, "left")
        axes.plot([rank, rank, edge], [0, height, height], color="black", linewidth=0.8, clip_on=False)
        axes.text(edge - margin / 4 if is_left else edge + margin / 4, height, name, ha=side, va="center")
    for level, (low, high) in enumerate(groups):
        axes.plot([low - 0.03, high + 0.03], [0.5 + 0.4 * level] * 2, color=COLOURS[0], linewidth=3, clip_on=False)
    if gap is not None:
        axes.errorbar(1 + gap / 2, -1.4, xerr=gap / 2, color=COLOURS[0], capsize=3, linewidth=1.3, clip_on=False)
        axes.text(1 + gap, -1.4, f"  critical difference {gap:.2f}", va="center")
    friedman = "< 0.001" if found.friedman_p < 0.0005 else f"= {found.friedman_p:.3f}"
    figure.supxlabel(f"average rank over {num_graphs} graphs, 1 is the highest accuracy; Friedman p {friedman}")
    return figure


@dataclass(frozen=True)
class FigureKind:
    """One of the figures: its caption, what draws it, and whether it takes measured times."""

    caption: str
    draw: Callable[..., Figure]
    takes_times: bool = False


FIGURES: Mapping[str, FigureKind] = {
    "accuracy": FigureKind(
        "Accuracy of each arm: mean with its 95 % interval over splits, and a stroke for each split. Hollow: methods "
        "without training.",
        accuracy_figure,
    ),
    "differences": FigureKind(
        "Differences paired by split: mean with its 95 % interval, and a stroke for each split. Grey: the margin "
        "within which two arms count as equal.",
        differences_figure,
    ),
    "learning": FigureKind(
        "Validation accuracy of the chosen runs by training step, the mean over splits. A run that stopped early keeps "
        "its last value.",
        learning_figure,
    ),
    "ranks": FigureKind(
        "Average ranks over graphs. From ten graphs on, bars join arms whose ranks are closer than the critical "
        "difference of the Nemenyi test.",
        ranks_figure,
    ),
    "time": FigureKind(
        "Accuracy against the measured time of a training step. Lines: methods without training.",
        time_figure,
        takes_times=True,
    ),
    "stages": FigureKind("Measured time of a training step by stage.", stages_figure, takes_times=True),
}
"""All figures by name, in the order of a report."""


def draw_figure(kind: FigureKind, results: Results, times: Times) -> Figure:
    """Draw a figure.

    Raises:
        NothingToShowError: If there are no results of its kind.
    """
    return kind.draw(results, times) if kind.takes_times else kind.draw(results)


def _mean_curve(results: Results, part: Part, arm: Arm) -> tuple[Array, Array]:
    """Steps, and the mean over runs of the validation accuracy in percent; empty where no run has a log."""
    chosen = [results.chosen.get((part.label, arm.label, split), {}) for split in results.grid.splits]
    curves = [curve for runs in chosen for curve in map(_curve, runs.values()) if len(curve)]
    if not curves:
        return np.empty(0), np.empty(0)
    first = max(curve[0, 0] for curve in curves)
    steps = np.unique(np.concatenate([curve[:, 0] for curve in curves]))
    steps = steps[steps >= first]
    values = [curve[np.searchsorted(curve[:, 0], steps, side="right") - 1, 1] for curve in curves]
    return steps, np.mean(values, axis=0)


def _curve(record: Record) -> Array:
    """Step and validation accuracy in percent of each validation of a run, shape ``[num_validations, 2]``."""
    log = RunDirectory(record.directory).log
    lines = map(json.loads, log.read_text(encoding="utf-8").splitlines() if log.is_file() else ())
    found = [(line["step"], 100 * line["val_accuracy"]) for line in lines if "val_accuracy" in line]
    return np.array(found, dtype=np.float64).reshape(-1, 2)


def _known_times(times: Times) -> dict[tuple[str, str], ArmTime]:
    if not times:
        raise NothingToShowError("Expected measured times (there is no times.json). Measure them with: fgsam time GRID")
    return {(time.part, time.arm): time for time in times}


def _alike(ranks: Array, gap: float) -> list[tuple[float, float]]:
    """Ends of the largest groups of sorted ranks that lie within a critical difference."""
    found: list[tuple[float, float]] = []
    for i, low in enumerate(ranks):
        last = int(np.searchsorted(ranks, low + gap, side="left")) - 1
        if last > i and (not found or ranks[last] > found[-1][1]):
            found.append((float(low), float(ranks[last])))
    return found
