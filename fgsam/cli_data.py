"""The verbs of ``fgsam data``: what there is to know about graphs, and how to get them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fgsam.cli_report import reported, shown_log

if TYPE_CHECKING:
    from fgsam.data.card import Card
    from fgsam.episodes.split import ClassSplit

COUNTS = ("num_nodes", "num_edges", "num_features", "num_classes")
N_WAYS = (2, 3, 5, 10)

data_app = typer.Typer(help="Look at graphs, fetch and convert them.", rich_markup_mode=None, no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="A named graph.", show_default=False)]
Root = Annotated[str | None, typer.Option("--root", help="Folder of raw files.", show_default=False)]
Directed = Annotated[
    bool | None,
    typer.Option(
        "--directed/--symmetrise",
        help="Keep edges that lack their reverse as they are, or add the missing ones.",
        show_default=False,
    ),
]


@data_app.command("list")
@reported
def list_graphs() -> None:
    """List the named graphs, and whether their files are here."""
    from fgsam.cli_tables import print_table
    from fgsam.data.card import load_card
    from fgsam.registry import DATASETS

    cards = [load_card(name) for name in DATASETS]
    rows = [(card.name, card.title, *map(_counted, _counts(card)), _state(card)) for card in cards]
    heads = [count.removeprefix("num_") for count in COUNTS]
    print_table(["name", "what it is", *heads, "files"], rows, numeric=heads)


@data_app.command()
@reported
def show(
    name: Name,
    plot: Annotated[
        str | None,
        typer.Option(help="Draw degrees and class sizes into this file (.png, .pdf, .svg).", show_default=False),
    ] = None,
    root: Root = None,
) -> None:
    """Show the card of a graph: source, licence, counts, class sizes, files, digests, known faults."""
    from fgsam.cli_tables import columns, print_table

    card = _card(name)
    print_table(["graph", name], _facts(card, root))
    if card.class_counts:
        print(f"Labelled nodes of the {card.num_classes} classes, the largest first:\n")
        print(columns(sorted(card.class_counts, reverse=True)))
    if plot is not None:
        from fgsam.data.load import load_graph
        from fgsam.data.plots import plot_graph

        plot_graph(load_graph(name, root), plot)
        print(f"\nDrawn into {plot}")


@data_app.command()
@reported
def check(
    graph: Annotated[
        str,
        typer.Argument(metavar="NAME|PATH", help="A named graph, or the npz file of an own one.", show_default=False),
    ],
    root: Root = None,
    directed: Directed = None,
) -> None:
    """Compare the files of a named graph with its card, or check the file of an own graph."""
    from fgsam.registry import DATASETS

    if graph in DATASETS:
        _check_named(_card(graph), root)
    else:
        _check_own(graph, directed)


@data_app.command()
@reported
def get(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    root: Annotated[
        str | None,
        typer.Option(help="Folder to fetch into; FGSAM_DATA or the cache when not given.", show_default=False),
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FOLDER_OR_ADDRESS",
            help="Take the files from below this place, where they lie as below the data folder.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Fetch the raw files of a graph: shows size, licence and source, and asks first."""
    from fgsam.cli_get import get_graph

    if not get_graph(_card(name), yes=yes, root=root, mirror=mirror):
        raise typer.Exit(1)


@data_app.command()
@reported
def convert(
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help=".npz, .pt, .csv, .parquet, .graphml, or a folder.", show_default=False),
    ],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The file to write.", show_default=False)],
    nodes: Annotated[
        str | None, typer.Option(help="Table of nodes; nodes.csv beside the edges when not given.", show_default=False)
    ] = None,
    directed: Directed = None,
    node_type: Annotated[
        str | None, typer.Option(help="Nodes to take from a HeteroData object.", show_default=False)
    ] = None,
    edge_type: Annotated[
        str | None, typer.Option(help="Edges to take from a HeteroData object.", show_default=False)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the target if it exists.")] = False,
) -> None:
    """Write a graph in another format, above all an own one as npz for dataset.path; suffixes say which."""
    from fgsam.cli_tables import print_table
    from fgsam.data.convert import convert as convert_graph

    found = convert_graph(
        source, target, nodes=nodes, directed=directed, node_type=node_type, edge_type=edge_type, overwrite=overwrite
    )
    rows = [(count.removeprefix("num_"), f"{getattr(found, count):,}") for count in COUNTS]
    rows += [("directed", "yes" if found.is_directed else "no"), ("digest", found.digest)]
    print_table(["graph", str(found.target)], rows)
    _print_notes(found.notes)


@data_app.command()
@reported
def splits(
    name: Name,
    n_way: Annotated[int | None, typer.Option(min=2, help="Classes in an episode.", show_default=False)] = None,
) -> None:
    """Show the class splits of a graph, and how many different tasks each part gives."""
    from fgsam.cli_tables import print_table
    from fgsam.episodes.split import ClassSplit

    card = _card(name)
    names = ClassSplit.names(name) or ["0"]  # loading the first of none says why there are none
    loaded = [ClassSplit.load(name, index) for index in names]
    rows = []
    for (_, sizes), group in itertools.groupby(loaded, key=lambda split: (split.name.isdigit(), _sizes(split))):
        alike = list(group)
        label = alike[0].name if len(alike) == 1 else f"{alike[0].name} to {alike[-1].name}"
        for ways in N_WAYS if n_way is None else (n_way,):
            tasks = alike[0].num_combinations(ways).values()
            if n_way is not None or any(tasks):
                rows.append((label, "/".join(map(str, sizes)), ways, *map(_tasks, tasks, sizes)))
    heads = ["n_way", "training tasks", "validation tasks", "test tasks"]
    print_table(["split", "classes", *heads], rows, numeric=heads)
    print(f"Classes with fewer than {card.min_class_size} labelled nodes are in no drawn split.")


