import dataclasses
import hashlib

import pytest

from fgsam.data.card import Download, load_card
from fgsam.data.synthetic import load


@pytest.fixture
def graph():
    return load(num_nodes=200, num_features=60, num_classes=5, words_per_node=10)


def test_unknown_card_names_the_nearest():
    with pytest.raises(ValueError, match=r"got 'coauthor_sc'\)\. Did you mean 'coauthor_cs'"):
        load_card("coauthor_sc")


def test_other_content_is_refused(graph):
    card = dataclasses.replace(load_card("synthetic"), digests={"default": graph.digest, "other": "0"})
    assert card.check(graph) is graph
    with pytest.raises(
        ValueError, match=r"the known content of graph 'synthetic', digest 0 \(got .*data get synthetic"
    ):
        card.check(graph, "other")


def test_variant_that_is_not_listed_equals_the_default(graph):
    card = dataclasses.replace(load_card("synthetic"), digests={"default": graph.digest})
    assert card.check(graph, "directed") is graph
    with pytest.raises(ValueError, match="known content"):
        dataclasses.replace(card, digests={"default": "0"}).check(graph, "directed")


def test_without_digests_the_known_counts_decide(graph):
    counts = {"num_nodes": 200, "num_edges": None, "num_features": 60, "num_classes": 5}
    card = dataclasses.replace(load_card("synthetic"), digests={}, **counts)
    assert card.check(graph) is graph
    with pytest.raises(ValueError, match=r"num_features 61 \(got 60\)"):
        dataclasses.replace(card, num_features=61).check(graph)
    other = dataclasses.replace(card, num_edges=graph.num_edges + 1)
    assert other.check(graph, "directed") is graph
    with pytest.raises(ValueError, match=rf"num_edges {graph.num_edges + 1} \(got {graph.num_edges}\)"):
        other.check(graph)


def test_files_that_are_not_known_are_suspects(tmp_path):
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_text(path.name)
    known = {path.name: [hashlib.sha256(path.read_bytes()).hexdigest()] for path in paths}
    card = dataclasses.replace(load_card("synthetic"), raw_files=known)
    assert card.suspects(paths) == paths
    paths[1].write_text("c")
    assert card.suspects(paths) == [paths[1]]
    assert dataclasses.replace(card, raw_files={}).suspects(paths) == paths


def test_a_download_gives_one_file_or_members_of_an_archive():
    assert load_card("coauthor_cs").downloads[0].places == ("coauthor/CS/raw/ms_academic_cs.npz",)
    assert not load_card("coauthor_cs").downloads[0].exact
    archive = load_card("reddit").downloads[0]
    assert archive.file is None
    assert archive.places == ("reddit/raw/reddit_data.npz", "reddit/raw/reddit_graph.npz")
    assert Download("https://a/b", members={"c/d": "e"}).places == ("c/d",)
