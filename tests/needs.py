"""What some tests need beside Python."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def skip_unless_required(missing: str, variable: str) -> NoReturn:
    """Skip a test for want of something, or fail it where a variable of the environment says that it must be there."""
    if os.environ.get(variable):
        pytest.fail(missing)
    pytest.skip(missing)
