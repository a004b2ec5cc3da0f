"""What is known about a named graph: source, licence, counts, digests and faults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from fgsam.assets import asset_folder
from fgsam.checks import suggest
from fgsam.files import file_digest

if TYPE_CHECKING:
    from fgsam.graph.graph import Graph

_COUNTS = ("num_nodes", "num_edges", "num_features", "num_classes")


@dataclass(frozen=True)
class Download:
    """Where raw files can be fetched.

    Attributes:
        url: Address of one file, or of a zip archive.
        file: Where the file belongs below the data folder; None for an archive.
        members: For an archive, where each wanted member belongs below the data folder: ``{place: member}``.
        exact: Whether the file is known to be the one of ``Card.raw_files``, byte by byte. Where it is not, the parsed
            content alone decides.
    """

    url: str
    file: str | None = None
    members: Mapping[str, str] = field(default_factory=dict)
    exact: bool = True

    @property
    def places(self) -> tuple[str, ...]:
        """Where the fetched files belong, below the data folder."""
        return tuple(self.members) if self.file is None else (self.file,)


@dataclass(frozen=True)
class Card:
    """The card of a named graph, read from ``datasets/<name>/card.yaml``.

    Attributes:
        name: Name in the registry.
        title: What the graph is, in a few words.
        source: Where the raw files come from.
        licence: Under which terms they are distributed.
        citation: The publications to cite.
        known_faults: What a user has to mind.
        files: The raw files below the data folder, in the order in which the reader takes them.
        downloads: Where to fetch the files.
        split_counts: Classes of a drawn split by part: keys ``meta_train``, ``meta_val``, ``meta_test``; None without
            a few-shot setting.
        num_nodes: Nodes of the graph as it is loaded by default, like all figures here.
        num_edges: Directed pairs; an undirected edge counts twice. None where it is not known.
        num_features: Width of the feature matrix.
        num_classes: Classes.
        digests: ``Graph.digest`` by variant: ``"default"`` is what comes without options; a variant that is not listed
            equals the default. Empty where the content is not known; then the four counts are checked.
        option_files: The files that are read in place of ``files`` if an option is true: ``{option: files}``.
        no_download: Why some file cannot be fetched, and where to look; None where all can.
        min_class_size: The splits are drawn among the classes that have so many labelled nodes.
        no_splits: Why there is no few-shot setting; None where there is one.
        raw_files: The known sha256 of each raw file, several where copies differ. Another one is not refused as long
            as the parsed content is the known one.
        unlabelled_nodes: Nodes with label -1. Like all below None where nobody has counted.
        class_sizes: Labelled nodes of the smallest, the median and the largest class: keys ``min``, ``median``,
            ``max``.
        class_counts: Labelled nodes of each class.
        degree: Edges that end in a node, self-loops left out: keys ``min``, ``median``, ``mean``, ``max``.
        edge_homophily: Share of the edges between labelled nodes whose two ends have the same class, self-loops left
            out; None where there is no such edge.
        self_loops: Edges from a node to itself.
        isolated_nodes: Nodes without an edge to or from another one.
        empty_rows: Nodes without any feature.
    """

    name: str
    title: str
    source: str
    licence: str
    citation: str
    known_faults: list[str]
    files: list[str]
    downloads: list[Download]
    split_counts: dict[str, int] | None
    num_nodes: int
    num_edges: int | None
    num_features: int
    num_classes: int
    digests: dict[str, str]
    option_files: dict[str, list[str]] = field(default_factory=dict)
    no_download: str | None = None
    min_class_size: int = 1
    no_splits: str | None = None
    raw_files: dict[str, list[str]] = field(default_factory=dict)
    unlabelled_nodes: int | None = None
    class_sizes: dict[str, float] | None = None
    class_counts: list[int] | None = None
    degree: dict[str, float] | None = None
    edge_homophily: float | None = None
    self_loops: int | None = None
    isolated_nodes: int | None = None
    empty_rows: int | None = None

    @property
    def all_files(self) -> list[str]:
        """The raw files of the default and of every option, below the data folder."""
        return [*self.files, *(file for files in self.option_files.values() for file in files)]

    def check(self, graph: Graph, variant: str = "default", paths: Sequence[Path] = ()) -> Graph:
        """Return the graph if it is the one that the card describes.

        Args:
            graph: What a loader parsed.
            variant: Which of the card's digests it must have.
            paths: The raw files that it was parsed from; the message names those that are not known.

        Raises:
            ValueError: If edges, labels or features differ from the known ones; or if a count does, where no more is
                known.
        """
        if self.digests:
            counted = {"digest": self.digests.get(variant, self.digests["default"])}
        else:
            counted = {count: getattr(self, count) for count in _COUNTS if variant == "default" or count != "num_edges"}
        for what, expected in counted.items():
            if expected is not None and getattr(graph, what) != expected:
                files = " and ".join(f"'{path}'" for path in self.suspects(paths)) or "its files"
                raise ValueError(
                    f"Expected {files} to hold the known content of graph '{self.name}', {what} {expected} "
                    f"(got {getattr(graph, what)}). They were altered or come from another source. "
                    f"Fetch them again: fgsam data get {self.name}. Or load them as an own graph."
                )
        return graph

    def suspects(self, paths: Sequence[Path]) -> Sequence[Path]:
        """The files that are none of the known ones; all of them where each is, or none is known."""
        known = {digest for digests in self.raw_files.values() for digest in digests}
        return [path for path in paths if file_digest(path) not in known] or paths


def load_card(name: str) -> Card:
    """Read the card of a named graph.

    Raises:
        ValueError: If there is no such card.

    Example:
        >>> load_card("coauthor_cs").num_nodes
        18333
    """
    folder = asset_folder("datasets")
    path = folder / name / "card.yaml"
    if not path.is_file():
        known = sorted(place.parent.name for place in folder.glob("*/card.yaml"))
        raise ValueError(f"Expected the name of a graph with a card (got '{name}'). {suggest(name, known)}")
    return _parsed(path.read_text(encoding="utf-8"))


@cache
def _parsed(text: str) -> Card:
    """The card that a text holds; reading YAML takes longer than reading a small graph."""
    content = yaml.safe_load(text)
    content["downloads"] = [Download(**entry) for entry in content["downloads"]]
    content["raw_files"] = {file: _listed(known) for file, known in content.get("raw_files", {}).items()}
    return Card(**content)


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
