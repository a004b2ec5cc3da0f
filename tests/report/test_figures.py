from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fgsam.comparison.grid import Cell, Part
from fgsam.comparison.results import Results
from fgsam.comparison.times import ArmTime
from fgsam.report.comparison import Comparison
from fgsam.report.drawing import WIDTH, folded, save, svg
from fgsam.report.figures import (
    FIGURES,
    NothingToShowError,
    accuracy_figure,
    differences_figure,
    draw_figure,
    learning_figure,
    ranks_figure,
    stages_figure,
    time_figure,
)
from tests.report.made import made_results

STAGES = {"draw": 0.25, "update": 0.75}
LONG = "a_method_with_a_very_long_name/an_optimizer_with_a_very_long_name_"


def score(split: int, part: str, arm: str, seed: int, trial: int) -> float:
    return 60.0 + 3 * split + {"gpn/sam": 2 + 0.5 * (split % 2), "raw_lr": -10}.get(arm, 0) + len(part) % 7


def times_of(results: Results) -> list[ArmTime]:
    arms = [arm for arm in results.grid.arms if arm.is_trained]
    return [ArmTime(part.label, arm.label, 4.0, 3.0, 6.0, STAGES) for part in results.grid.parts for arm in arms]


def write_logs(results: Results, curves: dict[int, list[float]]) -> None:
    """Give each trained run the validation accuracies of its split, every 10 steps."""
    for cell, record in results.records.items():
        if "/" in cell.arm:
            record.directory.mkdir(parents=True)
            lines = [{"step": 10 * (i + 1), "val_accuracy": value} for i, value in enumerate(curves[int(cell.split)])]
            text = "".join(json.dumps(line) + "\n" for line in [{"step": 1, "loss": 0.5}, *lines])
            (record.directory / "log.jsonl").write_text(text)


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


