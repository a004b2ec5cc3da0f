"""What FGSAM makes of PyTorch Geometric's own layers and models, class by class.

All classes of `torch_geometric.nn.conv`, and those of `torch_geometric.nn.models` whose `forward` begins with `x` and
`edge_index`, are built with the smallest arguments that they need and put between two linear layers. A class then
either takes three steps of FGSAM (graph and zero-hop field, Adam), or is refused by `check_peer`, or takes or returns
something else than a row for each node, or needs an extension that is not installed.
"""

from __future__ import annotations

import argparse
import inspect
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch_geometric.nn import conv, models

from benchmarks.harness import write_markdown
from fgsam.graph.field import Field
from fgsam.graph.graph import Graph
from fgsam.nn.calling import call
from fgsam.nn.peer import check_peer, peer_report
from fgsam.nn.probing import checked_rows, copied_module
from fgsam.optim.fgsam import FGSAM

Outcome = Literal["steps", "refused", "other form", "not installed"]
WIDTH = 8
NUM_NODES = 60
NUM_CLASSES = 3
NUM_STEPS = 3

BY_NAME: dict[str, Any] = {
    "K": 2, "alpha": 0.1, "dim": 3, "edge_dim": 3, "num_layers": 2, "depth": 2, "filter_size": 2, "k": 2,
    "kernel_size": 2, "first_aggr": True, "num_nodes": NUM_NODES, "num_timesteps": 2, "aggregators": ["mean", "max"],
    "scalers": ["identity"], "deg": torch.tensor([0, 10, 20, 20, 10]), "metadata": (["a"], [("a", "to", "a")]),
}  # fmt: skip
"""Constructor arguments by their name; every other number is the width."""

BY_CLASS: dict[str, Callable[[], dict[str, Any]]] = {
    "FusedGATConv": lambda: {"in_channels": WIDTH, "out_channels": WIDTH, "add_self_loops": False},
    "FeaStConv": lambda: {"heads": 2},
    "EdgeConv": lambda: {"nn": nn.Linear(2 * WIDTH, WIDTH)},
    "GINConv": lambda: {"nn": nn.Linear(WIDTH, WIDTH)},
    "GINEConv": lambda: {"nn": nn.Linear(WIDTH, WIDTH)},
    "NNConv": lambda: {"nn": nn.Linear(3, WIDTH * WIDTH)},
    "GPSConv": lambda: {"conv": conv.GCNConv(WIDTH, WIDTH)},
    "DirGNNConv": lambda: {"conv": conv.SAGEConv(WIDTH, WIDTH)},
    "HeteroConv": lambda: {"convs": {("a", "to", "a"): conv.SAGEConv(WIDTH, WIDTH)}},
    "PointGNNConv": lambda: {name: nn.Linear(WIDTH, WIDTH) for name in ("mlp_h", "mlp_f", "mlp_g")},
    "PNA": lambda: {name: BY_NAME[name] for name in ("aggregators", "scalers", "deg")},
}


@dataclass(frozen=True)
class Finding:
    """What became of one class.

    Attributes:
        name: Its name.
        outcome: ``"steps"``, ``"refused"``, ``"other form"`` or ``"not installed"``.
        reason: Why it took no steps, in the words of the error.
        verdicts: What the peer report says of its layers, each once.
        dead: Parameters without gradient in the peer; the graph's term alone moves them.
        still: Parameters that three steps left where they were.
        losses: Loss on the graph before and after the steps.
    """

    name: str
    outcome: Outcome
    reason: str = ""
    verdicts: tuple[str, ...] = ()
    dead: tuple[str, ...] = ()
    still: tuple[str, ...] = ()
    losses: tuple[float, float] | None = None


class WithFirstRows(nn.Module):
    """A layer that also takes the rows of the first layer, which are here its own."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Give the layer its rows twice."""
        return self.layer(x, x, edge_index)  # type: ignore[no-any-return]


class Between(nn.Module):
    """A layer between two linear ones."""

    def __init__(self, layer: nn.Module, dim: int) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, WIDTH)
        self.layer = layer
        self.last = nn.Linear(dim, NUM_CLASSES)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Return one row of logits for each node."""
        return self.last(self.layer(self.first(x), edge_index))  # type: ignore[no-any-return]


def main() -> None:
    """Print the tables, or write ``zoo.md``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for zoo.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    body = page_of([find(kind) for kind in convolutions()], [find(kind) for kind in whole_models()])
    if arguments.out:
        write_markdown(arguments.out / "zoo.md", "PyTorch Geometric's layers under FGSAM", body, __doc__)
    else:
        print(body)


def convolutions() -> list[type[nn.Module]]:
    """List all convolutions that PyTorch Geometric names."""
    return [getattr(conv, name) for name in conv.__all__]


def whole_models() -> list[type[nn.Module]]:
    """List the models of PyTorch Geometric whose ``forward`` begins with ``x`` and ``edge_index``."""
    kinds = [getattr(models, name) for name in models.__all__ if inspect.isclass(getattr(models, name))]
    return [kind for kind in kinds if list(inspect.signature(kind.forward).parameters)[1:3] == ["x", "edge_index"]]


