"""Runs every cell of the paper's grids on generated files of its graphs' names, formats and shapes.

The raw files of the graphs do not come with the package. What runs here on generated ones, through the readers, the
cards, the class splits and the learners, will run where the files are. Accuracies of generated graphs say nothing of
the real ones, and none is shown. Ends with exit code 1 if a cell fails::

    python -m benchmarks paper_grids --scale 0.1 --out docs/results
    python -m benchmarks paper_grids --quick
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import yaml

from benchmarks.harness import command_line
from benchmarks.study import publish, written_grid
from fgsam.assets import asset_folder
from fgsam.comparison.grid import Cell
from fgsam.comparison.grid_source import grid_of_call
from fgsam.comparison.results import Results
from fgsam.data import card as cards
from fgsam.data import synthetic
from fgsam.data.folders import CACHE_VARIABLE, DATA_VARIABLE
from fgsam.data.load import load_graph
from fgsam.engine.config_model import FewShotConfig
from fgsam.graph.graph import Graph
from fgsam.graph.sparse import SparseMatrix
from fgsam.registry import DATASETS
from fgsam.report.compare import run_grid
from tests.data import miniature

GRIDS = ("compare/paper_table2", "compare/paper_table3")
GRAPHS = ("corafull", "fsnc_dblp", "ogbn_arxiv")
DENSE = ("ogbn_arxiv",)
"""Graphs whose features are real numbers; those of the others are words that a paper has or has not."""
PUBLISHED_PAIRS = {"fsnc_dblp": 288_270}
"""Undirected pairs where the card has no number of edges: the published one, each counted once."""
SMALLEST_CLASS = 16
"""Five shots and ten queries, and the one node that stands in no MATLAB file."""
WORDS_PER_FEATURE = 10
"""Words that are projected to one feature of a dense graph."""


@dataclass(frozen=True)
class Size:
    """How far the graphs and the runs are cut down.

    Attributes:
        scale: Share of the published number of nodes.
        words_per_node: Words in a document.
        num_features: Features in place of the published number.
        mean_degree: Mean number of neighbours in place of the published one.
        num_episodes: Training episodes.
        val_every: Training episodes between two validations.
        num_tests: Validation episodes, and test episodes.
        first_values: Whether every key of ``vary`` keeps its first value alone.
    """

    scale: float
    words_per_node: int = 60
    num_features: int | None = None
    mean_degree: float | None = None
    num_episodes: int = 6
    val_every: int = 3
    num_tests: int = 4
    first_values: bool = False

    @property
    def cuts(self) -> dict[str, Any]:
        """What is changed in the sections that all runs share."""
        return {
            "train": {"num_episodes": self.num_episodes, "val_every": self.val_every, "val_episodes": self.num_tests},
            "evaluate": {"num_episodes": self.num_tests},
        }


QUICK = Size(
    scale=0.0,
    words_per_node=10,
    num_features=40,
    mean_degree=4.0,
    num_episodes=2,
    val_every=2,
    num_tests=2,
    first_values=True,
)


def main() -> int:
    """Run the cells and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=0.1, help="share of the published number of nodes, at most 1")
    parser.add_argument("--runs", type=Path, help="folder of the runs; finished ones are only read")
    parser.add_argument("--out", type=Path, help="folder for paper_grids.md")
    parser.add_argument("--quick", action="store_true", help="the smallest graphs, first values of 'vary' alone")
    arguments = parser.parse_args()
    if not 0 < arguments.scale <= 1:
        parser.error(f"Expected --scale to be above 0 and at most 1 (got {arguments.scale})")
    size = QUICK if arguments.quick else Size(arguments.scale)
    with tempfile.TemporaryDirectory() as scratch:
        # A comparison knows named graphs by their names, so each size needs a folder of its own.
        runs = (arguments.runs or Path(scratch)) / ("quick" if arguments.quick else f"scale_{arguments.scale:g}")
        with generated_graphs(Path(scratch), size):
            graphs = [load_graph(name) for name in GRAPHS]
            tables = {name: run_cut(name, runs / Path(name).name, size) for name in GRIDS}
    publish(page_of(tables, graphs, size, command_line()), arguments.out, "paper_grids.md")
    return 1 if any(found.failed or found.missing for found in tables.values()) else 0


