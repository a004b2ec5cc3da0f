from __future__ import annotations

import itertools
import os
import pickle
import re
import zipfile
from pathlib import Path

import networkx
import numpy as np
import pytest
import torch
from torch_geometric.data import Data, HeteroData

from fgsam.data import own
from fgsam.data.convert import FORMATS, convert, read
from fgsam.data.load import load_graph
from fgsam.graph.graph import Graph
from tests.data.own_graphs import KINDS, damaged, graph_of

EACH_FORMAT = pytest.mark.parametrize("suffix", [".npz", ".pt", ".graphml", ".csv", ".parquet"])


def test_every_format_is_tested():
    assert set(FORMATS) == {".npz", ".pt", ".graphml", ".csv", ".parquet"}


@EACH_FORMAT
@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_exported_and_read_again_has_the_same_digest(tmp_path: Path, suffix: str, kind: str):
    graph = graph_of(**KINDS[kind])
    own.save(graph, tmp_path / "my.npz")
    there, back = tmp_path / f"there/edges{suffix}", tmp_path / "back.npz"
    assert convert(tmp_path / "my.npz", there).digest == graph.digest
    convert(there, back, directed=own.read(tmp_path / "my.npz").directed if suffix == ".csv" else None)
    again = own.load(back)
    assert again.digest == graph.digest
    assert (again.is_directed, again.is_weighted) == (graph.is_directed, graph.is_weighted)
    assert own.read(back).edge_index.shape == (2, graph.num_edges)


def test_a_graph_that_a_format_cannot_hold_is_not_written(tmp_path: Path):
    np.savez(tmp_path / "my.npz", edge_index=[[0, 1], [1, 0]], labels=[0, 1], x=np.array([[1e-60], [1.0]]))
    for target in ("my.graphml", "edges.csv"):
        with pytest.raises(ValueError, match=r"to hold the graph of '.*my\.npz' unchanged .*write \.npz instead"):
            convert(tmp_path / "my.npz", tmp_path / target)
    assert [path.name for path in tmp_path.iterdir()] == ["my.npz"]


@EACH_FORMAT
def test_damage_is_refused_or_changes_nothing(tmp_path: Path, suffix: str):
    graph = graph_of(directed=True, weighted=True)
    own.save(graph, tmp_path / "my.npz")
    target = tmp_path / f"there/edges{suffix}"
    convert(tmp_path / "my.npz", target)
    refusals = []
    for path in sorted(target.parent.iterdir()):
        for damage in damaged(path):
            found, message = attempt(target, directed=True if suffix == ".csv" else None)
            if found is None:
                refusals.append((damage, message))
            else:  # text without a checksum may hold another graph, which nobody can tell
                assert suffix == ".csv" or found.digest == graph.digest, damage
    assert len(refusals) > 20
    for damage, message in refusals:
        assert str(target.parent) in message, damage
        assert re.search(r"(Save|Write|Mend|remove|compare|Add|Name|rename|Pass|Number|Replace|Leave) ", message), (
            message
        )


def attempt(path: Path, **options) -> tuple[Graph | None, str]:
    try:
        return read(path, **options)[1], ""
    except ValueError as error:
        return None, str(error)


class Payload:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def payloads(marker: str) -> list[Payload]:
    import builtins
    import functools
    import importlib as importer
    import operator
    import subprocess

    program = f"open({marker!r}, 'w').close()"
    inner = pickle.dumps(Payload(eval, program))
    return [
        Payload(os.system, f"touch {marker}"),
        Payload(subprocess.Popen, ["touch", marker]),
        Payload(eval, program),
        Payload(exec, program),
        Payload(open, marker, "w"),
        Payload(importer.import_module, "antigravity"),
        Payload(functools.partial(exec, program)),
        Payload(operator.methodcaller("system", f"touch {marker}"), os),
        Payload(pickle.loads, inner),
        Payload(builtins.getattr, os, "mkdir"),
        Payload(np.save, marker, np.zeros(1)),
        Payload(torch.save, 0, marker),
    ]


@pytest.mark.parametrize("number", range(12))
@pytest.mark.parametrize("form", ["npz", "pt", "pt in y", "pt without a zip", "npz named pt"])
def test_no_payload_is_executed(tmp_path: Path, number: int, form: str):
    marker = tmp_path / "executed"
    try:
        payload = payloads(str(marker))[number]
        pickle.dumps(payload)
    except TypeError:
        payload = Payload(os.mkdir, str(marker))
    path = tmp_path / f"my.{form[:2] if form[:2] == 'pt' else 'npz'}"
    if form.startswith("npz"):
        objects = np.array([payload, 0], dtype=object)
        np.savez(path, edge_index=[[0, 1], [1, 0]], labels=objects, x=objects)
        if form == "npz named pt":
            path = path.rename(tmp_path / "my.pt")
    elif form == "pt in y":
        torch.save(Data(edge_index=torch.tensor([[0, 1], [1, 0]]), y=payload), path)
    else:
        torch.save(payload, path, _use_new_zipfile_serialization=form == "pt")
    with pytest.raises(ValueError, match=r"my\.(pt|npz)' .*(Save|Write)"):
        read(path)
    assert not marker.exists()


