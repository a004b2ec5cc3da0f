from __future__ import annotations

import ast
import resource
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import fgsam

PACKAGE = Path(fgsam.__file__).parent

LAYERS = [
    {"typing", "checks", "registry", "assets", "files", "locks", "memory"},
    {"functional"},
    {"graph"},
    {"optim"},
    {"nn"},
    {"episodes", "nodes"},
    {"data"},
    {"methods"},
    {"engine"},
    {"comparison"},
    {"sharpness", "report", "advice"},
    {
        *("cli", "cli_compare", "cli_data", "cli_get", "cli_plan", "cli_report", "cli_tables"),
        *("contract", "testing", "__main__", "__init__"),
    },
]
"""A file imports from its own row and the rows above it."""

RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def modules_imported_by(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            found.add(str(node.module))
    return {name for name in found if name.partition(".")[0] == "fgsam"}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_from_its_own_row_and_above_only(path: Path):
    place = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for module in modules_imported_by(path):
        if module == "fgsam":
            assert RANK[place] == len(LAYERS) - 1, f"{path} imports from the package instead of a file"
        else:
            assert RANK[module.split(".")[1]] <= RANK[place], f"{path} imports {module}"


def imported_at_start(path: Path) -> set[str]:
    """Modules of the package that a file imports when it is loaded: neither for types only nor inside a function."""
    body = ast.parse(path.read_text()).body
    nodes = [node for node in body if isinstance(node, ast.ImportFrom) and node.module]
    return {str(node.module) for node in nodes if str(node.module).startswith("fgsam.")}


def test_no_file_imports_itself_through_others():
    names = {path: ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in PACKAGE.rglob("*.py")}
    imports = {name: imported_at_start(path) for path, name in names.items()}
    for start in imports:
        reached, waiting = set(), list(imports[start])
        while waiting:
            module = waiting.pop()
            if module not in reached:
                reached.add(module)
                waiting += imports.get(module, ())
        assert start not in reached, f"{start} is part of an import cycle"


def test_subpackages_have_a_docstring_only():
    for path in PACKAGE.glob("*/__init__.py"):
        tree = ast.parse(path.read_text())
        assert len(tree.body) == 1, path
        assert ast.get_docstring(tree), path


def test_every_public_name_can_be_imported():
    for name in fgsam.__all__:
        assert getattr(fgsam, name) is not None
    assert set(fgsam.__all__) <= set(dir(fgsam))


def test_the_version_is_that_of_the_project():
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    assert fgsam.__version__ == project["version"]


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'grpah'"):
        fgsam.grpah  # noqa: B018


@pytest.mark.parametrize("module", ["fgsam", "fgsam.cli", "fgsam.registry", "fgsam.engine.config", "fgsam.data.card"])
def test_torch_is_not_imported_before_it_is_needed(module: str):
    program = f"import sys, {module}; print([name for name in ('torch', 'scipy', 'sklearn') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_takes_less_than_a_third_of_a_second():
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-m", "fgsam", "--help"], capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Processor time, which a busy neighbour does not change; alone on a machine the clock shows about the same.
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert "run" in done.stdout
    assert min(seconds) < 0.3
