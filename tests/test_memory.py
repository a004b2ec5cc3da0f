import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fgsam.memory import peak_memory_mb


def test_peak_grows_with_what_is_taken():
    before = peak_memory_mb()
    taken = np.ones(2**24)  # 128 MiB, written to
    assert peak_memory_mb() >= taken.nbytes / 2**20
    assert peak_memory_mb() >= before


def test_a_child_does_not_inherit_the_peak_of_its_parent():
    ballast = np.ones(2**25)  # 256 MiB in this process
    code = "from fgsam.memory import peak_memory_mb; print(peak_memory_mb())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < ballast.nbytes / 2**20


@pytest.mark.parametrize("status", [None, "Name:\tpython\nVmRSS:\t1 kB\n"], ids=["no file", "no such line"])
def test_a_system_that_does_not_tell_the_peak_costs_no_result(monkeypatch, status):
    def read_text(path, **options):
        if status is None:
            raise FileNotFoundError(path)
        return status

    monkeypatch.setattr(Path, "read_text", read_text)
    assert peak_memory_mb() > 1
