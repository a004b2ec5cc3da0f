"""Largest errors in float64 against twins that were written without fields, from the equations.

An error is the norm of a difference over the norm of the whole: of the outputs of all targets, or of the gradient with
respect to all parameters. Graphs are read from the folder in FGSAM_DATA, beside a generated one with self-loops and
isolated nodes. The same comparisons, with limits, are part of the tests.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch

from benchmarks.harness import write_markdown
from tests.nn.test_exactness import NAMES, READERS, build, error, read, rows_and_gradient, targets_of
from tests.twins import full_pass
from tests.twins.optimizers import (
    LinearNet,
    adam_update,
    fgsam_directions,
    fgsam_plus_directions,
    relative_error,
    run_optimizer,
    run_twin,
)


def main() -> None:
    """Print the tables, and write a page where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", type=Path, help="write the tables here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = os.environ.get("FGSAM_DATA")
    graphs = [name for name in READERS if folder or name == "synthetic"]
    lines = [
        f"{len(NAMES)} encoders: {', '.join(NAMES)}. Largest error over all of them:\n",
        "| graph | outputs, field against full pass | gradients | zero-hop field against rows with self-loops |",
        "|---|---|---|---|",
        *(_field_row(name, Path(folder) if folder else None) for name in graphs),
        "\nTen steps with Adam against the printed equations, largest error of the weights:\n",
        "| optimizer | form | error |",
        "|---|---|---|",
        *_optimizer_rows(),
    ]
    print("\n".join(lines))
    if arguments.markdown:
        write_markdown(arguments.markdown, "Exactness", "\n".join(lines), __doc__)


def _field_row(graph_name: str, folder: Path | None) -> str:
    from fgsam.nn.encoders import field_of

    raw, graph = read(graph_name, folder)
    targets, loops = targets_of(raw), torch.arange(len(targets_of(raw))).repeat(2, 1)
    worst = [0.0, 0.0, 0.0]
    for name in NAMES:
        encoder, twin = build(name, raw.x.size(1)), full_pass.TWINS.get(name, full_pass.module)
        rows, gradient = rows_and_gradient(encoder, encoder(field_of(encoder, graph, targets)))
        wanted, wanted_gradient = rows_and_gradient(encoder, twin(encoder, raw.x, raw.edge_index)[targets])
        peer = encoder(field_of(encoder, graph, targets, peer=True)).detach()
        wanted_peer = twin(encoder, raw.x[targets], loops).detach()
        errors = [error(rows, wanted), error(gradient, wanted_gradient), error(peer, wanted_peer)]
        worst = [max(pair) for pair in zip(worst, errors, strict=True)]
    kind = "directed" if graph.is_directed else "undirected"
    return f"| {graph_name} ({kind}) | " + " | ".join(f"{value:.1e}" for value in worst) + " |"


def _optimizer_rows() -> list[str]:
    rows = []
    for form, lam in (("paper", 1.0), ("code", 0.5)):
        net, plus_net = LinearNet(seed=4), LinearNet(seed=5)
        twins = {
            "fgsam": (net, fgsam_directions(net, 0.3, lam, form), {}),
            "fgsam_plus": (plus_net, fgsam_plus_directions(plus_net, 0.3, lam, 0.6, 2, form), {"alpha": 0.6}),
        }
        for name, (model, directions, options) in twins.items():
            wanted = run_twin(model, directions, adam_update(0.05, 5e-4), num_steps=10)
            found = run_optimizer(
                model, name, 10, base=torch.optim.Adam, lr=0.05, weight_decay=5e-4, rho=0.3, lam=lam, form=form,
                **options,
            )  # fmt: skip
            worst = max(relative_error(f, w) for f, w in zip(found, wanted, strict=True))
            rows.append(f"| {name} | {form} | {worst:.1e} |")
    return rows


if __name__ == "__main__":
    main()
