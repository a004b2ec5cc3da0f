from __future__ import annotations

import io
import logging
import sys
import types

import pytest

from fgsam.engine import progress
from fgsam.engine.progress import NotebookProgress, ProgressBar, ProgressLines, make_progress
from tests.engine.tiny import tiny_trainer


def test_lines_are_sparse_and_name_speed_loss_accuracy_and_time_left(caplog, monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    with caplog.at_level(logging.INFO):
        tiny_trainer(callbacks=[ProgressLines()]).fit()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1 + 4 + 1
    assert lines[0] == "Training 20 episodes, from episode 1 on"
    assert "left" not in lines[-1]
    for fact in ("Episode 5 of 20", "episodes/s", "loss", "validation", "best", "left"):
        assert fact in lines[1]


def test_lines_between_two_moments_are_left_out(caplog):
    with caplog.at_level(logging.INFO):
        tiny_trainer(callbacks=[ProgressLines()]).fit()
    assert len(caplog.records) == 2


def test_the_bar_draws_and_goes_away(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(progress, "REDRAW_SECONDS", 0.0)
    assert isinstance(make_progress("auto")[0], ProgressBar)
    tiny_trainer(callbacks=make_progress("bar")).fit()
    assert "/20" in screen.getvalue()


def test_without_a_terminal_there_are_lines(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert isinstance(make_progress("auto")[0], ProgressLines)


def test_a_notebook_gets_one_line_that_is_rewritten(monkeypatch):
    shown = []
    shell = type("ZMQInteractiveShell", (), {})()
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: shell
    display = types.ModuleType("IPython.display")
    display.Pretty = str
    display.display = lambda text, display_id: types.SimpleNamespace(update=shown.append)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr(progress, "REDRAW_SECONDS", 0.0)
    (callback,) = make_progress("auto")
    assert isinstance(callback, NotebookProgress)
    tiny_trainer(callbacks=[callback]).fit()
    assert len(shown) == 21
    assert "20/20" in shown[-1]
    assert "validation" in shown[-1]


def test_no_progress_can_be_asked_for_and_a_wrong_kind_is_named():
    assert make_progress("none") == []
    with pytest.raises(ValueError, match="'progress' to be one of"):
        make_progress("loud")
