"""From two CSV files with three mistakes in them to a table of results, by following the messages alone.

``python examples/own_graph.py`` works in a temporary folder and prints a page with every command and its output;
``python examples/own_graph.py FILE`` writes the page into a file.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

INTRODUCTION = """\
# From two CSV files to a table of results

Written by `python examples/own_graph.py docs/own_graph_transcript.md`, which runs the commands; a test repeats it. Two
tables from a spreadsheet lie in an empty folder: `nodes.csv`, the members of nine clubs, and `edges.csv`, who talks to
whom. Three mistakes are in them. Each is mended by doing what the message says.
"""


def write_tables(folder: Path) -> None:
    """Write the members of nine clubs, who talk mostly within their club, with three mistakes."""
    rng = random.Random(1)
    clubs = ["archery", "bridge", "chess", "cooking", "dance", "fencing", "go", "judo", "rowing"]
    members = [(f"m{number:03}", clubs[number % len(clubs)]) for number in range(180)]
    nodes = ["id,club,age,hours"]
    for name, club in members:
        nodes.append(f"{name},{club},{rng.randint(18, 60)},{clubs.index(club) / 2 + rng.random():.2f}")
    edges = ["source,target"]
    for name, club in members:
        friends = [other for other, its in members if its == club and other > name]
        edges += [f"{name},{other}" for other in rng.sample(friends, min(3, len(friends)))]
        edges.append(f"{name},{rng.choice(members)[0]}")
    nodes[40] = nodes[40].rpartition(",")[0] + ",n/a"
    edges[7] = edges[7].replace(",m", ",n")
    (folder / "nodes.csv").write_text("\n".join(nodes) + "\n")
    (folder / "edges.csv").write_text("\n".join(edges) + "\n")


def head(folder: Path, name: str) -> str:
    """The first lines of a file, as a block."""
    lines = (folder / name).read_text().splitlines()[:4]
    return "\n".join([f"`{name}` begins:", "", "```text", *lines, "```", ""])


def execute(folder: Path, words: list[str]) -> str:
    """Run a command line in a process of its own, and return what it prints."""
    environment = os.environ | {"COLUMNS": "100", "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout


def mend(folder: Path, name: str, line: int, old: str, new: str) -> str:
    """Change a line of a file, and say so."""
    path = folder / name
    lines = path.read_text().splitlines()
    before, lines[line - 1] = lines[line - 1], lines[line - 1].replace(old, new)
    if before == lines[line - 1]:
        raise ValueError(f"Expected '{old}' in line {line} of '{name}' (got '{before}').")
    path.write_text("\n".join(lines) + "\n")
    return f"So line {line} of `{name}` changes from `{before}` to `{lines[line - 1]}`.\n"


def transcript(folder: Path, execute: Callable[[Path, list[str]], str] = execute) -> str:
    """Make the tables in an empty folder, mend them, run, and return the whole page."""

    def command(text: str) -> str:
        lines = [f"$ {text}", *execute(folder, text.split()).splitlines()]
        return "\n".join(["```text", *(line.rstrip() for line in lines), "```", ""])

    write_tables(folder)
    convert = "fgsam data convert edges.csv clubs.npz"
    steps = [
        INTRODUCTION,
        head(folder, "nodes.csv"),
        head(folder, "edges.csv"),
        command(convert),
        mend(folder, "nodes.csv", 1, "club", "label"),
        command(convert),
        mend(folder, "nodes.csv", 41, "n/a", "1.57"),
        command(convert),
        mend(folder, "edges.csv", 8, ",n", ",m"),
        command(convert),
        "The tables are whole now. One question is left, which only their owner can answer: talking goes both ways.\n",
        command(f"{convert} --symmetrise"),
        command("fgsam run dataset.path=clubs.npz episode.n_way=2"),
    ]
    return "\n".join(steps)


def main() -> None:
    """Print the page, or write it into the file that is named."""
    with tempfile.TemporaryDirectory() as folder:
        page = transcript(Path(folder))
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(page, encoding="utf-8")
    else:
        print(page, end="")


if __name__ == "__main__":
    main()
