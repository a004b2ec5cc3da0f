from __future__ import annotations

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from fgsam.assets import asset_folder
from fgsam.data.node_splits import known_digests
from fgsam.nodes.split import PARTS
from fgsam.registry import DATASETS

AT_HAND = sorted(known_digests())
TEN = sorted(set(AT_HAND) - {"cora", "citeseer"})


def load(name):
    return DATASETS.load(name)


@pytest.mark.dataset
@pytest.mark.parametrize("name", AT_HAND)
def test_every_public_split_is_the_known_one(name, data_root):
    splits = [load(name).public_split(i, data_root) for i in range(len(known_digests()[name]))]
    assert [split.digest for split in splits] == known_digests()[name]
    assert len({split.digest for split in splits}) == (1 if name in ("cora", "citeseer") else 10)


@pytest.mark.dataset
@pytest.mark.parametrize("name", TEN)
def test_ten_splits_divide_nearly_all_nodes_in_the_usual_shares(name, data_root):
    split = load(name).public_split(0, data_root)
    total, num_nodes = sum(split.sizes.values()), load(name)(data_root).num_nodes
    assert 0.95 * num_nodes < total <= num_nodes
    assert split.sizes["train"] / num_nodes == pytest.approx(0.48, abs=0.03)


@pytest.mark.dataset
@pytest.mark.parametrize(("name", "num_train"), [("cora", 140), ("citeseer", 120)])
def test_the_split_of_planetoid_is_that_of_pytorch_geometric(name, num_train, data_root, tmp_path):
    from torch_geometric.datasets import Planetoid

    folder = {"cora": "Cora", "citeseer": "CiteSeer"}[name]
    shutil.copytree(data_root / "planetoid" / folder / "raw", tmp_path / folder / "raw")
    data = Planetoid(str(tmp_path), folder)[0]
    split = load(name).public_split(0, data_root)
    assert split.sizes == {"train": num_train, "val": 500, "test": 1000}
    for part in PARTS:
        assert getattr(split, part).tolist() == data[f"{part}_mask"].nonzero().flatten().tolist()


@pytest.mark.dataset
@pytest.mark.parametrize("folder", ["webkb_corrected", "webkb"])
def test_cornell_as_distributed_has_the_splits_of_its_own_folder(folder, data_root):
    split = load("cornell").public_split(4, data_root, {"as_distributed": folder == "webkb"})
    stored = np.load(data_root / folder / "cornell" / "raw" / "cornell_split_0.6_0.2_4.npz")
    assert split.val.tolist() == np.flatnonzero(stored["val_mask"]).tolist()


@pytest.fixture
def texas(data_root, tmp_path):
    folder = tmp_path / "webkb" / "texas" / "raw"
    shutil.copytree(data_root / "webkb" / "texas" / "raw", folder)
    return folder


@pytest.mark.dataset
def test_a_missing_file_of_masks_is_named(texas, tmp_path):
    (texas / "texas_split_0.6_0.2_3.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"texas_split_0\.6_0\.2_3\.npz.*geom-gcn.*split_kind=drawn"):
        load("texas").public_split(3, tmp_path)


@pytest.mark.dataset
def test_an_altered_file_of_masks_is_refused(texas, tmp_path):
    path = texas / "texas_split_0.6_0.2_3.npz"
    masks = dict(np.load(path))
    first = masks["test_mask"].nonzero()[0][0]
    masks["test_mask"][first], masks["train_mask"][first] = 0, 1
    np.savez(path, **masks)
    with pytest.raises(ValueError, match="public split 3 of 'texas' to have the digest"):
        load("texas").public_split(3, tmp_path)


@pytest.mark.dataset
@pytest.mark.parametrize(("name", "index", "known"), [("texas", 10, "There are 0 to 9"), ("cora", 1, "number 0")])
def test_an_unknown_number_is_refused(name, index, known, data_root):
    with pytest.raises(ValueError, match=rf"public split of '{name}' \(got {index}\)\. .*{known}"):
        load(name).public_split(index, data_root)


@pytest.mark.dataset
def test_the_file_of_digests_is_what_its_script_writes(tmp_path, data_root):
    datasets = asset_folder("datasets")
    (tmp_path / "make_node_splits.py").write_text((datasets / "make_node_splits.py").read_text())
    environment = os.environ | {"PYTHONPATH": str(datasets.parent)}
    subprocess.run([sys.executable, str(tmp_path / "make_node_splits.py")], check=True, env=environment)
    assert (tmp_path / "node_splits.json").read_bytes() == (datasets / "node_splits.json").read_bytes()
