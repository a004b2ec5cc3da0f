"""What is known about a named graph: source, licence, counts, digests and faults."""

from __future__ import annotations

from dataclasses import dataclass, fields

import yaml

from fgsam.assets import asset_folder
from fgsam.checks import suggest
from fgsam.graph.graph import Graph


@dataclass(frozen=True)
class Card:
    """The card of a named graph, read from ``datasets/<name>/card.yaml``.

    Attributes:
        name: Name in the registry.
        title: What the graph is, in a few words.
        source: Where the raw files come from.
        licence: Under which terms they are distributed.
        citation: The publications to cite.
        num_nodes: Nodes of the graph as it is loaded by default, like all figures below.
        num_edges: Directed pairs; an undirected edge counts twice.
        num_features: Width of the feature matrix.
        num_classes: Classes.
        class_sizes: Size of the smallest, the median and the largest class: keys ``min``, ``median``, ``max``.
        edge_homophily: Share of the edges whose two ends have the same class.
        isolated_nodes: Nodes without an edge.
        digests: ``Graph.digest`` of the graph by variant; ``"default"`` is what ``load`` gives without options.
        raw_files: The sha256 of each raw file that the figures come from.
        known_faults: What a user has to mind.
    """

    name: str
    title: str
    source: str
    licence: str
    citation: str
    num_nodes: int
    num_edges: int
    num_features: int
    num_classes: int
    class_sizes: dict[str, float]
    edge_homophily: float
    isolated_nodes: int
    digests: dict[str, str]
    raw_files: dict[str, str]
    known_faults: list[str]

    def check(self, graph: Graph, variant: str = "default") -> Graph:
        """Return the graph if it is the one that the card describes.

        Args:
            graph: What a loader parsed.
            variant: Which of the card's digests it must have.

        Raises:
            ValueError: If edges, labels or features differ from the known ones.
        """
        if graph.digest != self.digests[variant]:
            raise ValueError(
                f"Expected the raw files of graph '{self.name}' to hold the known content, digest "
                f"{self.digests[variant]} (got {graph.digest}). They were altered or come from another source: "
                f"compare them with 'fgsam data show {self.name}', or load them as an own graph."
            )
        return graph


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
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return Card(**{field.name: content[field.name] for field in fields(Card)})