@contextmanager
def generated_graphs(folder: Path, size: Size) -> Iterator[None]:
    """Write files and cards of every graph, and point the package at them while the context lasts.

    Cards have the counts of the generated graphs in place of the published ones, and all else as it is.
    """
    for name in GRAPHS:
        card = cards.load_card(name)
        num_nodes = max(SMALLEST_CLASS * card.num_classes, round(size.scale * card.num_nodes))
        pairs = num_pairs(card, num_nodes, size)
        num_features = size.num_features or card.num_features
        content = generated(card, num_nodes, num_features, pairs, words_per_node=size.words_per_node)
        miniature.write(name, folder / "data", content)
        edges = None if card.num_edges is None else pairs if DATASETS.load(name).directed else 2 * pairs
        counts = {"num_nodes": num_nodes, "num_edges": edges, "num_features": num_features}
        written = yaml.safe_load((asset_folder("datasets") / name / "card.yaml").read_text(encoding="utf-8"))
        place = folder / "cards" / name
        place.mkdir(parents=True)
        (place / "card.yaml").write_text(yaml.safe_dump(written | counts), encoding="utf-8")
    variables = {DATA_VARIABLE: str(folder / "data"), CACHE_VARIABLE: str(folder / "cache")}
    with patch.dict(os.environ, variables), patch.object(cards, "asset_folder", lambda kind: folder / "cards"):
        yield


def num_pairs(card: cards.Card, num_nodes: int, size: Size) -> int:
    """Count the pairs of linked nodes that keep the published mean degree, or the one of the size."""
    if size.mean_degree is not None:
        return int(num_nodes * size.mean_degree / 2)
    if card.num_edges is None:
        published = PUBLISHED_PAIRS[card.name]
    else:
        published = card.num_edges if DATASETS.load(card.name).directed else card.num_edges // 2
    return round(published * num_nodes / card.num_nodes)


def generated(
    card: cards.Card, num_nodes: int, num_features: int, pairs: int, *, words_per_node: int
) -> miniature.Content:
    """Generate a citation graph with so many classes as the card has, of 16 nodes or more each."""
    is_dense = card.name in DENSE
    graph = synthetic.load(
        num_nodes=num_nodes,
        num_features=num_features * (WORDS_PER_FEATURE if is_dense else 1),
        num_classes=card.num_classes,
        words_per_node=words_per_node,
        mean_degree=2 * pairs / num_nodes,
        symmetrise=False,
    )
    x = (graph.x.dense() if isinstance(graph.x, SparseMatrix) else graph.x).numpy()
    if is_dense:
        rng = np.random.default_rng(0)
        projection = rng.standard_normal((x.shape[1], num_features)) / np.sqrt(words_per_node)
        x = (x @ projection).round(3)
    return miniature.Content(x, graph.edge_index.numpy(), levelled(graph.labels.numpy(), SMALLEST_CLASS))


def levelled(labels: np.ndarray, smallest: int) -> np.ndarray:
    """Move nodes from the largest class to each one that is too small.

    Args:
        labels: Class of each node, shape ``[num_nodes]``; there are ``smallest`` nodes for every class.
        smallest: Nodes that each class shall have.

    Returns:
        The new classes, shape ``[num_nodes]``.
    """
    labels = labels.copy()
    for small in range(labels.max() + 1):
        while np.sum(labels == small) < smallest:
            largest = np.bincount(labels).argmax()
            labels[np.flatnonzero(labels == largest)[0]] = small
    return labels


def run_cut(name: str, folder: Path, size: Size) -> Results:
    """Run a grid of the package with the cuts of a size."""
    written = written_grid(name)
    changes = {"splits": 1, "common": written["common"] | size.cuts}
    if size.first_values:
        changes["vary"] = {key: values[:1] for key, values in written["vary"].items()}
    grid = grid_of_call(**(written | changes))
    return run_grid(grid, folder, executor="inline", retry_failed=True, progress="none").results


