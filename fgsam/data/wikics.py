"""WikiCS: articles about computer science, joined by links; 10 branches.

Source:
    Mernyei and Cangea, Wiki-CS: A Wikipedia-Based Benchmark for Graph Neural Networks, 2020.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fgsam.data.named import NamedGraph
from fgsam.data.reading import RawGraph, each_once, reading, whole_numbers


def read(paths: Sequence[Path]) -> RawGraph:
    """Read the features, the labels, and the articles that each article links to."""
    (path,) = paths
    with reading(path):
        content = json.loads(path.read_text(encoding="utf-8"))
        x = np.array(content["features"], dtype=np.float32)
        links = content["links"]
        labels = whole_numbers(content["labels"], low=0, what="'labels'")
        if not len(x) == len(links) == len(labels):
            raise ValueError(f"{len(x)} rows of features, {len(links)} lists of links and {len(labels)} labels")
        source = np.repeat(np.arange(len(links)), [len(targets) for targets in links])
        target = np.array([target for targets in links for target in targets], dtype=np.int64)
        return RawGraph(x, each_once(np.stack([source, target]), len(x)), labels)


wikics = NamedGraph("wikics", read)
