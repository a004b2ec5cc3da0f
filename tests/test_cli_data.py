from __future__ import annotations

import contextlib
import dataclasses
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from fgsam import cli_get
from fgsam.cli import app
from fgsam.data import card as cards
from fgsam.data.card import Download, load_card
from fgsam.data.download import Report
from fgsam.data.figures import figures, warnings
from fgsam.data.load import load_graph
from fgsam.registry import DATASETS
from tests.data.server import BadServer, serving

FILES = ("webkb/texas/raw/out1_node_feature_label.txt", "webkb/texas/raw/out1_graph_edges.txt")


def data(*args: str, ok: bool = True, **kwargs: str) -> Result:
    done = CliRunner().invoke(app, ["data", *args], **kwargs)
    assert (done.exit_code == 0) == ok, (done.output, done.exception)
    assert "Traceback" not in done.output
    return done


def fault(*args: str) -> str:
    done = data(*args, ok=False)
    assert done.exit_code == 2, done.exception
    return " ".join(done.stderr.split())


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder, the only one."""
    monkeypatch.setenv("FGSAM_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("FGSAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "data"


@pytest.fixture
def texas(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BadServer]:
    """Serves the files of Texas, from where its card says that they are."""
    with serving() as server:
        for file in FILES:
            server.files[f"new_data/{file}"] = (data_root / file).read_bytes()
        downloads = [Download(f"{server.address}/new_data/{file}", file=file) for file in FILES]
        card = dataclasses.replace(load_card("texas"), downloads=downloads)
        for module in ("fgsam.data.card", "fgsam.data.named"):
            monkeypatch.setattr(f"{module}.load_card", lambda name: card if name == "texas" else load_card(name))
        yield server


def test_list_names_every_graph_and_says_whether_its_files_are_here(home: Path):
    lines = {line.split()[0]: line for line in data("list").stdout.splitlines() if line.strip()}
    assert set(DATASETS) <= set(lines)
    assert lines["synthetic"].split()[-1] == "generated"
    assert lines["texas"].split()[-1] == "absent"
    (home / "raw").mkdir(parents=True)
    (home / "raw" / "out1_graph_edges.txt").write_text("")
    assert "1 of 2" in data("list").stdout


def test_show_says_what_the_card_knows_and_draws_the_classes(home: Path):
    shown = " ".join(data("show", "coauthor_cs").stdout.split())
    card = load_card("coauthor_cs")
    for text in (card.title, card.source, card.licence, "nodes 18,333", "edges 163,788", "class splits 5/5/5"):
        assert text in shown
    for text in (*card.raw_files[card.files[0]], card.digests["default"], "absent", "4,136 █"):
        assert text in shown
    assert card.known_faults[0][:60] in shown


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_every_card_can_be_shown(name: str):
    assert load_card(name).title in " ".join(data("show", name).stdout.split())


@pytest.mark.parametrize("verb", ["show", "check", "get", "splits"])
def test_an_unknown_name_names_the_nearest(verb: str):
    assert "Did you mean 'coauthor_cs'" in fault(verb, "coauthor")


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_a_plot_is_drawn(suffix: str, tmp_path: Path):
    path = tmp_path / f"graph.{suffix}"
    assert f"Drawn into {path}" in data("show", "synthetic", "--plot", str(path)).stdout
    assert path.read_bytes()[:5] in (b"\x89PNG\r", b"%PDF-", b"<?xml")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_an_unknown_format_of_figures_is_named(tmp_path: Path):
    assert "to end in a format of figures, " in fault("show", "synthetic", "--plot", str(tmp_path / "graph.docx"))


@pytest.mark.dataset
def test_check_compares_files_counts_and_digest_with_the_card(data_root: Path):
    shown = data("check", "texas").stdout
    assert shown.count(": a known file") == 2
    assert f"Graph 'texas' is the one of its card: digest {load_card('texas').digests['default']}." in shown


@pytest.mark.dataset
def test_check_names_an_altered_file(data_root: Path, home: Path):
    for file in FILES:
        (home / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(data_root / file, home / file)
    edges = home / FILES[1]
    edges.chmod(0o644)
    edges.write_text(edges.read_text().replace("\n0\t", "\n1\t", 1))
    assert f"Expected '{edges}' to hold the known content of graph 'texas'" in fault("check", "texas")


@pytest.mark.dataset
def test_check_finds_a_card_with_wrong_counts(data_root: Path, monkeypatch: pytest.MonkeyPatch):
    card = dataclasses.replace(load_card("texas"), isolated_nodes=7)
    monkeypatch.setattr(cards, "load_card", lambda name: card)
    assert "Expected the counts of the card of 'texas' (other isolated_nodes)." in fault("check", "texas")


def test_check_counts_an_own_graph_and_warns(tmp_path: Path):
    labels = np.array([0] * 30 + [1] * 20 + [2] * 5 + [-1])
    edges = np.array([[0, 1, 2, 3, 3], [1, 2, 3, 4, 3]])
    x = np.eye(56, dtype=np.float32)
    x[0] = 0
    np.savez(tmp_path / "my.npz", x=x, edge_index=edges, labels=labels, directed=False)
    shown = data("check", str(tmp_path / "my.npz")).stdout
    for text in (
        "- 1 nodes have no label and are never drawn.",
        "- 51 nodes have no edge.",
        "- 1 nodes have no feature that is not zero.",
        "- 1 edges lead from a node to itself.",
        "- Classes with fewer than 13 labelled nodes (k_shot + num_query) are never drawn: 2.",
        "- 2 classes are large enough; a class split for 5-way episodes takes 10, and 15 with validation classes.",
        load_graph(tmp_path / "my.npz").digest,
    ):
        assert text in shown


def test_check_of_a_good_graph_has_no_warnings():
    graph = load_graph("synthetic", num_nodes=900, num_features=100, num_classes=15, words_per_node=20)
    assert warnings(figures(graph), n_way=5, size=13) == []


def test_check_of_an_own_graph_takes_a_word_on_direction(tmp_path: Path):
    arrays = {"x": np.eye(3), "edge_index": np.array([[0, 1], [1, 2]]), "labels": np.arange(3)}
    np.savez(tmp_path / "my.npz", **arrays)
    assert "both directions of every edge" in fault("check", str(tmp_path / "my.npz"))
    for option, count in (("--directed", "2"), ("--symmetrise", "4")):
        shown = data("check", str(tmp_path / "my.npz"), option).stdout
        assert re.search(rf"num_edges +{count} ", shown)


def test_check_of_a_faulty_own_graph_is_a_fault(tmp_path: Path):
    (tmp_path / "my.npz").write_bytes(b"PK nonsense")
    assert f"'{tmp_path}/my.npz' to be readable as plain numpy arrays" in fault("check", str(tmp_path / "my.npz"))


@pytest.mark.dataset
def test_get_fetches_checks_and_says_what_it_did(texas: BadServer, home: Path):
    shown = " ".join(data("get", "texas", "--yes").stdout.split())
    for file in FILES:
        assert (home / file).read_bytes() == texas.files[f"new_data/{file}"]
        assert f"{texas.address}/new_data/{file} (" in shown
        assert f"into {home / file}" in shown
    assert f"licence {load_card('texas').licence}" in shown
    assert f"Fetched graph 'texas' into {home}: it is the one of its card." in shown
    assert "Graph 'texas' is here" in data("get", "texas").stdout


@pytest.mark.dataset
def test_a_missing_graph_names_the_command_that_brings_it(texas: BadServer, home: Path):
    text = fault("check", "texas")
    command = re.search(r"'fgsam data (get \w+)'", text)
    assert command is not None
    data(*command[1].split(), "--yes")
    data("check", "texas")


@pytest.mark.dataset
def test_get_asks_first(texas: BadServer, home: Path, monkeypatch: pytest.MonkeyPatch):
    assert "Add --yes to fetch." in fault("get", "texas")
    monkeypatch.setattr(cli_get, "sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True), stderr=sys.stderr))
    asked = []

    def no(text: str) -> bool:
        asked.append(text)
        return False

    monkeypatch.setattr("typer.confirm", no)
    done = data("get", "texas", ok=False)
    assert done.exit_code == 1
    assert "Nothing was fetched." in done.stdout
    assert asked == ["Fetch?"]
    assert not home.exists()


@pytest.mark.dataset
def test_get_takes_files_from_a_folder_and_puts_them_under_root(data_root: Path, tmp_path: Path):
    shown = data("get", "texas", "--yes", "--from", str(data_root), "--root", str(tmp_path / "here")).stdout
    assert f"Fetched graph 'texas' into {tmp_path}/here" in shown
    assert load_graph("texas", tmp_path / "here").digest == load_card("texas").digests["default"]


@pytest.mark.dataset
def test_a_wrong_file_from_a_mirror_does_not_stay(texas: BadServer, home: Path):
    place = f"new_data/{FILES[1]}"
    texas.files[place] = texas.files[place].replace(b"\n0\t", b"\n1\t", 1)
    text = fault("get", "texas", "--yes", "--from", f"{texas.address}/new_data")
    assert f"Expected '{home / FILES[1]}' to hold the known content of graph 'texas'" in text
    assert not list(home.rglob("*.txt"))


@pytest.mark.dataset
def test_a_wrong_file_from_its_source_is_thrown_away(texas: BadServer, home: Path):
    texas.files[f"new_data/{FILES[0]}"] = b"<html>moved</html>"
    assert f"Expected '{FILES[0]}' from {texas.address}/new_data/{FILES[0]} to have the sha256" in fault(
        "get", "texas", "--yes"
    )
    assert not [path for path in home.rglob("*") if path.is_file() and path.name != ".lock"]


@pytest.mark.dataset
def test_files_that_do_not_serve_are_fetched_again(texas: BadServer, home: Path):
    data("get", "texas", "--yes")
    (home / FILES[0]).write_text("nonsense")
    done = data("get", "texas", "--yes")
    assert "The files that are here do not serve" in done.stderr
    assert "in place of what is there" in done.stdout
    assert (home / FILES[0]).read_bytes() == texas.files[f"new_data/{FILES[0]}"]


@pytest.mark.dataset
def test_get_without_a_network_is_one_clear_error(texas: BadServer, home: Path):
    texas.over.set()
    texas.shutdown()
    texas.server_close()
    text = fault("get", "texas", "--yes")
    assert text.startswith(f"Error: Expected {texas.address}/new_data/{FILES[0]} to be reachable (got ")
    assert f"Or fetch it by hand and save it as '{home / FILES[0]}'" in text


def test_get_of_a_generated_graph_has_nothing_to_do():
    assert "there is nothing to fetch" in data("get", "synthetic").stdout


def test_get_of_a_graph_that_nobody_offers_says_where_to_look(home: Path):
    text = fault("get", "amazon_clothing", "--yes")
    assert load_card("amazon_clothing").no_download.strip()[:40] in text  # type: ignore[union-attr]
    assert "--from FOLDER_OR_ADDRESS" in text


def test_progress_is_a_line_now_and_then_without_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def move(report: Report) -> None:
        report("http://host/file", 2**20, 4 * 2**20)
        report("http://host/file", 4 * 2**20, 4 * 2**20)

    with cli_get._progress() as report:
        move(report)
    assert capsys.readouterr().err == "http://host/file: 4.0 MiB of 4.0 MiB\n"
    monkeypatch.setattr(cli_get, "LINE_SECONDS", 0.0)
    with cli_get._progress() as report:
        move(report)
        report("http://host/other", 100, None)
    assert capsys.readouterr().err.splitlines()[0] == "http://host/file: 1.0 MiB of 4.0 MiB"


def test_progress_is_a_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with contextlib.ExitStack() as stack:
        report = stack.enter_context(cli_get._progress())
        report("http://host/words.npz", 2**20, 4 * 2**20)
    assert "words.npz" in capsys.readouterr().err


def test_splits_count_the_different_tasks_and_say_where_there_is_one():
    lines = [line.split() for line in data("splits", "coauthor_cs").stdout.splitlines()]
    assert ["0", "to", "19", "5/5/5", "2", "10", "10", "10"] in lines
    assert ["0", "to", "19", "5/5/5", "5", *("one", "task") * 3] in lines


def test_splits_name_the_published_ones_and_take_n_way():
    lines = [line.split() for line in data("splits", "corafull_derived", "--n-way", "20").stdout.splitlines()]
    assert ["published", "25/20/25", "20", "53,130", "one", "task", "53,130"] in lines
    assert "too few classes" in data("splits", "corafull_derived", "--n-way", "30").stdout


def test_splits_without_validation_classes_say_so():
    assert "no classes" in data("splits", "cornell").stdout


def test_splits_of_a_graph_without_any_give_the_reason():
    assert "2 classes" in fault("splits", "minesweeper")


def test_convert_writes_an_own_graph_and_says_what_it_holds(tmp_path: Path):
    (tmp_path / "edges.csv").write_text("source,target\na,b\nb,c\n")
    (tmp_path / "nodes.csv").write_text("id,label,size\na,x,1\nb,y,2\nc,,3\n")
    target = tmp_path / "my.npz"
    shown = data("convert", str(tmp_path), str(target), "--symmetrise").stdout
    graph = load_graph(target)
    assert (graph.num_nodes, graph.num_edges, graph.num_features, graph.num_classes) == (3, 4, 1, 2)
    assert graph.digest in shown
    assert "- 1 of the nodes have no label" in shown
    assert "which exists" in fault("convert", str(tmp_path), str(target), "--symmetrise")
    data("convert", str(tmp_path), str(target), "--symmetrise", "--overwrite")


def test_convert_names_the_known_formats(tmp_path: Path):
    assert ".graphml (GraphML)" in fault("convert", str(tmp_path / "my.txt"), str(tmp_path / "my.npz"))
