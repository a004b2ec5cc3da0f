"""Field against full pass: outputs and gradients, built-in encoders and stock modules, on graphs of all kinds."""

from __future__ import annotations

import functools
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch
import torch_geometric.nn as pyg
from torch import Tensor, nn

from fgsam.graph.field import Field
from fgsam.graph.graph import Graph
from fgsam.nn.encoders import Encoder, field_of
from fgsam.nn.module import ModuleEncoder
from fgsam.registry import ENCODERS
from tests.twins import full_pass

NUM_TARGETS = 25
NUM_WORDS = 400  # of each real graph: stock layers send whole feature rows along every edge
LIMIT = 1e-12

GRAPHS = ["synthetic", *(pytest.param(name, marks=pytest.mark.dataset) for name in ("cora_ml", "actor", "wisconsin"))]
MODULES = {
    "GCNConv": lambda f: pyg.GCNConv(f, 8),
    "SAGEConv": lambda f: pyg.SAGEConv(f, 8),
    "GATConv": lambda f: pyg.GATConv(f, 8),
    "GINConv": lambda f: pyg.GINConv(nn.Sequential(nn.Linear(f, 8), nn.ReLU(), nn.Linear(8, 8))),
    "SGConv": lambda f: pyg.SGConv(f, 8),
    "APPNP": lambda f: WithLinear(f, pyg.APPNP(K=10, alpha=0.1)),
    "GCN": lambda f: pyg.GCN(f, 16, 2, out_channels=8),
    "GraphSAGE": lambda f: pyg.GraphSAGE(f, 16, 2, out_channels=8),
    "GAT": lambda f: pyg.GAT(f, 16, 2, out_channels=8),
    "GIN": lambda f: pyg.GIN(f, 16, 2, out_channels=8),
    "PNA": lambda f: WithLinear(
        f,
        pyg.PNA(
            8,
            8,
            2,
            aggregators=["mean", "max", "std"],
            scalers=["identity", "attenuation"],
            deg=torch.tensor([9, 40, 30, 8]),
        ),
    ),
}
NAMES = [*ENCODERS, *MODULES]


class WithLinear(nn.Module):
    """A layer without weights behind a linear map, as it is used."""

    def __init__(self, num_features: int, conv: nn.Module) -> None:
        super().__init__()
        self.linear = nn.Linear(num_features, 8)
        self.conv = conv

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.conv(self.linear(x), edge_index)


@dataclass(frozen=True)
class Raw:
    """Features and edges as the twins see them."""

    x: Tensor
    edge_index: Tensor
    is_directed: bool

    def graph(self) -> Graph:
        labels = np.zeros(len(self.x), dtype=np.int64)
        features = scipy.sparse.csr_array(self.x.numpy())
        return Graph.from_arrays(features, self.edge_index, labels, directed=self.is_directed)


def undirected(edges: np.ndarray) -> np.ndarray:
    return np.unique(np.concatenate([edges, edges[::-1]], axis=1), axis=1)


def synthetic(_: Path | None) -> Raw:
    rng = np.random.default_rng(0)
    num_nodes = 300
    edges = rng.integers(0, num_nodes - 5, (2, 420))  # the last five nodes have no edges
    edges = np.unique(np.concatenate([edges, [[3, 4], [3, 4]]], axis=1), axis=1)  # two self-loops at least
    x = rng.normal(size=(num_nodes, 30)) * (rng.random((num_nodes, 30)) < 0.15)
    return Raw(torch.from_numpy(x), torch.from_numpy(edges), is_directed=True)


def cora_ml(root: Path) -> Raw:
    with np.load(root / "citation_full/cora_ml/raw/cora_ml.npz") as z:
        x = scipy.sparse.csr_array((z["attr_data"], z["attr_indices"], z["attr_indptr"]), shape=z["attr_shape"])
        a = scipy.sparse.coo_array(
            scipy.sparse.csr_array((z["adj_data"], z["adj_indices"], z["adj_indptr"]), shape=z["adj_shape"])
        )
    edges = undirected(np.stack([a.row, a.col]).astype(np.int64))
    return Raw(torch.from_numpy(x.toarray().astype(np.float64)), torch.from_numpy(edges), is_directed=False)


def geom_gcn(folder: str, root: Path, *, num_words: int | None) -> Raw:
    """A directed graph as text: a node a line, its features as a list of words or as zeros and ones."""
    raw = root / folder / "raw"
    edges = np.loadtxt(raw / "out1_graph_edges.txt", skiprows=1, dtype=np.int64).T
    lines = (raw / "out1_node_feature_label.txt").read_text().splitlines()[1:]
    rows = {
        int(node): np.array(values.split(","), dtype=np.int64) for node, values, _ in (x.split("\t") for x in lines)
    }
    if num_words is None:
        x = np.stack([rows[node] for node in range(len(rows))]).astype(np.float64)
    else:
        x = np.zeros((len(rows), num_words))
        for node, words in rows.items():
            x[node, words] = 1.0
    return Raw(torch.from_numpy(x), torch.from_numpy(np.unique(edges, axis=1)), is_directed=True)