def _card(name: str) -> Card:
    from fgsam.data.card import load_card
    from fgsam.registry import DATASETS

    DATASETS[name]
    return load_card(name)


def _counts(card: Card) -> list[int | None]:
    return [getattr(card, count) for count in COUNTS]


def _counted(count: int | None) -> str | None:
    return None if count is None else f"{count:,}"


def _state(card: Card) -> str:
    from fgsam.data.locate import find

    found = [find(file) is not None for file in card.files]
    if not found:
        return "generated"
    return "present" if all(found) else f"{sum(found)} of {len(found)}" if any(found) else "absent"


def _facts(card: Card, root: str | None) -> Iterator[tuple[str, Any]]:
    """What a card says, as rows; what it does not know is left out."""
    from fgsam.data.locate import find

    yield from ((key, getattr(card, key)) for key in ("title", "source", "licence", "citation"))
    for key in (*COUNTS, "unlabelled_nodes", "edge_homophily", "self_loops", "isolated_nodes", "empty_rows"):
        if getattr(card, key) is not None:
            yield key.removeprefix("num_").replace("_", " "), f"{getattr(card, key):,}"
    for key, text in (("class_sizes", "class sizes"), ("degree", "degree")):
        if getattr(card, key) is not None:
            yield text, ", ".join(f"{part} {value:,}" for part, value in getattr(card, key).items())
    if card.split_counts is not None:
        yield "class splits", "/".join(map(str, card.split_counts.values()))
    yield from (("known fault" if number == 0 else "", fault) for number, fault in enumerate(card.known_faults))
    for file in card.all_files:
        yield "file", f"{file}: {find(file, root) or 'absent'}"
        yield from (("  sha256", digest) for digest in card.raw_files.get(file, ()))
    if card.no_download:
        yield "to fetch by hand", card.no_download
    yield from ((f"digest, {variant}", digest) for variant, digest in card.digests.items())


def _check_named(card: Card, root: str | None) -> None:
    from fgsam.cli_tables import print_table
    from fgsam.data.figures import figures
    from fgsam.data.load import load_graph
    from fgsam.data.locate import locate
    from fgsam.files import file_digest

    for file, path in zip(card.files, locate(card.name, card.files, root) if card.files else [], strict=True):
        is_known = file_digest(path) in card.raw_files.get(file, ())
        print(f"{path}: {'a known file' if is_known else 'none of the known files; what it holds is compared'}")
    graph = load_graph(card.name, root)
    found = figures(graph)
    rows = [(key, getattr(card, key), value) for key, value in found.items() if getattr(card, key) is not None]
    print_table(["what", "on the card", "found"], [(key, *map(_short, values)) for key, *values in rows])
    wrong = [key for key, expected, value in rows if expected != value]
    if wrong:
        raise ValueError(f"Expected the counts of the card of '{card.name}' (other {', '.join(wrong)}).")
    if card.digests:
        print(f"Graph '{card.name}' is the one of its card: digest {graph.digest}.")
    else:
        print(f"Graph '{card.name}' has the counts of its card; nobody has recorded a digest yet.")


def _check_own(path: str, directed: bool | None) -> None:
    from fgsam.cli_tables import print_table
    from fgsam.data.figures import figures, warnings
    from fgsam.data.load import load_graph
    from fgsam.engine.config_model import EpisodeConfig

    options: dict[str, Any] = {} if directed is None else {"symmetrise": not directed}
    with shown_log():
        graph = load_graph(path, None, **options)
    found = figures(graph)
    rows = [(key, _short(value)) for key, value in found.items()]
    rows += [("directed", "yes" if graph.is_directed else "no"), ("weighted", "yes" if graph.is_weighted else "no")]
    print_table(["graph", path], [*rows, ("digest", graph.digest)])
    episode = EpisodeConfig.model_validate({})
    _print_notes(warnings(found, n_way=episode.n_way, size=episode.k_shot + int(episode.num_query)))


def _short(value: Any) -> str:
    """A value as it fits into a cell."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {part:,}" for key, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value[:20])) + (f" and {len(value) - 20} more" if len(value) > 20 else "")
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def _print_notes(notes: Iterable[str]) -> None:
    for note in notes:
        print(f"- {note}")


def _sizes(split: ClassSplit) -> tuple[int, int, int]:
    return len(split.meta_train), len(split.meta_val), len(split.meta_test)


def _tasks(count: int, num_classes: int) -> str:
    if num_classes == 0:
        return "no classes"
    return {0: "too few classes", 1: "one task"}.get(count, f"{count:,}")
