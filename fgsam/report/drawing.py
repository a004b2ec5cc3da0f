"""How all figures look: sizes, colours, panels, rows, and the files they become."""

from __future__ import annotations

import functools
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, ParamSpec

import matplotlib.style
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fgsam.comparison.grid import Arm
from fgsam.comparison.statistics import SplitMean, mean_over_splits
from fgsam.files import write_atomically

P = ParamSpec("P")

WIDTH = 7.2
"""Inches: two columns of most journals."""
LEGEND_WIDTH = 44
"""Letters of a line."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Of Okabe and Ito, Color Universal Design, 2008: apart for all kinds of colour vision."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
DASHES = ("-", "--", "-.", ":")
GREY = "#6F6F6F"
BAND = "#E6E6E6"
STYLE: Mapping[str, Any] = {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "figure.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.3,
    "lines.markersize": 5,
    "legend.frameon": False,
    "svg.hashsalt": "fgsam",
}


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw in our style, whatever the user has set for own figures, and find the places of all parts once."""

    @functools.wraps(draw)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.style.context(["default", dict(STYLE)]):
            figure = draw(*args, **kwargs)
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
            return figure

    return wrapped


def save(figure: Figure, path: Path | str) -> tuple[Path, Path]:
    """Write a figure as SVG and as PNG, the same bytes for the same figure.

    Args:
        figure: The figure.
        path: Where, without a suffix; the folder exists.

    Returns:
        The two files.

    Raises:
        OSError: If a file cannot be written.
    """
    place = Path(path)
    files = place.with_name(f"{place.name}.svg"), place.with_name(f"{place.name}.png")
    write_atomically(files[0], svg(figure).encode())
    buffer = io.BytesIO()
    with matplotlib.style.context(["default", dict(STYLE)]):
        figure.savefig(buffer, format="png", dpi=200, metadata={"Software": None})
    write_atomically(files[1], buffer.getvalue())
    return files


def svg(figure: Figure, *, text: Literal["path", "none"] = "path") -> str:
    """Return a figure as SVG, the same text for the same figure.

    Args:
        figure: The figure.
        text: ``"path"`` draws letters as shapes, which look alike everywhere; ``"none"`` leaves them text.
    """
    buffer = io.StringIO()
    with matplotlib.style.context(["default", {**STYLE, "svg.fonttype": text}]):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def panels(titles: Sequence[str], *, height: float, num_columns: int = 2) -> tuple[Figure, list[Axes]]:
    """Return a figure with one panel for each title, side by side while there is room; ``height`` is that of one."""
    num_columns = min(num_columns, len(titles))
    num_rows = math.ceil(len(titles) / num_columns)
    figure = Figure(figsize=(WIDTH, num_rows * height + 0.4), layout="constrained")
    found = list(figure.subplots(num_rows, num_columns, squeeze=False).flat)
    for axes in found[len(titles) :]:
        axes.remove()
    for axes, title in zip(found, titles, strict=False):
        axes.set_title(folded(title, 80 // num_columns))
        axes.grid()
    return figure, found[: len(titles)]


def row_panels(titles: Sequence[str], rows: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """Return a figure with one panel for each title, whose rows have names that stand at the left edge."""
    names = [folded(name, 34) for name in rows]
    height = 0.5 + 0.25 * len(rows) + 0.13 * sum(name.count("\n") for name in names)
    figure, found = panels(titles, height=height)
    num_columns = min(2, len(titles))
    for number, axes in enumerate(found):
        axes.set(ylim=(len(rows) - 0.4, -0.6), yticks=range(len(rows)))
        axes.set_yticklabels(names if number % num_columns == 0 else [])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(visible=False, axis="y")
    return figure, found


def draw_row(axes: Axes, row: int, values: Mapping[int | str, float], *, is_floor: bool) -> None:
    """Draw the mean of some splits with its interval, and below it a stroke for each of them."""
    if not values:
        axes.text(0.5, row, "not finished", transform=axes.get_yaxis_transform(), ha="center", va="center", color=GREY)
        return
    found, colour = mean_over_splits(list(values.values())), GREY if is_floor else "black"
    places, heights = np.repeat([*values.values()], 3), np.tile([row + 0.16, row + 0.32, np.nan], len(values))
    axes.plot(places, heights, color=GREY, linewidth=0.7)  # one path: smaller files than markers
    style: dict[str, Any] = {"marker": "s", "markerfacecolor": "white"} if is_floor else {"marker": "o"}
    axes.errorbar(found.mean, row, xerr=finite_half_width(found), color=colour, capsize=2.5, **style)


def line_style(arm: Arm, arms: Sequence[Arm]) -> dict[str, Any]:
    """Return what tells the line of an arm from others: in colour, and in grey by marker and dashes."""
    number = arms.index(arm)
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[number % len(MARKERS)],
        "linestyle": DASHES[(number + number // len(COLOURS)) % len(DASHES)],
    }


def legend_above(figure: Figure, shown: Sequence[Axes], labels: Sequence[str]) -> None:
    """Name every line once, above all panels, in the order of the labels."""
    found: dict[str, Artist] = {}
    for axes in shown:
        found |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    named = {folded(label, LEGEND_WIDTH): found[label] for label in labels if label in found}
    longest = max(len(line) for label in named for line in label.splitlines())
    columns = {"ncols": max(1, min(4, 105 // (longest + 8))), "handlelength": 3.2}
    figure.legend(list(named.values()), list(named), loc="outside upper center", **columns)


def finite_half_width(found: SplitMean) -> float | None:
    """Return the half-width of an interval, or None where there is none."""
    return found.half_width if math.isfinite(found.half_width) else None


def folded(text: str, width: int) -> str:
    """Break the lines of a text after a space, a slash, an underscore or a hyphen, or within a word that is too long.

    Example:
        >>> print(folded("gpn/fgsam_plus", 10))
        gpn/fgsam_
        plus
    """
    lines: list[str] = []
    for written in text.splitlines():
        lines.append("")
        for piece in re.findall(rf"[^\s/_-]{{1,{width - 1}}}[\s/_-]?|.", written):
            if len(lines[-1]) + len(piece.rstrip()) > width:
                lines.append("")
            lines[-1] += piece
    return "\n".join(line.strip() for line in lines).replace("$", r"\$")  # a pair of these would begin a formula