READERS = {
    "synthetic": synthetic,
    "cora_ml": cora_ml,
    "actor": functools.partial(geom_gcn, "actor", num_words=932),
    "wisconsin": functools.partial(geom_gcn, "webkb/wisconsin", num_words=None),
}


@functools.cache
def read(name: str, root: Path | None) -> tuple[Raw, Graph]:
    raw = READERS[name](root)
    raw = Raw(raw.x[:, :NUM_WORDS].contiguous(), raw.edge_index, raw.is_directed)
    return raw, raw.graph()


@pytest.fixture(params=GRAPHS)
def graph_name(request) -> str:
    return request.param


@pytest.fixture
def both(graph_name, request) -> tuple[Raw, Graph]:
    return read(graph_name, None if graph_name == "synthetic" else Path(request.getfixturevalue("data_root")))


@functools.cache
def build(name: str, num_features: int) -> Encoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(zlib.crc32(name.encode()))
        if name in MODULES:
            return ModuleEncoder(MODULES[name](num_features).double(), num_features).eval()
        encoder = ENCODERS.load(name)(num_features, dim=8).double().eval()
        for parameter in encoder.parameters():  # biases that are zero would hide a mistake
            nn.init.normal_(parameter, std=0.2)
        return encoder


def targets_of(raw: Raw) -> Tensor:
    return torch.from_numpy(np.random.default_rng(1).permutation(len(raw.x))[:NUM_TARGETS])


def rows_and_gradient(encoder: Encoder, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The rows, and the whole gradient of a random loss as one vector."""
    noise = torch.randn(rows.shape, generator=torch.Generator().manual_seed(2), dtype=rows.dtype)
    gradients = torch.autograd.grad((rows * noise).sum(), list(encoder.parameters()))
    return rows.detach(), torch.cat([gradient.flatten() for gradient in gradients])


def error(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("name", NAMES)
def test_field_gives_outputs_and_gradients_of_the_full_pass(name, both):
    raw, graph = both
    encoder, targets = build(name, raw.x.size(1)), targets_of(raw)
    twin = full_pass.TWINS.get(name, full_pass.module)
    rows, gradient = rows_and_gradient(encoder, encoder(field_of(encoder, graph, targets)))
    wanted_rows, wanted_gradient = rows_and_gradient(encoder, twin(encoder, raw.x, raw.edge_index)[targets])
    assert error(rows, wanted_rows) < LIMIT
    assert error(gradient, wanted_gradient) < LIMIT


@pytest.mark.parametrize("name", NAMES)
def test_zero_hop_field_is_the_same_module_on_rows_with_self_loops(name, both):
    raw, graph = both
    encoder, targets = build(name, raw.x.size(1)), targets_of(raw)
    twin = full_pass.TWINS.get(name, full_pass.module)
    loops = torch.arange(len(targets)).repeat(2, 1)
    rows = encoder(field_of(encoder, graph, targets, peer=True))
    wanted = twin(encoder, raw.x[targets], loops)
    assert error(rows.detach(), wanted.detach()) < LIMIT


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("peer", [False, True], ids=["field", "peer"])
def test_rows_outside_of_the_field_are_never_read(name, both, peer):
    raw, graph = both
    encoder, targets = build(name, raw.x.size(1)), targets_of(raw)[:5]
    hops = 0 if peer else encoder.num_hops

    def field_with(x: Tensor) -> Field:
        same = Graph(x, graph.labels, graph.adjacency, is_weighted=False, is_directed=raw.is_directed)
        return same.field(targets, hops, edges=encoder.edges, boundary=encoder.boundary)

    clean = field_with(raw.x)
    poisoned = torch.full_like(raw.x, torch.nan)
    poisoned[clean.node_ids] = raw.x[clean.node_ids]
    assert torch.equal(encoder(field_with(poisoned)), encoder(clean))
    assert not peer or clean.node_ids.tolist() == targets.tolist()


def test_the_twins_do_not_agree_by_accident():
    raw, graph = read("synthetic", None)
    encoder, targets = build("gcn", raw.x.size(1)), targets_of(raw)
    fewer = raw.edge_index[:, raw.edge_index[1] != targets[0]]
    rows = encoder(field_of(encoder, graph, targets))
    assert error(rows.detach(), full_pass.gcn(encoder, raw.x, fewer)[targets].detach()) > 1e-3
