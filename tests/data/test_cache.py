from __future__ import annotations

import logging
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from fgsam.data import cache
from fgsam.data.cache import cached
from fgsam.graph.graph import Graph
from fgsam.graph.sparse import SparseMatrix
from tests.data.test_unpickle import KINDS, touching
from tests.helpers import assert_close

CHILD = """
import sys
from pathlib import Path
from fgsam.data.cache import cached
from fgsam.data.load import load_graph
options = {"num_nodes": 3000, "num_features": 400, "num_classes": 12, "words_per_node": 40}
print("ready", flush=True)
sys.stdin.readline()
graph = cached("synthetic", [Path(sys.argv[1])], options, lambda: load_graph("synthetic", **options))
print(graph.digest)
"""


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A raw file, beside an empty cache folder."""
    monkeypatch.setenv("FGSAM_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "raw.txt"
    path.write_text("content")
    return path


def make(*, weighted: bool = False, dense: bool = False, directed: bool = False, dtype: type = np.float32) -> Graph:
    rng = np.random.default_rng(0)
    x = rng.random((30, 8)).astype(dtype) if dense else sp.random_array((30, 8), density=0.1, rng=rng, dtype=dtype)
    edges = rng.integers(0, 30, (2, 90))
    weight = rng.random(90).astype(dtype) if weighted else None
    labels = rng.integers(-1, 3, 30)
    return Graph.from_arrays(x, edges, labels, directed=directed, edge_weight=weight, name="mine", memory_mb=7)


def never() -> Graph:
    raise AssertionError("parsed although it is in the cache")


def entries(raw: Path) -> list[Path]:
    return sorted((raw.parent / "cache" / "graphs").iterdir())


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_second_start_gives_the_same_graph_without_parsing(
    raw: Path, weighted: bool, dense: bool, directed: bool, dtype: type
):
    graph = make(weighted=weighted, dense=dense, directed=directed, dtype=dtype)
    assert cached("mine", [raw], {}, lambda: graph) is graph
    again = cached("mine", [raw], {}, never)
    assert again.digest == graph.digest
    for flag in ("is_weighted", "is_directed", "name", "memory_mb", "num_nodes", "num_features", "num_classes"):
        assert getattr(again, flag) == getattr(graph, flag)
    assert (again.edge_order is None) == (graph.edge_order is None)
    if graph.edge_order is not None:
        np.testing.assert_array_equal(again.edge_order, graph.edge_order)
    assert isinstance(again.x, SparseMatrix) == isinstance(graph.x, SparseMatrix)
    x, x_again = (g.x.dense() if isinstance(g.x, SparseMatrix) else g.x for g in (graph, again))
    pairs = [(x_again, x), (again.adjacency.values, graph.adjacency.values), (again.labels, graph.labels)]
    for left, right in pairs:
        assert left.dtype == right.dtype
        assert_close(left, right, rtol=0)


def test_what_comes_from_the_cache_is_mapped_and_writing_to_it_leaves_the_file(raw: Path):
    graph = make(dense=True)
    cached("mine", [raw], {}, lambda: graph)
    again = cached("mine", [raw], {}, never)
    assert "/x.npy" in Path("/proc/self/maps").read_text()
    again.x.add_(1)
    assert cached("mine", [raw], {}, never).digest == graph.digest


def test_a_graph_without_edges_and_features_comes_back(raw: Path):
    graph = Graph.from_arrays(np.zeros((3, 0)), np.zeros((2, 0), dtype=int), [0, 1, -1], directed=True)
    cached("mine", [raw], {}, lambda: graph)
    assert cached("mine", [raw], {}, never).digest == graph.digest


def test_content_name_and_options_enter_the_key_and_the_place_does_not(raw: Path, tmp_path: Path):
    graph = make()
    calls = []

    def parse() -> Graph:
        calls.append(1)
        return graph

    cached("mine", [raw], {"a": 1, "b": True}, parse)
    moved = raw.rename(tmp_path / "other.txt")
    cached("mine", [moved], {"b": True, "a": 1}, never)
    cached("other", [moved], {"a": 1, "b": True}, parse)
    cached("mine", [moved], {"a": 2, "b": True}, parse)
    moved.write_text("other content")
    cached("mine", [moved], {"a": 1, "b": True}, parse)
    assert len(calls) == 4


def test_a_file_that_changes_while_it_is_parsed_is_not_kept(raw: Path):
    def parse() -> Graph:
        raw.write_text("other content")
        return make()

    cached("mine", [raw], {}, parse)
    raw.write_text("content")
    with pytest.raises(AssertionError, match="parsed although"):
        cached("mine", [raw], {}, never)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "deleted"])
def test_a_damaged_entry_is_dropped_with_a_line_in_the_log_and_parsed_again(
    raw: Path, damage: str, caplog: pytest.LogCaptureFixture
):
    graph = make(weighted=True, directed=True)
    cached("mine", [raw], {}, lambda: graph)
    rng = random.Random(damage)
    (entry,) = entries(raw)
    for file in sorted(entry.iterdir()) * (1 if damage == "deleted" else 7):
        content = bytearray(file.read_bytes())
        place = rng.randrange(len(content))
        if damage == "truncated":
            file.write_bytes(content[:place])
        elif damage == "flipped":
            content[place] ^= 1 << rng.randrange(8)
            file.write_bytes(content)
        else:
            file.unlink()
        caplog.clear()
        assert cached("mine", [raw], {}, lambda: graph) is graph
        assert f"Dropped the damaged cache entry {entry}" in caplog.text
        assert cached("mine", [raw], {}, never).digest == graph.digest
        assert entries(raw) == [entry]


def test_a_consistent_entry_of_another_graph_is_dropped(raw: Path, caplog: pytest.LogCaptureFixture):
    graph = make()
    cached("mine", [raw], {}, lambda: graph)
    (entry,) = entries(raw)
    text = (entry / "meta.json").read_text()
    content = cache.json.loads(text)["content"] | {"digest": "0" * 64}
    (entry / "meta.json").write_text(cache.json.dumps({"content": content, "sha256": cache._hash(content)}))
    assert cached("mine", [raw], {}, lambda: graph) is graph
    assert "the graph has another digest" in caplog.text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_array", [False, True])
def test_nothing_in_an_entry_is_unpickled(raw: Path, tmp_path: Path, kind: str, is_array: bool):
    mark = tmp_path / "mark"
    graph = make(dense=True)
    cached("mine", [raw], {}, lambda: graph)
    (entry,) = entries(raw)
    payload = touching(mark)[kind]
    if is_array:
        np.save(entry / "x.npy", np.array([payload] * 30, dtype=object), allow_pickle=True)
    else:
        (entry / "x.npy").write_bytes(pickle.dumps(payload))
    content = cache.json.loads((entry / "meta.json").read_text())["content"]
    content["files"]["x.npy"] = cache.file_digest(entry / "x.npy")
    (entry / "meta.json").write_text(cache.json.dumps({"content": content, "sha256": cache._hash(content)}))
    assert cached("mine", [raw], {}, lambda: graph) is graph
    assert not mark.exists()


def test_a_folder_that_cannot_be_written_costs_a_line_only(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FGSAM_CACHE", str(tmp_path / "file"))
    graph = make()
    assert cached("mine", [raw], {}, lambda: graph) is graph
    assert "'mine' is parsed at every start" in caplog.text


def test_a_full_disk_leaves_nothing(raw: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    caplog.set_level(logging.INFO)
    monkeypatch.setattr("os.fsync", full)
    graph = make()
    assert cached("mine", [raw], {}, lambda: graph) is graph
    assert "No space left on device" in caplog.text
    assert entries(raw) == []


def test_what_killed_writers_left_is_removed_when_it_is_old(raw: Path):
    folder = raw.parent / "cache" / "graphs"
    for name, age in (("old", 7200), ("new", 0)):
        (folder / f".{name}.part").mkdir(parents=True)
        os.utime(folder / f".{name}.part", (time.time() - age,) * 2)
    cached("mine", [raw], {}, make)
    assert [path.name for path in entries(raw) if path.name.startswith(".")] == [".new.part"]


def start(raw: Path) -> subprocess.Popen[str]:
    """A process that makes a graph, once it is told to."""
    command = [sys.executable, "-c", CHILD, str(raw)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_two_processes_at_once_give_one_whole_entry(raw: Path):
    processes = [start(raw) for _ in range(2)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    digests = {process.communicate(timeout=60)[0] for process in processes}
    assert len(digests) == 1
    assert len(entries(raw)) == 1
    assert cache._load(entries(raw)[0]).digest == digests.pop().strip()


def _killed_at_each_sync(raw: Path, graph: Graph) -> int:
    """Let forked processes write the entry and die at their first, second, ... file; return how many died."""
    for number in range(1, 30):
        pid = os.fork()
        if pid == 0:
            left = iter(range(number))
            os_fsync = os.fsync

            def fsync(descriptor: int, left=left, os_fsync=os_fsync) -> None:
                if next(left, None) is None:
                    os.kill(os.getpid(), signal.SIGKILL)
                os_fsync(descriptor)

            os.fsync = fsync
            try:
                cached("mine", [raw], {}, lambda: graph)
            finally:
                os._exit(0)
        if os.waitpid(pid, 0)[1] == 0:
            return number - 1
    raise AssertionError("every process died")


def test_a_writer_killed_at_any_file_leaves_nothing_that_is_read(raw: Path):
    graph = make(weighted=True, directed=True)
    killed = _killed_at_each_sync(raw, graph)
    assert killed >= len(cache._parts(graph))
    whole = [path for path in entries(raw) if not path.name.startswith(".")]
    assert len(whole) == 1
    assert cached("mine", [raw], {}, never).digest == graph.digest


def test_a_writer_killed_at_random_moments_harms_nothing(raw: Path):
    graph, rng = make(weighted=True, directed=True), random.Random(0)
    killed = 0
    for turn in range(60):
        options = {"turn": turn}
        pid = os.fork()
        if pid == 0:
            try:
                cached("mine", [raw], options, lambda: graph)
            finally:
                os._exit(0)
        time.sleep(rng.random() * 0.01)
        os.kill(pid, signal.SIGKILL)
        killed += os.waitpid(pid, 0)[1] != 0
        assert cached("mine", [raw], options, lambda: graph).digest == graph.digest
        assert cached("mine", [raw], options, never).digest == graph.digest
    assert killed > 5
