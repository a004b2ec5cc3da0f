from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import fgsam
from fgsam.data.card import load_card

ROOT = Path(__file__).parents[1]

PROGRAM = """
import json, sys
import fgsam
from fgsam.data.card import load_card
config = fgsam.load_config("coauthor_cs/gpn")
split = fgsam.ClassSplit.load("coauthor_cs", 0)
facts = {
    "file": fgsam.__file__,
    "version": fgsam.__version__,
    "dataset": config.dataset.name,
    "meta_test": split.meta_test,
    "num_nodes": load_card("coauthor_cs").num_nodes,
    "others": [name for name in ("tests", "benchmarks") if name in sys.modules],
}
print(json.dumps(facts))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    assert path.name.startswith(f"fgsam-{fgsam.__version__}-py3")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def in_wheel(wheel: Path, elsewhere: Path, *arguments: str) -> str:
    """Run Python where only the wheel is at hand."""
    environment = {**os.environ, "PYTHONPATH": str(wheel), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-P", *arguments]
    done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_package_and_its_data_alone(wheel: Path):
    assert {path.name for path in wheel.iterdir()} == {"fgsam", f"fgsam-{fgsam.__version__}.dist-info"}
    assert (wheel / "fgsam" / "py.typed").is_file()
    assert len(list(wheel.rglob("LICENSE"))) == 1
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "fgsam").rglob("*.py")}
    packed = {str(path.relative_to(wheel)) for path in wheel.rglob("*.py") if "_assets" not in path.parts}
    assert packed == modules
    assert not list(wheel.rglob("*.pyc"))


@pytest.mark.parametrize("folder", ["configs", "datasets"])
def test_configs_cards_and_splits_travel_inside(wheel: Path, folder: str):
    for path in (ROOT / folder).rglob("*"):
        if path.suffix in (".yaml", ".json"):
            packed = wheel / "fgsam" / "_assets" / folder / path.relative_to(ROOT / folder)
            assert packed.read_bytes() == path.read_bytes()


def test_it_works_without_the_checkout(wheel: Path, tmp_path: Path):
    facts = json.loads(in_wheel(wheel, tmp_path, "-c", PROGRAM))
    assert Path(facts.pop("file")).is_relative_to(wheel)
    assert facts == {
        "version": fgsam.__version__,
        "dataset": "coauthor_cs",
        "meta_test": list(fgsam.ClassSplit.load("coauthor_cs", 0).meta_test),
        "num_nodes": 18333,
        "others": [],
    }


def test_its_command_line_reads_what_travels_inside(wheel: Path, tmp_path: Path):
    shown = in_wheel(wheel, tmp_path, "-m", "fgsam", "data", "show", "synthetic")
    card = load_card("synthetic")
    for text in (card.title, card.digests["default"], f"{card.num_edges:,}"):
        assert text in shown