def all_figures(results: Results) -> dict[str, Figure]:
    return {name: draw_figure(kind, results, times_of(results)) for name, kind in FIGURES.items()}


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Twelve arms with long names on two graphs."""
    arms = [*(f"{LONG}{i}" for i in range(9)), "raw_lr", "sgc_lr", "sgc_prototype"]
    parts = [Part(f"graph {i}", f"graph {i}") for i in range(2)]

    def by_arm(split: int, part: str, arm: str, seed: int, trial: int) -> float:
        return 60 + arms.index(arm) + split

    results = made_results(by_arm, arms=arms, parts=parts, hypotheses=(), folder=tmp_path_factory.mktemp("crowded"))
    write_logs(results, {split: [0.5, 0.6, 0.7] for split in range(3)})
    return results


def test_every_part_is_inside_the_figure_also_with_twelve_long_names(crowded: Results):
    for name, figure in all_figures(crowded).items():
        box = figure.get_tightbbox(FigureCanvasAgg(figure).get_renderer())
        width, height = figure.get_size_inches()
        assert width == pytest.approx(WIDTH), name
        assert box.x0 > -0.05, name
        assert box.y0 > -0.05, name
        assert box.x1 < width + 0.05, name
        assert box.y1 < height + 0.05, name


def test_no_two_names_of_a_rank_diagram_overlap(crowded: Results):
    figure = ranks_figure(crowded)
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = [text.get_window_extent(renderer) for text in figure.axes[0].texts]
    assert len(boxes) == 12
    assert not any(first.overlaps(second) for i, first in enumerate(boxes) for second in boxes[:i])


def test_the_accuracy_figure_shows_means_intervals_and_splits():
    axes = accuracy_figure(made_results(score, parts=[Part("cora", "cora")])).axes[0]
    means = {float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() in "os"}
    assert sorted(means) == pytest.approx([57.0, 67.0, 67 + 6.5 / 3])
    assert [64.0, 67.0, 70.0] in [sorted(set(line.get_xdata())) for line in axes.lines]
    bars = [bar for bar in axes.collections if len(bar.get_segments())]  # type: ignore[attr-defined]
    assert len(bars) == 3


def test_one_split_has_a_dot_and_no_interval():
    axes = accuracy_figure(made_results(score, splits=1)).axes[0]
    assert axes.lines
    assert not axes.collections


def test_floors_are_hollow():
    lines = accuracy_figure(made_results(score)).axes[0].lines
    faces = [line.get_markerfacecolor() for line in lines if line.get_marker() in "os"]
    assert faces == ["black", "black", "white"]


def test_an_arm_without_a_result_is_told():
    missing = [Cell(split, "cora", "gpn/sam", 0, 0) for split in range(3)]
    assert "not finished" in texts(accuracy_figure(made_results(score, missing=missing)))


def test_the_difference_figure_shows_the_pair_zero_and_the_margin():
    figure = differences_figure(made_results(score, margin=0.7))
    (axes,) = figure.axes
    assert "gpn/sam\nminus gpn/adam" in texts(figure)
    (band,) = axes.patches
    assert band.get_extents().transformed(axes.transData.inverted()).intervalx == pytest.approx([-0.7, 0.7])
    assert any(list(line.get_xdata()) == [0, 0] for line in axes.lines)
    assert any(list(line.get_xdata()[::3]) == [2.0, 2.5, 2.0] for line in axes.lines)


def test_pooled_differences_have_one_panel():
    results = made_results(score, parts=[Part("cora", "cora"), Part("citeseer", "citeseer")], pooled=True)
    assert [axes.get_title("left") for axes in differences_figure(results).axes] == ["mean over all parts"]


def test_learning_curves_are_means_over_splits_and_keep_the_last_value(tmp_path: Path):
    results = made_results(score, splits=2, folder=tmp_path)
    write_logs(results, {0: [0.5, 0.6, 0.7], 1: [0.3, 0.4]})
    lines = {line.get_label(): line for line in learning_figure(results).axes[0].lines}
    assert set(lines) == {"gpn/adam", "gpn/sam"}
    assert list(lines["gpn/sam"].get_xdata()) == [10, 20, 30]
    assert list(lines["gpn/sam"].get_ydata()) == pytest.approx([40, 50, 55])


def test_times_are_shown_only_where_they_were_measured():
    results = made_results(score)
    for draw in (time_figure, stages_figure):
        with pytest.raises(NothingToShowError, match="fgsam time"):
            draw(results, [])
    axes = time_figure(results, times_of(results)[:1]).axes[0]
    assert set(axes.get_legend_handles_labels()[1]) == {"gpn/adam", "raw_lr (floor)"}


def test_stages_add_up_to_the_measured_time():
    results = made_results(score)
    bars = stages_figure(results, times_of(results)).axes[0].patches
    assert [round(bar.get_width(), 6) for bar in bars] == [1.0, 3.0] * 2  # type: ignore[attr-defined]
    without = [ArmTime("cora", "gpn/adam", 4.0, 3.0, 6.0, {})]
    with pytest.raises(NothingToShowError, match="device"):
        stages_figure(results, without)


def test_ranks_join_what_cannot_be_told_apart_from_ten_graphs_on():
    def by_graph(split: int, part: str, arm: str, seed: int, trial: int) -> float:
        order = ["gpn/adam", "gpn/sam", "raw_lr"]
        return 50 + int(part) - 9 * (arm == "raw_lr") + (1 - 2 * (int(part) % 2)) * order.index(arm)

    few, many = (made_results(by_graph, parts=[Part(str(i), f"{i}") for i in range(n)]) for n in (9, 10))
    bars = [line for line in ranks_figure(many).axes[0].lines if line.get_linewidth() == 3]
    assert [list(np.round(bar.get_xdata(), 2)) for bar in bars] == [[1.47, 1.53]]
    assert "critical difference" in texts(ranks_figure(many))
    assert "critical difference" not in texts(ranks_figure(few))
    with pytest.raises(NothingToShowError, match="two graphs"):
        ranks_figure(made_results(score))


def test_the_same_results_give_the_same_bytes_in_any_process(tmp_path: Path):
    results = made_results(score)
    files = save(accuracy_figure(results), tmp_path / "first")
    program = (
        "import sys, matplotlib; matplotlib.rcParams.update({'font.size': 20, 'svg.fonttype': 'none'})\n"
        "from tests.report.test_figures import *\n"
        f"save(accuracy_figure(made_results(score)), {str(tmp_path / 'second')!r})\n"
        "assert 'matplotlib.pyplot' not in sys.modules, 'pyplot opens windows and keeps figures'"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])
    for file in files:
        assert file.read_bytes() == (tmp_path / f"second{file.suffix}").read_bytes()


def test_settings_of_the_user_stay_as_they_are():
    before = dict(mpl.rcParams)
    accuracy_figure(made_results(score))
    assert dict(mpl.rcParams) == before


def test_letters_are_shapes_or_text_by_choice():
    figure = accuracy_figure(made_results(score))
    assert "<text" not in svg(figure)
    assert ">gpn/sam</text>" in svg(figure, text="none")


def test_dollars_in_a_name_are_no_formula():
    arms = ("a/$x^{$", "b/$y", "raw_lr")
    figure = accuracy_figure(made_results(lambda *_: 60.0, arms=arms, hypotheses=()))
    assert ">a/$x^{$</text>" in svg(figure, text="none")


def test_long_names_break_where_they_can():
    assert folded("gpn/fgsam_plus", 40) == "gpn/fgsam_plus"
    assert folded("one two\nminus three", 9) == "one two\nminus\nthree"
    assert max(map(len, folded(LONG, 20).splitlines())) <= 20
    assert folded(LONG, 20).replace("\n", "") == LONG
    assert folded("x" * 45, 20).replace("\n", "") == "x" * 45


def test_a_comparison_draws_what_it_has_results_for():
    results = made_results(score)
    assert list(Comparison(results).figures) == ["accuracy", "differences"]
    assert list(Comparison(results, times_of(results)).figures) == ["accuracy", "differences", "time", "stages"]
