"""A graph known by name: raw files on one side, a card that says what they hold on the other."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fgsam.data.cache import cached
from fgsam.data.card import Card, load_card
from fgsam.data.locate import locate
from fgsam.data.node_splits import PublicSplits, checked
from fgsam.data.reading import DamagedFileError, RawGraph
from fgsam.graph.graph import Graph
from fgsam.nodes.split import NodeSplit


class NamedGraph:
    """Loads one named graph; called as ``load(root, symmetrise=..., **options)``.

    Args:
        name: Name in the registry, which is also that of the card.
        read: Turns the raw files of the card, in its order, into a ``RawGraph``. Its keyword-only arguments are the
            options of the graph, all of them truth values that are false by default.
        directed: Whether the graph keeps its edges as stored unless asked otherwise, as everybody who uses it does.
        splits: The public divisions of its nodes; None where there are none, or nobody has written their reader.
    """

    def __init__(
        self,
        name: str,
        read: Callable[..., RawGraph],
        *,
        directed: bool = False,
        splits: PublicSplits | None = None,
    ) -> None:
        self.name = name
        self.splits = splits
        self.read = read
        self.directed = directed
        options = [p for p in inspect.signature(read).parameters.values() if p.kind is p.KEYWORD_ONLY]
        self.options = tuple(option.name for option in options)
        # Configs and messages learn from these three what the options are.
        _, root, symmetrise, _ = inspect.signature(type(self).__call__).parameters.values()
        self.__signature__ = inspect.Signature([root, symmetrise, *options])
        self.__annotations__ = read.__annotations__
        self.__doc__ = read.__doc__

    def __call__(self, root: Path | str | None = None, *, symmetrise: bool | None = None, **options: bool) -> Graph:
        """Load the graph and compare it with its card.

        Args:
            root: Folder of raw files; by default the usual data folders.
            symmetrise: Add the missing reverse edges and drop duplicates (True), or keep the edges as stored (False);
                by default what is usual for this graph.
            **options: Options of the reader.

        Raises:
            FileNotFoundError: If a raw file is missing.
            ValueError: If a raw file is damaged, or its content is not the known one.
        """
        card = load_card(self.name)
        graph = self.parsed(root, options, symmetrise)
        return card.check(graph, self.variant(options, symmetrise), self._locate(card, root, options))

    def parsed(
        self, root: Path | str | None = None, options: Mapping[str, bool] | None = None, symmetrise: bool | None = None
    ) -> Graph:
        """Parse the graph, or take it from the cache, whatever its card says about the content."""
        for option, value in (options or {}).items():
            if not isinstance(value, bool):
                raise ValueError(f"Expected '{option}' of graph '{self.name}' to be true or false (got {value!r})")
        options = {option: value for option, value in (options or {}).items() if value}
        card = load_card(self.name)
        paths = self._locate(card, root, options)
        directed = self._is_directed(symmetrise)
        key = {**options, "directed": directed}
        return cached(self.name, paths, key, lambda: self._parse(card, paths, directed, options))

    def paths(self, root: Path | str | None = None, options: Mapping[str, bool] | None = None) -> list[Path]:
        """Where the raw files lie, in the order of the card.

        Raises:
            FileNotFoundError: If one is missing.
        """
        return self._locate(load_card(self.name), root, options or {})

    def public_split(
        self, index: int, root: Path | str | None = None, options: Mapping[str, bool] | None = None
    ) -> NodeSplit:
        """Read a public division of the nodes.

        Args:
            index: Its number.
            root: Folder of raw files; by default the usual data folders.
            options: Options of the reader, which may name other files.

        Raises:
            FileNotFoundError: If a raw file is missing.
            ValueError: If there is no such split, or its file is damaged or not the known one.
        """
        count = 0 if self.splits is None else self.splits.count
        if self.splits is None or not 0 <= index < count:
            known = {0: "There is none", 1: "There is number 0"}.get(count, f"There are 0 to {count - 1}")
            raise ValueError(
                f"Expected 'dataset.split' to be the number of a public split of '{self.name}' (got {index}). "
                f"{known}. Choose another number, or set dataset.split_kind=drawn."
            )
        options = dict(options or {})
        paths = self.paths(root, options)
        split = self.splits.read(paths, index)
        return split if any(options.values()) else checked(self.name, index, split, paths)

    def variant(self, options: Mapping[str, bool], symmetrise: bool | None) -> str:
        """Name of the content that a combination of options gives, as in ``Card.digests``."""
        directed = self._is_directed(symmetrise)
        parts = sorted(option for option, value in options.items() if value)
        if directed != self.directed:
            parts.append("directed" if directed else "undirected")
        return ", ".join(parts) or "default"

    def _is_directed(self, symmetrise: bool | None) -> bool:
        return self.directed if symmetrise is None else not symmetrise

    def _locate(self, card: Card, root: Path | str | None, options: Mapping[str, bool]) -> list[Path]:
        chosen = [option for option in card.option_files if options.get(option)]
        return locate(self.name, card.option_files[chosen[0]] if chosen else card.files, root)

    def _parse(self, card: Card, paths: Sequence[Path], directed: bool, options: Mapping[str, bool]) -> Graph:
        try:
            raw = self.read(paths, **options)
            return Graph.from_arrays(raw.x, raw.edge_index, raw.labels, directed=directed, name=self.name)
        except ValueError as error:
            # Where files do not fit together, the one that was read last need not be the wrong one.
            others = [f"'{path}'" for path in card.suspects(paths) if str(path) not in str(error)]
            place = f" Or the fault lies in {' or '.join(others)}." if others else ""
            if not isinstance(error, DamagedFileError):
                place = f" The fault lies in {' or '.join(others)}."
            raise ValueError(f"{error}{place} Fetch it again: fgsam data get {self.name}") from error