def test_what_other_packages_declare_safe_is_not_loaded(tmp_path: Path):
    from torch_geometric.data import TemporalData  # which PyTorch Geometric declares safe

    torch.save(TemporalData(src=torch.zeros(1)), tmp_path / "my.pt")
    declared = set(torch.serialization.get_safe_globals())
    with pytest.raises(ValueError, match=r"got 'torch_geometric\.data\.temporal\.TemporalData', which is never loaded"):
        read(tmp_path / "my.pt")
    assert set(torch.serialization.get_safe_globals()) == declared
    assert TemporalData in declared


def saved(tmp_path: Path, data: object) -> Path:
    torch.save(data, tmp_path / "data.pt")
    return tmp_path / "data.pt"


def test_saved_pyg_data_becomes_npz(tmp_path: Path):
    edges = torch.tensor([[0, 1, 2], [1, 2, 3]])
    data = Data(x=torch.rand(4, 2), edge_index=edges, y=torch.tensor([0, 1, 0, 2]), train_mask=torch.ones(4) > 0)
    path = saved(tmp_path, data)
    with pytest.raises(ValueError, match=r"both directions of every edge in '.*data\.pt'.*--symmetrise"):
        convert(path, tmp_path / "my.npz")
    report = convert(path, tmp_path / "my.npz", directed=False)
    assert (report.num_nodes, report.num_edges, report.num_features, report.num_classes) == (4, 6, 2, 3)
    assert "3 reverse edges were added." in report.notes
    assert load_graph(tmp_path / "my.npz").digest == report.digest


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"x": torch.ones(2)}, r"to hold a torch_geometric\.data\.Data object \(got dict\)"),
        (torch.ones(2), "got Tensor"),
        (Data(x=torch.ones(2, 1), y=torch.ones(2)), "to hold 'edge_index'"),
        (Data(x=torch.ones(2, 1), edge_index=torch.zeros(2, 0).long()), r"to hold 'y' .*Set data\.y first"),
        (Data(x="a", edge_index=torch.zeros(2, 0).long(), y=torch.zeros(2)), r"'x' in .* to be a tensor \(got str\)"),
    ],
)
def test_saved_content_that_is_no_graph_is_named(tmp_path: Path, content: object, message: str):
    with pytest.raises(ValueError, match=message) as caught:
        read(saved(tmp_path, content))
    assert "data.pt" in str(caught.value)


def test_sparse_features_of_saved_data_stay_sparse(tmp_path: Path):
    x = torch.eye(30)
    edges = torch.tensor([[0, 1], [1, 0]])
    digests = set()
    for layout in (x, x.to_sparse(), x.to_sparse_csr(), x.to_sparse_csc()):
        _, graph = read(saved(tmp_path, Data(x=layout, edge_index=edges, y=torch.zeros(30))))
        digests.add(graph.digest)
    assert len(digests) == 1


def heterogeneous() -> HeteroData:
    data = HeteroData()
    data["paper"].x, data["paper"].y = torch.rand(4, 2), torch.tensor([0, 1, 0, 1])
    data["author"].x = torch.rand(2, 2)
    data["paper", "cites", "paper"].edge_index = torch.tensor([[0, 1], [1, 0]])
    data["paper", "follows", "paper"].edge_index = torch.tensor([[2, 3], [3, 2]])
    data["author", "writes", "paper"].edge_index = torch.tensor([[0], [1]])
    return data


def test_one_kind_of_nodes_of_a_heterogeneous_graph_is_chosen_by_name(tmp_path: Path):
    path = saved(tmp_path, heterogeneous())
    with pytest.raises(ValueError, match=r"data\.pt' .*HeteroData with node types paper, author"):
        read(path)
    assert convert(path, tmp_path / "all.npz", node_type="paper").num_edges == 4
    assert convert(path, tmp_path / "some.npz", node_type="paper", edge_type="cites").num_edges == 2


def test_options_belong_to_their_format(tmp_path: Path):
    own.save(graph_of(), tmp_path / "my.npz")
    with pytest.raises(ValueError, match=r"no 'node_type' for a source in format '\.npz' .*It belongs to \.pt"):
        convert(tmp_path / "my.npz", tmp_path / "my.pt", node_type="paper")
    with pytest.raises(ValueError, match=r"no 'nodes' for .*It belongs to \.csv and \.parquet"):
        convert(tmp_path / "my.npz", tmp_path / "my.pt", nodes="nodes.csv")


def test_an_unknown_suffix_lists_the_formats(tmp_path: Path):
    for source, target in (("my.mat", "my.npz"), ("my.npz", "my.txt"), ("my.npz", "folder")):
        with pytest.raises(ValueError, match=r"known format \(got '.*'\): \.npz \(.*\), \.pt .*\.csv .*\.graphml"):
            convert(tmp_path / source, tmp_path / target)


