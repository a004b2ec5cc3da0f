"""That measurements are found by name."""

from __future__ import annotations

from benchmarks.__main__ import NAMES
from tests.benchmarks.measure import Measure, measure_in_fresh_process


def test_without_a_name_the_measurements_are_listed(measure: Measure):
    listed = measure_in_fresh_process()
    assert all(f"  {name} " in listed for name in NAMES)
    assert list(NAMES) == sorted(NAMES)
    assert measure("episode_sped", code=2) == listed