def page_of(tables: Mapping[str, Results], graphs: Sequence[Graph], size: Size, command: str) -> str:
    """Write which cells run, a table for each grid."""
    parts = [
        f"""# The paper's grids on generated graphs

```
{command}
```

The grids `compare/paper_table2` and `compare/paper_table3` name graphs whose raw files do not come with the package.
Here every cell of both, each learner with each optimizer on each graph in each setting, runs on files that were
generated under the names and in the formats of the real ones, and that the real readers parse. The cards have the
counts of the generated graphs; class splits and all else are those of the package. Rows without an optimizer are the
methods that are not trained, which a grid adds.

The generated graphs have the shape of the real ones and nothing else of them, so their accuracies say nothing of the
real ones and are not shown. Those of the real graphs are left blank, never estimated. `runs` means that the
run of a cell ended with a result on its test episodes.

Cuts: {cuts_in_words(size)}
""",
        *shapes(graphs),
    ]
    for name, found in tables.items():
        number = len(found.records)
        total = number + len(found.failed) + len(found.missing)
        parts += [
            f"\n## {found.grid.title}\n",
            f"{number} of {total} cells run. Accuracy: blank, to be filled by `fgsam compare {name}` where the raw "
            "files are.\n",
            *section(found),
        ]
    return "\n".join(parts) + "\n"


def cuts_in_words(size: Size) -> str:
    """Say what is smaller than in the grids and on the real graphs."""
    if size.first_values:
        nodes = f"{SMALLEST_CLASS} nodes a class, {size.num_features} features, {size.mean_degree:g} neighbours a node"
        nodes += ", the first value of each key of `vary` alone"
    else:
        nodes = f"{size.scale:g} of the published nodes, {SMALLEST_CLASS} in a class at least (one node of\n"
        nodes += "fsnc_dblp stands in no file), with the published"
        nodes += f"\nmean degree (of fsnc_dblp, {PUBLISHED_PAIRS['fsnc_dblp']:,} edges, taken as pairs counted once)"
    train, test = size.cuts["train"], size.cuts["evaluate"]["num_episodes"]
    return (
        f"{nodes};\none class split of twenty, {train['num_episodes']} training episodes, {train['val_episodes']} "
        f"validation and {test} test episodes.\nWays, shots, queries, encoder and the options of learners and "
        "optimizers are those of the grids."
    )


def shapes(graphs: Sequence[Graph]) -> list[str]:
    """Table of what was generated."""
    lines = ["| graph | nodes | edges as loaded | features | classes | smallest class |", "|---|---|---|---|---|---|"]
    for graph in graphs:
        sizes = graph.labels[graph.labels >= 0].bincount()
        counts = (graph.num_nodes, graph.num_edges, graph.num_features, graph.num_classes, int(sizes.min()))
        lines.append(f"| {graph.name} | {' | '.join(f'{count:,}' for count in counts)} |")
    return lines


def section(found: Results) -> list[str]:
    """Table of a grid: a row for each learner and optimizer, a column for each graph and setting."""
    grid = found.grid
    heads = []
    for part in grid.parts:
        config = grid.jobs[part.label, grid.arms[0].label, 0].config
        assert isinstance(config, FewShotConfig)
        heads.append(f"{part.graph} {config.episode.n_way}-way {config.episode.k_shot}-shot")
    lines = [f"| learner | optimizer | {' | '.join(heads)} |", f"|---|---|{'---|' * len(heads)}"]
    cells = {(cell.arm, cell.part): outcome(found, cell) for cell in grid.cells()}
    for arm in grid.arms:
        learner, _, optimizer = arm.label.partition("/")
        words = [cells[arm.label, part.label] for part in grid.parts]
        lines.append(f"| {learner} | {optimizer or '-'} | {' | '.join(words)} |")
    return lines


def outcome(found: Results, cell: Cell) -> str:
    """Say whether a cell ran, or the beginning of its error."""
    if cell in found.records:
        return "runs"
    error = found.failed.get(cell, "not run")
    return " ".join(error.split())[:80].replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
