import shutil

import numpy as np
import pytest
import torch

from fgsam.data import clothing20, coauthor_cs, corafull_derived

pytestmark = pytest.mark.dataset


def test_coauthor_features_are_zero_or_one(data_root):
    graph = coauthor_cs.load(data_root)
    assert set(graph.x.scipy().data.tolist()) == {1.0}
    assert graph.digest == coauthor_cs.load(data_root / "coauthor", symmetrise=True).digest


def test_coauthor_equals_the_loader_of_pytorch_geometric(data_root, tmp_path):
    datasets = pytest.importorskip("torch_geometric.datasets")
    shutil.copytree(data_root / "coauthor" / "CS", tmp_path / "CS")
    data = datasets.Coauthor(str(tmp_path), "CS")[0]
    graph = coauthor_cs.load(data_root)
    assert torch.equal(graph.labels, data.y)
    rows = np.arange(0, graph.num_nodes, 37)
    assert np.array_equal(graph.x.scipy()[rows].toarray(), data.x[rows].numpy())
    theirs, ours = (np.unique(edges[0] * graph.num_nodes + edges[1]) for edges in (data.edge_index, graph.edge_index))
    assert np.array_equal(theirs, ours)


def test_corafull_can_stay_directed(data_root):
    graph = corafull_derived.load(data_root, symmetrise=False)
    assert graph.is_directed
    assert graph.num_edges == 65_311


def test_whole_clothing_keeps_products_without_label(data_root):
    part, whole = clothing20.load(data_root), clothing20.load(data_root, whole=True)
    assert (whole.num_nodes, whole.num_edges, whole.num_classes) == (24_919, 183_360, 20)
    known = whole.labels >= 0
    assert torch.equal(whole.labels[known], part.labels)
    assert (whole.degree > 0).all()
    words = whole.x.scipy()
    assert np.diff(words.indptr)[~known.numpy()].sum() == 0
    assert (words[known.numpy()] != part.x.scipy()).nnz == 0


@pytest.mark.parametrize(
    ("module", "damaged"), [(coauthor_cs, 0), (corafull_derived, 0), (clothing20, 0), (clothing20, 1)]
)
def test_damaged_raw_file_is_named(data_root, tmp_path, module, damaged):
    for i, file in enumerate(module.FILES):
        content = (data_root / file).read_bytes()
        name = file.rsplit("/", 1)[1]
        (tmp_path / name).write_bytes(content[: len(content) // 3] if i == damaged else content)
        wrong = name if i == damaged else ""
    with pytest.raises(ValueError, match=rf"{wrong}|graph '{module.NAME}' to hold the known content"):
        module.load(tmp_path)
