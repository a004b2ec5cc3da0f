"""Writes ``node_splits.json``: the digest of every public division of nodes whose files are at hand.

    python datasets/make_node_splits.py

Raw files are read from the usual data folders. A loader refuses a division with another digest.
"""

from __future__ import annotations

import json
from pathlib import Path

from fgsam.files import write_atomically
from fgsam.registry import DATASETS


def main() -> None:
    """Write the file beside this script."""
    digests = {}
    for name in DATASETS:
        load = DATASETS.load(name)
        splits = getattr(load, "splits", None)
        if splits is None:
            continue
        try:
            paths = load.paths()
        except FileNotFoundError:
            continue  # not at hand
        digests[name] = [splits.read(paths, index).digest for index in range(splits.count)]
    path = Path(__file__).parent / "node_splits.json"
    write_atomically(path, (json.dumps(digests, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
