import subprocess
import sys

import numpy as np

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
