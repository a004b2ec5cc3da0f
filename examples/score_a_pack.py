"""A method written outside the package beside every arm of a task pack: nearest class mean on features, in plain numpy.

A task pack usually comes from somebody else. Here it is made first, of a small comparison.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np

import fgsam
from fgsam.comparison.executors.inline import Inline
from fgsam.comparison.grid_source import grid_of_call
from fgsam.comparison.pack import export_pack
from fgsam.comparison.pack_score import PackScore, score_pack
from fgsam.comparison.study import Study

GRAPH = {"num_nodes": 600, "num_classes": 12, "num_features": 100, "words_per_node": 20}


def nearest_mean(x: np.ndarray, support: np.ndarray, labels: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Give each query node the class id whose support nodes have the nearest mean."""
    classes = np.unique(labels)
    means = np.stack([x[support[labels == class_id]].mean(axis=0) for class_id in classes])
    return classes[((x[query][:, None] - means) ** 2).sum(axis=-1).argmin(axis=1)]


def predict(pack_file: Path, x: np.ndarray, file: Path) -> None:
    """Write the predictions for every class split of a pack; numpy is all that it takes."""
    with np.load(pack_file) as pack:
        found = {}
        for key in (split["key"] for split in json.loads(str(pack["about"]))["splits"]):
            arrays = [pack[f"{key}/test/{name}"] for name in ("support", "support_labels", "query")]
            found[key] = np.stack([nearest_mean(x, *episode) for episode in zip(*arrays, strict=True)])
    np.savez(file, **found)


def main(num_episodes: int = 20) -> PackScore:
    """Make a pack of two learners and two floors on three class splits, and score nearest means by it."""
    setting = {"episode": {"n_way": 2}, "train": {"num_episodes": num_episodes}, "evaluate": {"num_episodes": 100}}
    arms = [{"method": "gpn", "optimizer": ["adam", "fgsam"]}, {"method": ["raw_lr", "sgc_prototype"]}]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        graphs = [{"name": "synthetic", **GRAPH}]
        study = Study(folder / "study", grid_of_call(graphs=graphs, arms=arms, splits=3, common=setting))
        list(study.run(Inline()))
        export_pack(study, folder / "pack.npz")
        predict(folder / "pack.npz", fgsam.load_graph("synthetic", **GRAPH).x.dense().numpy(), folder / "mine.npz")
        return score_pack(folder / "pack.npz", folder / "mine.npz")


if __name__ == "__main__":
    print(main(num_episodes=200))