def test_nothing_is_overwritten_unasked(tmp_path: Path):
    own.save(graph_of(), tmp_path / "my.npz")
    (tmp_path / "nodes.csv").write_text("mine")
    for target, taken in (("my.npz", "my.npz"), ("edges.csv", "nodes.csv")):
        with pytest.raises(FileExistsError, match=rf"a new file \(got '.*{taken}', which exists\).*--overwrite"):
            convert(tmp_path / "my.npz", tmp_path / target)
    convert(tmp_path / "my.npz", tmp_path / "edges.csv", overwrite=True)
    assert (tmp_path / "nodes.csv").read_text().startswith("id,label,x0,x1,x2\n0,,")


def test_a_missing_source_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"a graph in '.*my\.graphml' \(got no such file\)"):
        convert(tmp_path / "my.graphml", tmp_path / "my.npz")


def test_graphml_of_networkx_is_read_with_its_direction(tmp_path: Path):
    for kind, num_edges in ((networkx.Graph, 4), (networkx.DiGraph, 2)):
        g = kind([("a", "b", {"weight": 2.0}), ("b", "c", {"weight": 0.5})])
        for number, node in enumerate(g):
            g.nodes[node].update(label="odd" if number % 2 else "even", x10=0.5, x2=number)
        networkx.write_graphml(g, tmp_path / "my.graphml")
        parts, graph = read(tmp_path / "my.graphml")
        assert parts.class_names == ("even", "odd")
        assert parts.feature_names == ("x2", "x10")
        assert graph.x.tolist() == [[0.0, 0.5], [1.0, 0.5], [2.0, 0.5]]
        assert graph.num_edges == num_edges
        assert sorted(set(graph.edge_weight.tolist())) == [0.5, 2.0]


def test_other_attributes_of_graphml_edges_are_left_out(tmp_path: Path):
    g = networkx.Graph([("a", "b", {"colour": "red"})], edge_default={"weight": 3.0, "colour": "blue"})
    networkx.set_node_attributes(g, 0, "label")
    g.add_edge("b", "a", weight=2.0)
    g.add_edge("a", "a")
    networkx.write_graphml(g, tmp_path / "my.graphml")
    _, graph = read(tmp_path / "my.graphml")
    assert graph.edge_weight.tolist() == [3.0, 2.0, 2.0]


def test_graphml_faults_name_the_node(tmp_path: Path):
    g = networkx.path_graph(3)
    for node in g:
        g.nodes[node].update(label=node % 2, x="many" if node == 1 else "1")
    del g.nodes[2]["x"]
    networkx.write_graphml(g, tmp_path / "my.graphml")
    with pytest.raises(ValueError, match=r"(?s)my\.graphml.*2 faults.*node number 2, column 'x'.*'many'.*3, .*nothing"):
        read(tmp_path / "my.graphml")


def test_entities_of_graphml_are_not_expanded(tmp_path: Path):
    levels = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 20}">' for i in range(1, 9))
    text = f'<!DOCTYPE g [<!ENTITY e0 "x">{levels}<!ENTITY f SYSTEM "file:///etc/hostname">]><graphml>&e8;&f;</graphml>'
    (tmp_path / "my.graphml").write_text(text)
    with pytest.raises(ValueError, match=r"my\.graphml' to be readable as GraphML"):
        read(tmp_path / "my.graphml")


def test_the_report_says_what_a_user_may_want_to_know(tmp_path: Path):
    edges = [[0, 0, 1, 3, 3], [1, 1, 0, 3, 1]]
    np.savez(tmp_path / "my.npz", edge_index=edges, labels=[0, 3, -1, 1], directed=True)
    report = convert(tmp_path / "my.npz", tmp_path / "my.graphml")
    assert (report.num_classes, report.num_features, report.is_directed) == (3, 0, True)
    assert report.notes == (
        "1 of the nodes have no label: they are never drawn into an episode.",
        "1 nodes have no edge.",
        "1 edges lead from a node to itself.",
        "1 edges come more than once in the source.",
        "1 edges have no reverse and stay as they are.",
        "The nodes have no features: a run gives them their degree; dataset.features has other choices.",
    )


def test_a_file_of_another_format_names_the_conversion(tmp_path: Path):
    for name in ("my.pt", "my.csv", "my.graphml", "folder"):
        (tmp_path / "folder").mkdir(exist_ok=True)
        with pytest.raises(ValueError, match=rf"npz file of a graph .*fgsam data convert .*{name} \w+\.npz"):
            load_graph(tmp_path / name)


def test_crc_of_each_part_is_checked(tmp_path: Path):
    data = Data(x=torch.full((40, 4), 7.0), edge_index=torch.zeros(2, 0).long(), y=torch.zeros(40))
    path = saved(tmp_path, data)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    content = path.read_bytes()
    place = content.index(np.full(4, 7.0, np.float32).tobytes())
    path.write_bytes(content[:place] + b"\1" + content[place + 1 :])
    assert list(itertools.filterfalse(str.isprintable, names)) == []
    with pytest.raises(ValueError, match=r"data\.pt' to be readable .*wrong checksum of '.*data/"):
        read(path)
