from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fgsam.cli import app

ROOT = Path(__file__).parents[1]


def example(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def without_measured_figures(page: str) -> list[str]:
    """The lines of a page; those of the last command, a run, without digits, progress and the width of columns."""
    fixed, command, run = page.rpartition("$ fgsam run")
    run = re.sub(r"-[0-9a-f]{12}\b|\d[\d.,:]*|[─ ]+", " ", run)
    return [*(fixed + command).splitlines(), *(line for line in run.splitlines() if not line.startswith("Episode"))]


def test_the_transcript_in_the_docs_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def execute(folder: Path, words: list[str]) -> str:
        return CliRunner(env={"COLUMNS": "100", "NO_COLOR": "1"}).invoke(app, words[1:]).output

    page = example("own_graph").transcript(tmp_path, execute)
    kept = (ROOT / "docs/own_graph_transcript.md").read_text(encoding="utf-8")
    assert without_measured_figures(page) == without_measured_figures(kept)
    assert page.count("Error: ") == 4
    assert "test accuracy" in page
