"""Degrees and class sizes of a graph as a figure."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.figure import Figure

from fgsam.data.figures import figures
from fgsam.files import write_atomically
from fgsam.graph.graph import Graph


def plot_graph(graph: Graph, path: Path | str) -> None:
    """Draw how many nodes have which degree, and how many labelled nodes each class has.

    Args:
        graph: The graph.
        path: The file to write; its suffix says in which format: ``.png``, ``.pdf``, ``.svg``.

    Raises:
        ValueError: If matplotlib does not know the format.
        OSError: If the file cannot be written.
    """
    path = Path(path)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    known = figure.canvas.get_supported_filetypes()
    if path.suffix.removeprefix(".") not in known:
        raise ValueError(f"Expected '{path}' to end in a format of figures, .{', .'.join(sorted(known))}.")
    left, right = figure.subplots(1, 2)
    degrees = graph.degree.long()
    counts = degrees.bincount()
    shown = counts.nonzero().flatten()
    shown = shown[shown > 0]  # zero has no place on a logarithmic axis
    left.loglog(shown, counts[shown], ".", markersize=4, color="C0")
    left.set(xlabel="degree (in-edges, self-loops left out)", ylabel="nodes")
    lonely = int(counts[:1].sum())
    left.set_title("Degrees" if lonely == 0 else f"Degrees; {lonely:,} nodes without an in-edge")
    left.grid(alpha=0.3)
    sizes = sorted(figures(graph)["class_counts"], reverse=True)
    right.bar(range(1, len(sizes) + 1), sizes, width=0.9, color="C1")
    right.set(xlabel="class, the largest first", ylabel="labelled nodes", xlim=(0, len(sizes) + 1))
    right.set_title(f"Sizes of the {len(sizes)} classes")
    right.grid(axis="y", alpha=0.3)
    figure.suptitle(f"{graph.name}: {graph.num_nodes:,} nodes, {graph.num_edges:,} edges")
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix.removeprefix("."), dpi=150)
    write_atomically(path, buffer.getvalue())