def find(kind: type[nn.Module]) -> Finding:
    """Build a class, try it, and take three steps with it."""
    torch.manual_seed(0)
    graph = small_graph()
    field = graph.field(torch.arange(graph.num_nodes), num_hops=1)
    name = kind.__name__
    try:
        layer = build(kind)
        dim = checked_rows(call(layer, field), field, name).size(1)
    except ImportError as error:
        return Finding(name, "not installed", first_line(error))
    except Exception as error:  # whatever a layer says to rows and edges
        names = list(inspect.signature(kind.forward).parameters)[1:]
        return Finding(name, "other form", f"forward({', '.join(names)}): {first_line(error)}")
    try:
        report, reason = check_peer(layer, WIDTH), ""
    except ValueError as error:
        report, reason = peer_report(layer, WIDTH), str(error)
    verdicts = tuple(dict.fromkeys(entry.verdict for entry in report.layers))
    dead = tuple(f"{entry.name}.{weight}".lstrip(".") for entry in report.layers for weight in entry.dead)
    if reason:
        return Finding(name, "refused", reason, verdicts, dead)
    losses, still = three_steps(Between(layer, dim), graph)
    return Finding(name, "steps", "", verdicts, dead, still, losses)


def build(kind: type[nn.Module]) -> nn.Module:
    """Build a class with the smallest arguments that it needs."""
    given = BY_CLASS.get(kind.__name__, dict)()
    for parameter in list(inspect.signature(kind.__init__).parameters.values())[1:]:
        is_open = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if parameter.default is parameter.empty and not is_open:
            given.setdefault(parameter.name, BY_NAME.get(parameter.name, WIDTH))
    layer = kind(**given)
    takes_first = list(inspect.signature(layer.forward).parameters)[:3] == ["x", "x_0", "edge_index"]
    return WithFirstRows(layer) if takes_first else layer


def small_graph() -> Graph:
    """Make a graph of three classes that features and edges tell something about."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(NUM_NODES) % NUM_CLASSES
    x = torch.randn(NUM_NODES, WIDTH, generator=generator) + torch.eye(NUM_CLASSES, WIDTH)[labels]
    edges = torch.randint(NUM_NODES, (2, 6 * NUM_NODES), generator=generator)
    return Graph.from_arrays(x, edges[:, labels[edges[0]] == labels[edges[1]]], labels, directed=False)


def three_steps(net: Between, graph: Graph) -> tuple[tuple[float, float], tuple[str, ...]]:
    """Train on the graph and its peer; return the losses before and after, and the parameters that stayed."""
    whole, peer = (graph.field(torch.arange(graph.num_nodes), num_hops=hops) for hops in (1, 0))
    optimizer = FGSAM(net, torch.optim.Adam, rho=0.05, lr=0.01)
    before = copied_module(net.layer)

    def loss(field: Field) -> Tensor:
        return cross_entropy(net(field.dense_x(), field.edge_index), graph.labels)

    @torch.no_grad()
    def evaluated() -> float:
        net.eval()
        value = float(loss(whole))
        net.train()
        return value

    start = evaluated()
    for _ in range(NUM_STEPS):
        optimizer.step(lambda: loss(whole), lambda: loss(peer))
    pairs = zip(net.layer.named_parameters(), before.parameters(), strict=True)
    return (start, evaluated()), tuple(name for (name, now), old in pairs if now.numel() and torch.equal(now, old))


def first_line(error: Exception) -> str:
    """Say what kind of error it was, and how it begins."""
    text = next(iter(str(error).splitlines()), "").partition(" (got forward")[0].partition(". ")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def page_of(layers: list[Finding], wholes: list[Finding]) -> str:
    """Write a table for each outcome."""
    counts = Counter(finding.outcome for finding in layers)
    findings = [*layers, *wholes]
    steps, refused, other, missing = (
        [finding for finding in findings if finding.outcome == outcome] for outcome in get_args(Outcome)
    )
    lines = [
        f"Of {len(layers)} convolutions {counts['steps']} take three steps, {counts['refused']} are refused, "
        f"{counts['other form']} have another form and {counts['not installed']} are not installed; "
        f"{len(wholes)} models follow them in each table.",
        "\n## Three steps\n",
        "A parameter without gradient in the peer is moved by the graph's part of the gradient alone. What never moved",
        "has no gradient on this graph either: the class does not use it with these arguments.\n",
        "| class | verdict | no gradient in the peer | never moved | loss before | after |",
        "|---|---|---|---|---|---|",
        *(_steps_row(finding) for finding in steps),
        "\n## Refused\n",
        "| class | verdict | message |",
        "|---|---|---|",
        *(f"| {f.name} | {', '.join(f.verdicts)} | {f.reason} |" for f in refused),
        "\n## Another form\n",
        "They take or return something else; `forward=` of `ModuleEncoder` and `peer_report` is the way in for those",
        "that give a row for each node.\n",
        "| class | what it says to rows and edges |",
        "|---|---|",
        *(f"| {f.name} | `{f.reason}` |" for f in other),
        "\n## Not installed\n",
        "| class | what it says |",
        "|---|---|",
        *(f"| {f.name} | `{f.reason}` |" for f in missing),
    ]
    return "\n".join(lines)


def _steps_row(finding: Finding) -> str:
    assert finding.losses is not None
    names = [", ".join(names) or "-" for names in (finding.verdicts, finding.dead, finding.still)]
    return " | ".join([f"| {finding.name}", *names, *(f"{loss:.3f}" for loss in finding.losses)]) + " |"


if __name__ == "__main__":
    main()
