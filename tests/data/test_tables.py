from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

from fgsam.data import columns
from fgsam.data.convert import convert, read

NODES = "id,label,age,size\na,x,1,0.5\nb,y,2,0.25\nc,,3,1e-3\n"
EDGES = "source,target\na,b\nb,a\nb,c\nc,b\n"


def written(tmp_path: Path, nodes: str = NODES, edges: str = EDGES) -> Path:
    (tmp_path / "nodes.csv").write_text(nodes)
    (tmp_path / "edges.csv").write_text(edges)
    return tmp_path / "edges.csv"


def test_ids_are_numbered_in_the_order_of_the_nodes_and_texts_in_sorted_order(tmp_path: Path):
    parts, graph = read(written(tmp_path, NODES.replace("x", "zoo")))
    assert graph.edge_index.tolist() == [[1, 0, 2, 1], [0, 1, 1, 2]]
    assert graph.labels.tolist() == [1, 0, -1]
    assert graph.x.tolist() == np.float32([[1, 0.5], [2, 0.25], [3, 1e-3]]).tolist()
    assert parts.class_names == ("y", "zoo")
    assert parts.feature_names == ("age", "size")


def test_a_folder_or_another_name_of_the_nodes_gives_the_same_graph(tmp_path: Path):
    _, graph = read(written(tmp_path))
    assert read(tmp_path)[1].digest == graph.digest
    (tmp_path / "nodes.csv").rename(tmp_path / "people.csv")
    with pytest.raises(FileNotFoundError, match=r"the table of nodes in '.*nodes\.csv'.*--nodes"):
        read(tmp_path)
    assert read(tmp_path, nodes=tmp_path / "people.csv")[1].digest == graph.digest


def test_spaces_empty_lines_quotes_and_a_byte_order_mark_change_nothing(tmp_path: Path):
    _, graph = read(written(tmp_path))
    nodes = "\ufeff" + NODES.replace("a,x", '"a", x ').replace("\nb", "\n\nb")
    _, again = read(written(tmp_path, nodes, EDGES.replace("\n", "\r\n")))
    assert again.digest == graph.digest


@pytest.mark.parametrize(
    ("labels", "numbers", "names"),
    [
        (["0", "2", ""], [0, 2, -1], ()),
        (["1.0", "0.0", "-1"], [1, 0, -1], ()),
        (["2019", "2007", "2019"], [1, 0, 1], ("2007", "2019")),
        (["", "", ""], [-1, -1, -1], ()),
        (["b", "a", "b"], [1, 0, 1], ("a", "b")),
    ],
)
def test_labels_are_numbers_or_names(tmp_path: Path, labels: list[str], numbers: list[int], names: tuple[str, ...]):
    rows = [f"{name},{label}" for name, label in zip("abc", labels, strict=True)]
    parts, graph = read(written(tmp_path, "\n".join(["id,label", *rows])))
    assert (graph.labels.tolist(), parts.class_names) == (numbers, names)


def test_weights_are_read(tmp_path: Path):
    _, graph = read(written(tmp_path, edges="source,target,weight\na,b,0.5\nb,c,2\n"), directed=False)
    assert graph.edge_weight.tolist() == [0.5, 0.5, 2.0, 2.0]


def test_self_loops_and_duplicates_are_kept_or_dropped_with_a_note(tmp_path: Path):
    edges = written(tmp_path, edges="source,target\na,b\na,b\nc,c\n")
    kept = convert(edges, tmp_path / "kept.npz", directed=True)
    dropped = convert(edges, tmp_path / "dropped.npz", directed=False)
    assert (kept.num_edges, dropped.num_edges) == (3, 3)
    for report in (kept, dropped):
        assert "1 edges come more than once in the source." in report.notes
        assert "1 edges lead from a node to itself." in report.notes


