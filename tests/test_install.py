"""Project file, pinned versions and the install lines that are shown agree."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
DIRECT = sorted({*PROJECT["dependencies"], *(text for extra in EXTRAS.values() for text in extra)})


def pinned() -> dict[str, str]:
    pins = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().split()]
    versions = {}
    for pin in pins:
        (specifier,) = pin.specifier
        assert specifier.operator == "==", f"{pin} is no exact version"
        versions[canonicalize_name(pin.name)] = specifier.version
    assert len(versions) == len(pins), "a package is pinned twice"
    return versions


@pytest.mark.parametrize("text", DIRECT)
def test_a_direct_dependency_is_pinned_to_a_version_that_it_allows(text: str):
    wanted = Requirement(text)
    assert wanted.specifier.contains(pinned()[canonicalize_name(wanted.name)])


def test_an_extra_asks_for_the_same_versions_everywhere():
    asked: dict[str, set[str]] = {}
    for text in DIRECT:
        asked.setdefault(Requirement(text).name, set()).add(text)
    assert [texts for texts in asked.values() if len(texts) > 1] == []


@pytest.mark.parametrize("name", ["README.md", "Makefile"])
def test_install_lines_use_the_pins_and_existing_extras(name: str):
    content = (ROOT / name).read_text(encoding="utf-8")
    lines = [line for line in content.splitlines() if "pip install" in line]
    assert lines
    assert all("-c constraints.txt" in line for line in lines)
    named = {extra for group in re.findall(r"\.\[([\w,]+)\]", content) for extra in group.split(",")}
    assert named
    assert named <= set(EXTRAS)


def test_the_readme_names_the_oldest_python():
    oldest = PROJECT["requires-python"].removeprefix(">=")
    assert f"Python {oldest} or later" in (ROOT / "README.md").read_text(encoding="utf-8")
