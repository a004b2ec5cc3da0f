from __future__ import annotations

import sys

import pytest

from benchmarks.__main__ import main
from tests.benchmarks.measure import ROOT, Measure


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Measure:
    """``python -m benchmarks`` in this process; returns what it prints."""
    monkeypatch.chdir(ROOT)

    def run(*arguments: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
        assert main() == code
        return capsys.readouterr().out

    return run
