import dataclasses

import pytest

from fgsam.data.card import load_card
from fgsam.data.synthetic import load


def test_unknown_card_names_the_nearest():
    with pytest.raises(ValueError, match=r"got 'coauthor'\)\. Did you mean 'coauthor_cs'"):
        load_card("coauthor")


def test_other_content_is_refused():
    graph = load(num_nodes=200, num_features=60, num_classes=5, words_per_node=10)
    card = dataclasses.replace(load_card("synthetic"), digests={"default": graph.digest, "other": "0"})
    assert card.check(graph) is graph
    with pytest.raises(ValueError, match=r"graph 'synthetic' to hold the known content, digest 0 \(got .*data show"):
        card.check(graph, "other")
