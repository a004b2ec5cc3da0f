from __future__ import annotations

import ast
import difflib
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main
from torch_geometric.nn import GAT
from typer.testing import CliRunner

from fgsam.cli import app
from fgsam.cli_tables import learner_table, optimizer_table
from fgsam.comparison.grid_source import load_grid
from fgsam.engine.config import load_config
from fgsam.nn.peer import peer_report

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks_of(page: Path) -> Iterator[tuple[str, str, int]]:
    """Language, text and first line number of each fenced block."""
    content = page.read_text(encoding="utf-8")
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", content, re.DOTALL | re.MULTILINE):
        yield match[1], match[2], content.count("\n", 0, match.start(2))


def commands_of(page: Path) -> Iterator[list[str]]:
    """The arguments of each command line that calls the package."""
    for language, text, _ in blocks_of(page):
        for line in text.splitlines() if language in ("", "sh", "bash", "console") else ():
            words = shlex.split(line, comments=True)
            if words and Path(words[0]).name == "fgsam":
                yield words[1:]


@cache
def messages() -> str:
    """Every text in the code of the package, one a line, an X for each value that is put in."""
    return "\n".join(_texts())


def _texts() -> Iterator[str]:
    for path in (ROOT / "fgsam").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def parsed(arguments: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Verb and parameters of a command line, which is not executed."""
    command: Any = typer.main.get_command(app)
    verb: list[str] = []
    context = command.make_context("fgsam", list(arguments))
    while hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        verb.append(name)
        context = command.make_context(name, rest, parent=context)
    return verb, context.params


@each_page
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for language, text, line in blocks_of(page):
        if language == "python":
            exec(compile("\n" * line + text, page, "exec"), namespace)


@each_page
def test_links_lead_to_files(page: Path):
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    targets = re.findall(r"\]\(([^)\s]+)\)", prose)
    places = [target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:", target)]
    assert [place for place in places if place and not (page.parent / place).exists()] == []


LONG = ("evaluate", "report", "plan", "time", "tune", "pack")


@each_page
def test_command_lines_can_be_parsed(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("my.yaml").write_text("episode: {n_way: 3}\n")
    Path("my_grid.yaml").write_text("arms: [{method: gpn}]\n")
    for arguments in commands_of(page):
        verb, parameters = parsed(arguments)
        if verb == ["run"]:
            arguments = ["config", "show", *(parameters["settings"] or [])]
        elif verb == ["advise"]:
            arguments = [*arguments, "--seconds", "1"]
        elif verb == ["compare"] and "--dry-run" not in arguments:
            arguments = [*arguments, "--dry-run"]
        elif verb[0] in LONG or verb[-1] in ("get", "check", "convert"):
            continue  # they take long, or read runs, the network or files, which are not here
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, (arguments, done.stderr)


@each_page
def test_yaml_blocks_are_configs_or_grids(page: Path, tmp_path: Path):
    for language, text, line in blocks_of(page):
        if language == "yaml":
            path = tmp_path / f"line{line}.yaml"
            path.write_text(text)
            load = load_grid if "arms:" in text else load_config
            load(path)


@each_page
def test_quoted_messages_are_in_the_code(page: Path):
    rows = re.findall(r"^\| (`.+?`) \|", page.read_text(encoding="utf-8").partition("| message |")[2], re.MULTILINE)
    quoted = [text for row in rows for text in row.strip("`").split("`, `")]
    patterns = [".*".join(map(re.escape, text.split("..."))) for text in quoted]
    assert [text for text, pattern in zip(quoted, patterns, strict=True) if not re.search(pattern, messages())] == []


def test_a_wrong_command_line_would_be_found():
    assert parsed(["data", "splits", "synthetic"]) == (["data", "splits"], {"name": "synthetic", "n_way": None})
    with pytest.raises(Exception, match="No such option"):
        parsed(["run", "--jsn"])


def test_the_readme_shows_every_verb():
    shown = {tuple(parsed(arguments)[0]) for arguments in commands_of(ROOT / "README.md")}
    groups = [(), *((group.name,) for group in app.registered_groups)]
    typers = [app, *(group.typer_instance for group in app.registered_groups)]
    verbs = {
        (*group, command.name or command.callback.__name__)  # type: ignore[union-attr]
        for group, commands in zip(groups, typers, strict=True)
        for command in commands.registered_commands  # type: ignore[union-attr]
    }
    assert shown == verbs


def table_of(page: str) -> list[list[str]]:
    """The cells of the one table of a page."""
    lines = (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| ")]


@pytest.mark.parametrize(
    ("page", "made", "by_hand"),
    [
        ("optimizers.md", optimizer_table, ["public code"]),
        ("learners.md", learner_table, ["cost", "public code"]),
    ],
)
def test_the_page_on_a_registry_has_the_table_of_the_command_line(page: str, made: Any, by_hand: list[str]):
    columns, rows = made()
    shown = table_of(page)
    assert shown[0] == [*columns, *by_hand]
    expected = [[f"`{row[0]}`", *("-" if cell is None else cell for cell in row[1:])] for row in rows]
    assert [row[: len(columns)] for row in shown[1:]] == expected
    assert all(len(row) == len(shown[0]) and all(row) for row in shown)


def test_a_learner_of_ones_own_takes_forty_lines():
    (text,) = [text for language, text, _ in blocks_of(ROOT / "docs" / "learners.md") if "class CosineNet" in text]
    assert len(text.splitlines()) <= 40


def test_the_page_for_loops_changes_one_into_the_other_by_three_lines():
    blocks = [(language, text) for language, text, _ in blocks_of(ROOT / "docs" / "plug_in.md")]
    loops = [text.splitlines() for language, text in blocks if language == "python" and "for epoch in" in text]
    before, after = loops
    diff = [line for line in difflib.ndiff(before, after) if not line.startswith("? ")]
    shown = [line for language, text in blocks if language == "diff" for line in text.splitlines()]
    removed, added = ([line[1:] for line in shown if line.startswith(sign)] for sign in "-+")
    assert removed == [line[2:] for line in diff if line.startswith("- ")]
    assert added == [line[2:] for line in diff if line.startswith("+ ")]
    assert len(added) == 3


def test_the_page_for_loops_shows_the_report_of_a_peer():
    (shown,) = [text for language, text, _ in blocks_of(ROOT / "docs" / "plug_in.md") if language == "text"]
    assert shown.rstrip("\n") == str(peer_report(GAT(8, 16, num_layers=2, out_channels=4)))
