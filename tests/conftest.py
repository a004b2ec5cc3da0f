"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from tests.needs import skip_unless_required

torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Parsed graphs go to a folder of this test run, one for all its workers and for processes that a test starts."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    folder.mkdir(exist_ok=True)
    os.environ["FGSAM_CACHE"] = str(folder)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of the real graphs; the test is skipped where there is none, and fails where they are required."""
    folder = os.environ.get("FGSAM_DATA")
    if not folder or not Path(folder).is_dir():
        skip_unless_required("needs the real graphs: set FGSAM_DATA to their folder", "FGSAM_REQUIRE_DATA")
    return Path(folder)