def faults(path: Path, **options) -> str:
    with pytest.raises(ValueError, match="Expected ") as caught:
        read(path, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ("id,class,age\na,0,1\n", "line 1, the header: expected a column 'label' (got id, class, age). Is it one of"),
        ("name,label\na,0\n", "line 1, the header: expected a column 'id' (got name, label)"),
        ("", "line 1, the header: expected a column 'id' (got no header)"),
        ("id;label\na;0\n", "line 1, the header: expected values separated by commas (got ';')"),
        ("id\tlabel\na\t0\n", "line 1, the header: expected values separated by commas (got '\\t')"),
        ("id,label,id\na,0,b\n", "line 1, the header: expected one column 'id' (got 2)"),
        ("id,label\n", "the table: expected one row for each node (got none)"),
        ("id,label\na,0\nb,1,2\n", "line 3: expected 2 values as in the header (got 3)"),
        ("id,label\na,0\n\na,1\n", "line 4, column 'id': expected an id of its own (got 'a', which line 2 has)"),
        ("id,label\n,0\n", "line 2, column 'id': expected an id of its own (got nothing)"),
        ("id,label\na,0\nb,1\nc,u\n", "line 4, column 'label': expected a whole number as in the other rows (got 'u')"),
        ("id,label\na,0\nb,u\nc,v\n", "line 2, column 'label': expected a name as in the other rows (got '0')"),
        ("id,label\na,0\nb,.5\n", "line 3, column 'label': expected a whole number as in the other rows (got '.5')"),
        ("id,label\na,0\nb,-2\n", "line 3, column 'label': expected a number from 0 on, -1 or nothing (got '-2')"),
        ("id,label\na,u\nb,NaN\n", "line 3, column 'label': expected a class, or nothing where unknown (got 'NaN')"),
        ("id,label,age\na,0,n/a\n", "line 2, column 'age': expected a finite number (got 'n/a')"),
        ("id,label,age\na,0,nan\n", "line 2, column 'age': expected a finite number (got 'nan')"),
        ("id,label,age\na,0,1e39\n", "line 2, column 'age': expected a finite number (got '1e39')"),
        ("id,label,age\na,0,1_0\n", "line 2, column 'age': expected a finite number (got '1_0')"),
        ("id,label,age\na,0,\n", "line 2, column 'age': expected a finite number (got nothing)"),
        ('id,label\n"a,0\n', "to be readable as CSV in UTF-8 (got unexpected end of data, after line 2)"),
    ],
)  # fmt: skip
def test_a_fault_of_the_nodes_names_line_column_and_value(tmp_path: Path, nodes: str, message: str):
    text = faults(written(tmp_path, nodes))
    assert "nodes.csv' to " in text
    assert message in text


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ("from,to\na,b\n", "line 1, the header: expected a column 'source' (got from, to)"),
        ("source,target,wieght\na,b,1\n", "source, target and perhaps weight (got 'wieght'). Did you mean 'weight'?"),
        ("source,target\na,b\nb\n", "line 3: expected 2 values as in the header (got 1)"),
        ("source,target,weight\na,b,inf\n", "line 2, column 'weight': expected a finite number (got 'inf')"),
    ],
)  # fmt: skip
def test_a_fault_of_the_edges_names_line_column_and_value(tmp_path: Path, edges: str, message: str):
    text = faults(written(tmp_path, edges=edges))
    assert "edges.csv' to hold a graph" in text
    assert message in text


def test_an_unknown_end_of_an_edge_names_the_nearest_id(tmp_path: Path):
    nodes = "id,label\nperson1,0\nthing,1\n"
    text = faults(written(tmp_path, nodes, "source,target\nperson1,thing\nperson2,thing\n"))
    assert "line 3, column 'source': expected an id of '" in text
    assert "nodes.csv' (got 'person2'). Did you mean 'person1'?" in text


def test_the_first_ten_faults_of_a_file_are_listed_in_its_order(tmp_path: Path):
    rows = [f"{i},{'x' if i == 4 else i},{'nan' if i > 6 else 1}" for i in range(20)]
    text = faults(written(tmp_path, "\n".join(["id,label,age", *rows])))
    assert text.splitlines()[0].endswith("nodes.csv' to hold a graph (got 14 faults):")
    assert [line.split(":")[0].strip() for line in text.splitlines()[1:11]] == [
        "line 6, column 'label'",
        *(f"line {line}, column 'age'" for line in range(9, 18)),
    ]
    assert text.splitlines()[11:] == ["  and 4 more", "Mend it and try again."]


def test_a_missing_reverse_edge_needs_a_choice(tmp_path: Path):
    edges = written(tmp_path, edges="source,target\na,b\n")
    assert "both directions of every edge in" in faults(edges)
    assert read(edges, directed=True)[1].num_edges == 1
    assert read(edges, directed=False)[1].num_edges == 2


def test_a_file_in_another_encoding_is_named(tmp_path: Path):
    edges = written(tmp_path)
    (tmp_path / "nodes.csv").write_bytes("id,label\nä,0\n".encode("latin-1"))
    assert "nodes.csv' to be readable as CSV in UTF-8" in faults(edges)


def test_a_folder_without_tables_or_with_two_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"edges\.csv or edges\.parquet in the folder .*--nodes"):
        read(tmp_path)
    written(tmp_path)
    (tmp_path / "edges.parquet").touch()
    assert "one table of edges in" in faults(tmp_path)


def test_parquet_without_pyarrow_names_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def missing(name: str):
        raise ImportError(name)

    written(tmp_path)
    monkeypatch.setattr(columns, "importlib", type("without", (), {"import_module": staticmethod(missing)}))
    for name in ("nodes.csv", "edges.csv"):
        (tmp_path / name).rename((tmp_path / name).with_suffix(".parquet"))
    assert "Install it with 'pip install pyarrow'" in faults(tmp_path / "edges.parquet")


def test_typed_columns_of_parquet_are_read(tmp_path: Path):
    arrow = importlib.import_module("pyarrow")
    parquet = importlib.import_module("pyarrow.parquet")
    x = np.float32([0.1, 1 / 3, 7])
    parquet.write_table(arrow.table({"id": [5, 7, 9], "label": [1.0, None, 0.0], "x": x}), tmp_path / "nodes.parquet")
    parquet.write_table(arrow.table({"source": [5, 9], "target": [9, 5]}), tmp_path / "edges.parquet")
    _, graph = read(tmp_path)
    assert graph.labels.tolist() == [1, -1, 0]
    assert graph.x.flatten().tolist() == x.tolist()
    parquet.write_table(arrow.table({"source": [5, 8], "target": [9, 5]}), tmp_path / "edges.parquet")
    assert "row 2, column 'source': expected an id of" in faults(tmp_path)
